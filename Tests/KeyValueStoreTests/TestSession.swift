import KeyValueStore
import Testing

/// One request, given as its arguments with spaces between them, and the replies expected in RESP2 and RESP3.
struct Exchange: Sendable, CustomTestStringConvertible {
    let request: String
    let resp2: String
    let resp3: String

    /// Short, because a whole script is an argument of a test.
    var testDescription: String { String(request.prefix(24)) }

    init(_ request: String, _ resp2: String, resp3: String? = nil) {
        self.request = request
        self.resp2 = resp2
        self.resp3 = resp3 ?? resp2
    }

    var encoded: [UInt8] { encode(request.split(separator: " ", omittingEmptySubsequences: false).map { Array($0.utf8) }) }
}

/// A request as an array of bulk strings.
func encode(_ arguments: [[UInt8]]) -> [UInt8] {
    var bytes = Array("*\(arguments.count)\r\n".utf8)
    for argument in arguments {
        bytes += Array("$\(argument.count)\r\n".utf8)
        bytes += argument
        bytes += Array("\r\n".utf8)
    }
    return bytes
}

func encode(_ arguments: String...) -> [UInt8] { encode(arguments.map { Array($0.utf8) }) }

/// A store and one connection to it, with the bytes that a server would hold between calls.
final class TestSession {
    var store: KeyValueStore
    var client = ClientState(identifier: 1)
    /// Nanoseconds since the Unix epoch.
    var now: UInt64 = 1_700_000_000_000_000_000
    private(set) var isClosed = false
    /// The first byte not consumed yet.
    private(set) var pending: [UInt8] = []
    /// What the last call asked for.
    private(set) var minimumTotal = 0
    private let room: ReplyRoom

    init(limits: KeyValueStore.Limits = .init(), seed: UInt64 = 1, roomSize: Int = 4096) {
        store = KeyValueStore(limits: limits, seed: seed)
        room = ReplyRoom(size: roomSize)
    }

    /// Feeds `bytes` and returns the replies.
    func send(_ bytes: [UInt8], highWaterMark: Int = .max) -> [UInt8] {
        pending += bytes
        room.collected = []
        var output = room.makeOutput(highWaterMark: highWaterMark)
        var isDone = isClosed
        while !isDone {
            let outcome = pending.withUnsafeBytes {
                store.process(input: $0, client: &client, replies: &output, now: now)
            }
            pending.removeFirst(outcome.consumed)
            switch outcome.next {
            case .needMore(let minimum):
                minimumTotal = minimum
                isDone = true
            case .outputFull:
                output.highWaterMark = max(highWaterMark, output.totalWritten + highWaterMark)
            case .close:
                isClosed = true
                isDone = true
            }
        }
        room.collect(output.written)
        return room.collected
    }

    /// Goes on as a new connection to the same store.
    func reopen() {
        client = ClientState(identifier: 1)
        pending = []
        isClosed = false
    }

    func text(_ bytes: [UInt8]) -> String { String(decoding: send(bytes), as: UTF8.self) }

    /// The reply to one request, its arguments separated by spaces.
    func reply(_ request: String) -> String { text(Exchange(request, "").encoded) }
}

/// Lends one piece of memory again and again and collects what was written to it.
final class ReplyRoom {
    var collected: [UInt8] = []
    /// How often more room is granted.
    var grants = Int.max
    private let bytes: UnsafeMutableRawBufferPointer

    init(size: Int) { bytes = .allocate(byteCount: size, alignment: 16) }

    deinit { bytes.deallocate() }

    func collect(_ count: Int) { collected += bytes[..<count] }

    func makeOutput(highWaterMark: Int = .max) -> ReplyOutput {
        ReplyOutput(
            room: bytes, highWaterMark: highWaterMark, context: Unmanaged.passUnretained(self).toOpaque()
        ) { context, written, capacity in
            let room = Unmanaged<ReplyRoom>.fromOpaque(context!).takeUnretainedValue()
            room.collect(written)
            guard room.grants > 0 else { return nil }
            room.grants -= 1
            capacity.pointee = room.bytes.count
            return room.bytes.baseAddress
        }
    }
}

/// A seeded stream of random words (SplitMix64).
struct TestRandom: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var word = state
        word = (word ^ word >> 30) &* 0xBF58_476D_1CE4_E5B9
        word = (word ^ word >> 27) &* 0x94D0_49BB_1331_11EB
        return word ^ word >> 31
    }
}
