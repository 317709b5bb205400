import Demikernel
import Glibc
import KeyValueStore

/// A server's end of the links to one other shard: batches of requests go out in one lane and come in in the same, their replies in the other.
///
/// A message begins with a header of 16 bytes (the connection that waits for it, its flags, and the bytes that follow), and is cut into units where it is long.
struct ShardExchange: ~Copyable {
    let shard: Int
    let requests: QueueDescriptor
    let replies: QueueDescriptor
    /// The other shard has ended.
    var isGone = false

    /// The batch that is being received, and who waits for its replies.
    fileprivate var batch = GrowingBytes()
    fileprivate var batchReader = MessageReader()
    /// The replies that are being received.
    fileprivate var replyReader = MessageReader()

    /// Replies that are made, and wait for memory to be sent in.
    let answer: UnsafeMutablePointer<GrowingBytes>
    fileprivate(set) var answerHeader = MessageHeader()
    private(set) var hasAnswer = false
    /// Pushes of replies that the ring has not taken. While there are any, no further batch is taken.
    var repliesInFlight = 0

    static let requestLane = 0
    static let replyLane = 1
    static let laneCount = 2
    /// Bytes of a unit that a long message is cut into.
    private static let unitByteCount = 65_536

    init(shard: Int, _ links: ShardLinks) {
        self.shard = shard
        requests = links.queue(to: shard, lane: ShardExchange.requestLane)
        replies = links.queue(to: shard, lane: ShardExchange.replyLane)
        answer = .allocate(capacity: 1)
        answer.initialize(to: GrowingBytes())
    }

    deinit {
        answer.deinitialize(count: 1)
        answer.deallocate()
    }

    /// Sends a message to a queue. `count` gets how many pushes it is.
    /// - Returns: false when the heap has no room for it; then nothing was sent.
    static func send(
        _ header: MessageHeader, _ bytes: UnsafeRawBufferPointer, to queue: QueueDescriptor, on runtime: borrowing Runtime, count: inout Int
    ) -> Bool {
        // All units are made before the first is sent: half a message would never end.
        var units: [UnsafeMutablePointer<SegmentDescriptor>] = []
        var offset = 0
        var isComplete = true
        repeat {
            let headerByteCount = offset == 0 ? MessageHeader.byteCount : 0
            let piece = min(bytes.count - offset, unitByteCount - headerByteCount)
            guard let buffer = try? runtime.allocate(headerByteCount + piece), let unit = try? ScatterGatherArray(buffer) else {
                isComplete = false
                break
            }
            let taken = unit.takeOver()
            var destination = taken.segmentAddress
            if offset == 0 {
                var header = header
                header.remaining = UInt32(bytes.count)
                destination.storeBytes(of: header, as: MessageHeader.self)
                destination += headerByteCount
            }
            if piece > 0 { destination.copyMemory(from: bytes.baseAddress! + offset, byteCount: piece) }
            units.append(taken)
            offset += piece
        } while offset < bytes.count
        guard isComplete else {
            for unit in units { unit.releaseArray() }
            return false
        }
        for unit in units where (try? runtime.push(queue, ScatterGatherArray(unsafelyTakingOver: unit))) != nil { count += 1 }
        return true
    }

    // MARK: Requests of the other shard

    /// Takes a unit of a batch; true when the batch is whole.
    mutating func receiveRequests(_ unit: borrowing ScatterGatherArray) -> Bool {
        unit.withUnsafeBytes(ofSegment: 0) { batch.append(batchReader.read($0)) }
        return batchReader.isAtEnd
    }

    /// Has the store execute the batch.
    mutating func executeBatch(_ store: inout KeyValueStore, now: UInt64) {
        answerHeader = MessageHeader(connection: batchReader.header.connection)
        if !store.answer(batch.bytes, into: answer, now: now) {
            answer.pointee.removeAll()
            answerHeader.flags = MessageHeader.refused
        }
        batch.removeAll()
        hasAnswer = true
    }

    /// Sends the replies of the batch.
    /// - Returns: false when the heap has no room for them; they wait.
    mutating func sendAnswer(on runtime: borrowing Runtime) -> Bool {
        guard ShardExchange.send(answerHeader, answer.pointee.bytes, to: replies, on: runtime, count: &repliesInFlight) else { return false }
        answer.pointee.removeAll()
        hasAnswer = false
        return true
    }

    // MARK: Replies of the other shard

    /// Takes a unit of replies: gives its bytes to `body`, with whom they are for and whether they are the last.
    mutating func receiveReplies(_ unit: borrowing ScatterGatherArray, _ body: (MessageHeader, UnsafeRawBufferPointer, _ isLast: Bool) -> Void) {
        unit.withUnsafeBytes(ofSegment: 0) { bytes in
            let rest = replyReader.read(bytes)
            body(replyReader.header, rest, replyReader.isAtEnd)
        }
    }
}

/// The head of a message between shards.
struct MessageHeader {
    /// The descriptor of the connection that waits.
    var connection: Int32 = 0
    var flags: UInt32 = 0
    /// Bytes of the message that follow.
    var remaining: UInt32 = 0
    private var unused: UInt32 = 0

    init() {}

    init(connection: Int32) { self.connection = connection }

    static let byteCount = 16
    /// In `flags`: the replies are larger than the limit, and are not in the message.
    static let refused: UInt32 = 1
}

/// Puts the units of messages together.
private struct MessageReader {
    var header = MessageHeader()
    var isAtEnd: Bool { header.remaining == 0 }

    /// The bytes of the message in a unit.
    mutating func read(_ unit: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer {
        var bytes = unit
        if isAtEnd {
            header = unit.loadUnaligned(as: MessageHeader.self)
            bytes = UnsafeRawBufferPointer(rebasing: unit[MessageHeader.byteCount...])
        }
        header.remaining -= UInt32(bytes.count)
        return bytes
    }
}
