import Demikernel
import Glibc

/// One message of 64 bytes at a time to an echo server and back, over a library OS, with nothing else in the loop.
final class RuntimePingPong: RoundDriver {
    static let messageByteCount = 64
    /// The first eight bytes of every message.
    static let mark: UInt64 = 0x6b65_726e_656c_3634

    private let connection: ConnectedQueue
    private let samples: RoundSamples

    init(_ transport: TransportProtocol, to endpoint: Endpoint, _ settings: ServerSettings, _ samples: RoundSamples) throws(CommandFailure) {
        connection = try ConnectedQueue(transport, to: endpoint, settings)
        self.samples = samples
    }

    func run(for duration: UInt64) throws(CommandFailure) -> RoundResult {
        do throws(DemikernelError) {
            samples.removeAll()
            var message = try makeMessage()
            let start = MonotonicClock.now()
            var before = start
            while before - start < duration, !samples.isFull {
                try connection.runtime.push(connection.queue, message, completion: .discarded)
                let reply = try connection.pop()
                message = reply.byteCount == Self.messageByteCount ? reply : try collect(reply)
                let isRight = message.withUnsafeBytes(ofSegment: 0) { $0.count >= 8 && $0.loadUnaligned(as: UInt64.self) == Self.mark }
                guard isRight else { throw DemikernelError(EPROTO, .pop, "the server sent something else back") }
                let after = MonotonicClock.now()
                samples.append(after - before)
                before = after
            }
            return samples.result(elapsed: before - start)
        } catch {
            throw CommandFailure("\(error)")
        }
    }

    private func makeMessage() throws(DemikernelError) -> ScatterGatherArray {
        var buffer = try connection.runtime.allocate(Self.messageByteCount)
        buffer.withUnsafeMutableBytes {
            memset($0.baseAddress!, 0x2e, $0.count)
            $0.storeBytes(of: Self.mark, as: UInt64.self)
        }
        return try ScatterGatherArray(buffer)
    }

    /// A stream may bring a message in pieces: takes the others, and gives the message anew.
    @inline(never)
    private func collect(_ first: consuming ScatterGatherArray) throws(DemikernelError) -> ScatterGatherArray {
        var byteCount = first.byteCount
        while byteCount < Self.messageByteCount { byteCount += try connection.pop().byteCount }
        guard byteCount == Self.messageByteCount else { throw DemikernelError(EPROTO, .pop, "the server sent more back than it got") }
        return try makeMessage()
    }
}
