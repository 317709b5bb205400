import Demikernel
import Glibc
import KeyValueStore

/// One client's connection.
struct Connection: ~Copyable {
    let queue: QueueDescriptor
    var client: ClientState
    /// Bytes of a request that is not complete yet, or of requests whose turn has not come.
    var backlog = Backlog()
    /// Pushes of replies that the queue has not taken yet. While there are any, nothing is popped: a client that does not read is not served.
    var pushesInFlight = 0
    /// What it has asked of other shards. While it waits for them, nothing is popped and nothing executed.
    var gather: Gather?
    /// When the turn began that brought its last bytes, of the runtime's clock.
    var requestTime: UInt64 = 0
    /// The connection ends when what it waits for is sent.
    var closesAfterGather = false

    init(queue: QueueDescriptor, identifier: UInt64) {
        self.queue = queue
        client = ClientState(identifier: identifier)
    }
}

/// Received bytes that have to wait, contiguous, in ordinary memory: they may stay for long, and must not pin the blocks of the datapath heap.
struct Backlog: ~Copyable {
    private var base: UnsafeMutableRawPointer?
    private var capacity = 0
    private(set) var count = 0
    /// With fewer bytes there is no point in parsing: the request cannot be complete.
    var minimumTotal = 1

    deinit {
        free(base)
    }

    var isEmpty: Bool { count == 0 }

    var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: base, count: count) }

    /// Adds bytes at the end. Memory grows with what has arrived, by doubling, and never with what a client claims will come.
    mutating func append(_ bytes: UnsafeRawBufferPointer) {
        guard let source = bytes.baseAddress, bytes.count > 0 else { return }
        if count + bytes.count > capacity {
            let grown = max(count + bytes.count, min(2 * capacity, max(minimumTotal, count + bytes.count)), 512)
            guard let moved = realloc(base, grown) else { preconditionFailure("the server is out of memory") }
            base = moved
            capacity = grown
        }
        (base! + count).copyMemory(from: source, byteCount: bytes.count)
        count += bytes.count
    }

    /// Drops bytes at the start; memory is kept for the next time unless it is much.
    mutating func removeFirst(_ byteCount: Int) {
        count -= byteCount
        if count > 0, byteCount > 0, let base {
            memmove(base, base + byteCount, count)
        } else if count == 0, capacity > 16_384 {
            free(base)
            base = nil
            capacity = 0
        }
    }
}
