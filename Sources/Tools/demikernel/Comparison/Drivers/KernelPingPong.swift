import CDatapath
import Glibc

/// One message of 64 bytes at a time to an echo server and back over a kernel socket, which it asks again and again.
final class KernelPingPong: RoundDriver {
    private static let patience: UInt64 = 10_000_000_000

    private let descriptor: Int32
    private let samples: RoundSamples
    private let request = UnsafeMutableRawBufferPointer.allocate(byteCount: RuntimePingPong.messageByteCount, alignment: 64)
    private let reply = UnsafeMutableRawBufferPointer.allocate(byteCount: RuntimePingPong.messageByteCount, alignment: 64)

    init(_ transport: TransportProtocol, to endpoint: Endpoint, _ samples: RoundSamples) throws(CommandFailure) {
        descriptor = try KernelSocket.connected(transport, to: endpoint)
        self.samples = samples
        memset(request.baseAddress!, 0x2e, request.count)
        request.storeBytes(of: RuntimePingPong.mark, as: UInt64.self)
        try KernelSocket.setNonBlocking(descriptor)
    }

    deinit {
        close(descriptor)
        request.deallocate()
        reply.deallocate()
    }

    func run(for duration: UInt64) throws(CommandFailure) -> RoundResult {
        samples.removeAll()
        let start = MonotonicClock.now()
        var before = start
        while before - start < duration, !samples.isFull {
            guard send(descriptor, request.baseAddress, request.count, Int32(MSG_NOSIGNAL)) == request.count else {
                throw CommandFailure("send", errno: errno)
            }
            var filled = 0
            var idlePolls = 0
            while filled < reply.count {
                let count = recv(descriptor, reply.baseAddress! + filled, reply.count - filled, 0)
                if count > 0 {
                    filled += count
                    continue
                }
                guard count < 0, errno == EAGAIN || errno == EINTR else {
                    throw count == 0 ? CommandFailure("the server closed the connection") : CommandFailure("receive", errno: errno)
                }
                idlePolls += 1
                if idlePolls & 0xffff == 0, MonotonicClock.now() - before > Self.patience {
                    throw CommandFailure("the server has not answered for 10 seconds")
                }
            }
            guard reply.load(as: UInt64.self) == RuntimePingPong.mark else { throw CommandFailure("the server sent something else back") }
            let after = MonotonicClock.now()
            samples.append(after - before)
            before = after
        }
        return samples.result(elapsed: before - start)
    }
}
