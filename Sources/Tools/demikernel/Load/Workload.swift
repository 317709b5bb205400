/// What a load generator asks for, one request after the other.
struct Workload: ~Copyable {
    private enum Mode {
        /// The stamps count up; one kind of exchange.
        case sequence
        /// Keys at random; exchange 0 is SET, exchange 1 is GET.
        case keyValue(keys: UInt64, getThreshold: UInt64)
        /// Every key once, with SET.
        case preload(keys: UInt64)
    }

    /// A decimal number of at most this many digits tells one request or key from another.
    static let stampWidth = 12

    let first: Exchange
    /// The second kind of exchange; for an echo the same as the first.
    let second: Exchange
    /// Whether a reply that is not the expected one may be a single line, as RESP's errors and nulls are, after which the stream goes on.
    let hasLineReplies: Bool

    private let keys: UInt64
    private let measuredMode: Mode
    private var mode: Mode
    private var counter: UInt64 = 0
    private var random: SplitMix64

    /// Echoes of `size` bytes.
    static func echo(size: Int) -> Workload {
        func exchange() -> Exchange {
            let payload = Self.payload(size)
            let stamp = Exchange.StampField(offset: 0, width: min(stampWidth, size))
            return Exchange(request: payload, requestStamps: [stamp], reply: payload, replyStamp: stamp, replyHeaderCount: 0)
        }
        return Workload(first: exchange(), second: exchange(), hasLineReplies: false, keys: 0, mode: .sequence, seed: 0)
    }

    /// SET and GET over `keys` keys named `bench:000000000000` and up. The value of a key is always the same, so every reply is known.
    ///
    /// - Parameters:
    ///   - size: bytes in a value.
    ///   - getRatio: the share of GET, 0 to 1.
    static func keyValue(size: Int, keys: UInt64, getRatio: Double, seed: UInt64) -> Workload {
        let key = Array("bench:".utf8) + [UInt8](repeating: 0x30, count: stampWidth)
        let keyStamp = "bench:".utf8.count
        let valueWidth = min(stampWidth, size)
        let bulkKey = Array("$\(key.count)\r\n".utf8)
        let bulkValue = Array("$\(size)\r\n".utf8)

        let setHead = Array("*3\r\n$3\r\nSET\r\n".utf8) + bulkKey
        let setValue = setHead.count + key.count + 2 + bulkValue.count
        let set = Exchange(
            request: setHead + key + Array("\r\n".utf8) + bulkValue + payload(size) + Array("\r\n".utf8),
            requestStamps: [.init(offset: setHead.count + keyStamp, width: stampWidth), .init(offset: setValue, width: valueWidth)],
            reply: Array("+OK\r\n".utf8), replyStamp: nil, replyHeaderCount: 5)

        let getHead = Array("*2\r\n$3\r\nGET\r\n".utf8) + bulkKey
        let get = Exchange(
            request: getHead + key + Array("\r\n".utf8),
            requestStamps: [.init(offset: getHead.count + keyStamp, width: stampWidth)],
            reply: bulkValue + payload(size) + Array("\r\n".utf8),
            replyStamp: .init(offset: bulkValue.count, width: valueWidth), replyHeaderCount: bulkValue.count)

        // Compared with the upper 32 bits of a random number.
        let threshold = UInt64(getRatio * Double(1 << 32))
        return Workload(
            first: set, second: get, hasLineReplies: true, keys: keys, mode: .keyValue(keys: keys, getThreshold: threshold), seed: seed)
    }

    private init(first: consuming Exchange, second: consuming Exchange, hasLineReplies: Bool, keys: UInt64, mode: Mode, seed: UInt64) {
        self.first = first
        self.second = second
        self.hasLineReplies = hasLineReplies
        self.keys = keys
        measuredMode = mode
        self.mode = mode
        random = SplitMix64(seed: seed)
    }

    /// Whether the server has to be filled before the measurement.
    var needsPreload: Bool { keys > 0 }

    var largestRequest: Int { max(first.request.count, second.request.count) }

    mutating func beginPreload() {
        counter = 0
        mode = .preload(keys: keys)
    }

    mutating func beginMeasurement() {
        mode = measuredMode
    }

    /// The next request, or nil when a preload is through.
    @inline(__always)
    mutating func next() -> (isSecond: Bool, stamp: UInt64)? {
        switch mode {
        case .sequence:
            counter &+= 1
            return (false, counter)
        case .keyValue(let keys, let getThreshold):
            let number = random.next()
            // The upper half decides the kind, the lower half the key: a multiplication maps it on the key space without a division.
            let key = ((number & 0xFFFF_FFFF) &* keys) >> 32
            return ((number >> 32) < getThreshold, key)
        case .preload(let keys):
            guard counter < keys else { return nil }
            counter += 1
            return (false, counter - 1)
        }
    }

    private static func payload(_ size: Int) -> [UInt8] {
        let pattern = Array("the quick brown fox jumps over the lazy dog; ".utf8)
        return (0..<size).map { pattern[$0 % pattern.count] }
    }
}
