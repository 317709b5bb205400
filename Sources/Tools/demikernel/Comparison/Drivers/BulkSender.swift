import CDatapath
import Demikernel
import Glibc

/// The stream that `tcp-sink` (Benchmarks/Baselines) takes: chunks of which the last one of a round is marked, and answered with a byte.
private enum BulkStream {
    static let chunkByteCount = 65_536
    static let isLast: UInt8 = 1

    /// A round counts bytes, from the first one to the answer.
    static func result(bytes: Int, elapsed: UInt64) -> RoundResult {
        var result = RoundResult()
        result.completed = bytes
        result.elapsed = elapsed
        return result
    }
}

/// As many bytes as go over one connection of a kernel socket.
final class KernelBulkSender: RoundDriver {
    private let descriptor: Int32
    private var chunk = [UInt8](repeating: 0, count: BulkStream.chunkByteCount)

    init(to endpoint: Endpoint) throws(CommandFailure) {
        descriptor = try KernelSocket.connected(.tcp, to: endpoint)
    }

    deinit { close(descriptor) }

    func run(for duration: UInt64) throws(CommandFailure) -> RoundResult {
        let start = MonotonicClock.now()
        var bytes = 0
        var isLast = false
        while !isLast {
            isLast = MonotonicClock.now() - start >= duration
            chunk[0] = isLast ? BulkStream.isLast : 0
            var sent = 0
            while sent < chunk.count {
                let count = chunk.withUnsafeBytes { send(descriptor, $0.baseAddress! + sent, $0.count - sent, Int32(MSG_NOSIGNAL)) }
                guard count > 0 else { throw CommandFailure("send", errno: errno) }
                sent += count
            }
            bytes += sent
        }
        var answer: UInt8 = 0
        guard recv(descriptor, &answer, 1, 0) == 1 else { throw CommandFailure("the answer to a round of bulk data", errno: errno) }
        return BulkStream.result(bytes: bytes, elapsed: MonotonicClock.now() - start)
    }
}

/// As many bytes as go over one connection of a library OS: the same block again and again, which nobody has to copy.
final class RuntimeBulkSender: RoundDriver {
    private let connection: ConnectedQueue
    /// Chunks that may wait for room in the send buffer.
    private static let pushCount = 4

    init(to endpoint: Endpoint, _ settings: ServerSettings) throws(CommandFailure) {
        connection = try ConnectedQueue(.tcp, to: endpoint, settings)
    }

    func run(for duration: UInt64) throws(CommandFailure) -> RoundResult {
        do throws(DemikernelError) {
            let chunk = try makeChunk(0)
            let start = MonotonicClock.now()
            var bytes = 0
            var pushes: [QueueToken] = []
            while MonotonicClock.now() - start < duration {
                if pushes.count == Self.pushCount { try finish(pushes.removeFirst()) }
                pushes.append(try connection.runtime.push(connection.queue, chunk.slice(0..<BulkStream.chunkByteCount)))
                bytes += BulkStream.chunkByteCount
            }
            pushes.append(try connection.runtime.push(connection.queue, try makeChunk(BulkStream.isLast)))
            bytes += BulkStream.chunkByteCount
            for push in pushes { try finish(push) }
            guard try connection.pop().byteCount == 1 else { throw DemikernelError(EPROTO, .pop, "the sink answered more than once") }
            return BulkStream.result(bytes: bytes, elapsed: MonotonicClock.now() - start)
        } catch {
            throw CommandFailure("\(error)")
        }
    }

    private func finish(_ push: QueueToken) throws(DemikernelError) {
        try connection.runtime.wait(push, timeout: ConnectedQueue.patience).succeeded()
    }

    private func makeChunk(_ first: UInt8) throws(DemikernelError) -> Buffer {
        var buffer = try connection.runtime.allocate(BulkStream.chunkByteCount)
        buffer.withUnsafeMutableBytes {
            memset($0.baseAddress!, 0, $0.count)
            $0[0] = first
        }
        return buffer
    }
}
