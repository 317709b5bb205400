import CDatapath
import Glibc

/// What one receive on a socket of messages brought.
public enum ReceivedMessage {
    /// So many bytes, and the descriptors that came with them, which are the caller's.
    case message(byteCount: Int, descriptors: [Int32])
    /// There is nothing now.
    case none
    /// The peer has closed its end, or died.
    case end
    /// A message that is longer than the room for it, or the socket's error.
    case failed(errno: Int32)
}

/// Messages with descriptors over a unix socket. No call blocks.
public enum DescriptorMessage {
    /// Sends one message.
    /// - Returns: 0 or an errno, `EAGAIN` when the socket is full.
    public static func send(_ bytes: UnsafeRawBufferPointer, _ descriptors: [Int32] = [], on socket: Int32) -> Int32 {
        while true {
            let count = demi_send_message(socket, bytes.baseAddress, bytes.count, descriptors, Int32(descriptors.count))
            if count == bytes.count { return 0 }
            if count >= 0 { return EMSGSIZE }
            if errno != EINTR { return errno }
        }
    }

    /// Receives one message into `buffer`.
    public static func receive(into buffer: UnsafeMutableRawBufferPointer, on socket: Int32) -> ReceivedMessage {
        withUnsafeTemporaryAllocation(of: Int32.self, capacity: Int(DEMI_MAXIMUM_DESCRIPTORS)) { descriptors in
            while true {
                var number: Int32 = 0
                let count = demi_receive_message(socket, buffer.baseAddress, buffer.count, descriptors.baseAddress, &number)
                if count > 0 { return .message(byteCount: count, descriptors: Array(descriptors[..<Int(number)])) }
                if count == 0 {
                    for descriptor in descriptors[..<Int(number)] { close(descriptor) }
                    return .end
                }
                if errno == EAGAIN { return .none }
                if errno != EINTR { return .failed(errno: errno) }
            }
        }
    }
}
