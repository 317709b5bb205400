import DatapathMemory
import QueueRuntime

/// The result of an operation in a form that can be kept and told again: tokens are redeemed once.
struct OperationRecord {
    let queue: QueueDescriptor
    /// 0 for success.
    var errno: Int32 = 0
    /// The connection of an accept.
    var newQueue: QueueDescriptor?
    /// The peer of an accept, the sender of a datagram.
    var address: SocketAddress?
    /// The bytes of a pop, none at the end of the stream.
    var data: [UInt8]?

    init(_ completion: consuming Completion) {
        queue = completion.queue
        switch consume completion.result {
        case .pushed: break
        case .connected: break
        case .closed: break
        case .popped(let array, let sender):
            data = [UInt8](unsafeUninitializedCapacity: array.byteCount) { storage, count in
                count = array.copyBytes(to: UnsafeMutableRawBufferPointer(storage))
            }
            address = sender
        case .endOfStream: data = []
        case .accepted(let connection, let peer):
            newQueue = connection
            address = peer
        case .failed(let error, _): errno = error.errno
        }
    }
}

extension SocketAddress {
    /// The address without its port.
    var hostText: String {
        let text = description
        return String(text[..<(text.lastIndex(of: ":") ?? text.endIndex)])
    }
}
