import Glibc
import KeyValueStore

/// The key-value engine that the library OSes' server has too.
struct KeyValueService: KernelService, ~Copyable {
    final class Client {
        var state: ClientState

        init(identifier: UInt64) {
            state = ClientState(identifier: identifier)
        }
    }

    private var store: KeyValueStore
    private var clients: UInt64 = 0

    /// Replies of one connection that wait to be sent, before its further requests have to wait.
    private static let highWaterMark = 64 * 1024
    /// How much the room for replies grows by.
    private static let replyRoom = 16 * 1024

    init() {
        store = KeyValueStore(seed: UInt64.random(in: .min ... .max))
    }

    mutating func makeClient() -> Client {
        clients += 1
        return Client(identifier: clients)
    }

    mutating func process(_ input: UnsafeRawBufferPointer, _ client: Client, _ output: inout ByteQueue) -> KernelServiceOutcome {
        output.reserve(ReplyOutput.minimumRoom)
        let room = output.room
        return withUnsafeMutablePointer(to: &output) { queue in
            var replies = ReplyOutput(room: room, highWaterMark: Self.highWaterMark, context: queue) { context, written, capacity in
                let queue = context!.assumingMemoryBound(to: ByteQueue.self)
                queue.pointee.append(written)
                queue.pointee.reserve(max(capacity.pointee, KeyValueService.replyRoom))
                capacity.pointee = queue.pointee.room.count
                return queue.pointee.room.baseAddress
            }
            let outcome = store.process(input: input, client: &client.state, replies: &replies, now: Self.wallClock())
            queue.pointee.append(replies.written)
            switch outcome.next {
            case .needMore(let minimumTotal): return KernelServiceOutcome(consumed: outcome.consumed, next: .receive(minimumTotal: minimumTotal))
            case .outputFull: return KernelServiceOutcome(consumed: outcome.consumed, next: .send)
            case .close: return KernelServiceOutcome(consumed: outcome.consumed, next: .close)
            }
        }
    }

    /// Nanoseconds since the Unix epoch.
    private static func wallClock() -> UInt64 {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        return UInt64(time.tv_sec) &* 1_000_000_000 &+ UInt64(time.tv_nsec)
    }
}
