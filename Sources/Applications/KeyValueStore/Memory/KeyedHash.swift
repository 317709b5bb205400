/// A hash of byte strings under a secret key, so that a peer cannot choose keys that collide.
///
/// Multiply-and-fold over 8 bytes at a time in the manner of wyhash (Wang Yi, 2019): a few nanoseconds for a short key.
struct KeyedHash {
    private let first: UInt64
    private let second: UInt64
    private let third: UInt64

    init(random: inout RandomSource) {
        first = random.next()
        second = random.next()
        third = random.next()
    }

    @inline(__always)
    func callAsFunction(_ slice: ByteSlice) -> UInt32 {
        let count = slice.count
        var state = first
        var low: UInt64
        var high: UInt64 = 0
        if count > 16 {
            var offset = 0
            while offset < count - 16 {
                state = Self.fold(slice.word(at: offset) ^ second, slice.word(at: offset + 8) ^ state)
                offset += 16
            }
            low = slice.word(at: count - 16)
            high = slice.word(at: count - 8)
        } else if count > 8 {
            low = slice.word(at: 0)
            high = slice.word(at: count - 8)
        } else {
            low = slice.shortWord
        }
        low ^= second
        return UInt32(truncatingIfNeeded: Self.fold(third ^ UInt64(truncatingIfNeeded: count), Self.fold(low, high ^ state)))
    }

    @inline(__always)
    private static func fold(_ left: UInt64, _ right: UInt64) -> UInt64 {
        let product = left.multipliedFullWidth(by: right)
        return product.high ^ product.low
    }
}

/// A seeded stream of random words (SplitMix64). Reproducible; not for secrets that outlive the process.
struct RandomSource {
    private var state: UInt64

    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var word = state
        word = (word ^ word &>> 30) &* 0xBF58_476D_1CE4_E5B9
        word = (word ^ word &>> 27) &* 0x94D0_49BB_1331_11EB
        return word ^ word &>> 31
    }

    /// A number in `0..<bound`; `bound` is positive.
    mutating func next(below bound: Int) -> Int {
        Int(truncatingIfNeeded: next().multipliedFullWidth(by: UInt64(bound)).high)
    }
}
