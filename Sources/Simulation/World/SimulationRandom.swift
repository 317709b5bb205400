/// Random numbers of one component of a simulation: a SplitMix64 stream.
///
/// Each component has a stream of its own, derived from the simulation's seed and the component's name, so that adding a host or changing a chance
/// leaves the draws of everything else as they were.
public struct SimulationRandom: RandomNumberGenerator, Sendable {
    private let key: UInt64
    private var state: UInt64

    public init(seed: UInt64) {
        key = seed
        state = seed
    }

    /// The stream of the component `name` below this one. Draws nothing: the same whatever was drawn before.
    public func stream(_ name: String) -> SimulationRandom {
        // FNV-1a over the name, so that it is the same in every process.
        var hash: UInt64 = 0xcbf2_9ce4_8422_2325
        for byte in name.utf8 { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3 }
        return SimulationRandom(seed: SimulationRandom.mix(key &+ 0x9e37_79b9_7f4a_7c15 &* (hash | 1)))
    }

    public mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        return SimulationRandom.mix(state)
    }

    static func mix(_ word: UInt64) -> UInt64 {
        var value = word
        value = (value ^ (value &>> 30)) &* 0xbf58_476d_1ce4_e5b9
        value = (value ^ (value &>> 27)) &* 0x94d0_49bb_1331_11eb
        return value ^ (value &>> 31)
    }

    /// A number from 0 to `bound` - 1; `bound` is at least 1.
    public mutating func below(_ bound: UInt64) -> UInt64 { next().multipliedFullWidth(by: bound).high }

    /// A number of the range, each as likely.
    public mutating func between(_ range: ClosedRange<Int>) -> Int {
        range.lowerBound + Int(below(UInt64(range.upperBound - range.lowerBound) + 1))
    }

    /// A number of the range, each magnitude as likely: for sizes and times that span several. The lower bound is at least 1.
    public mutating func magnitude(_ range: ClosedRange<Int>) -> Int {
        let bits = between(range.lowerBound.bitWidth - range.lowerBound.leadingZeroBitCount...range.upperBound.bitWidth - range.upperBound.leadingZeroBitCount)
        let low = max(range.lowerBound, 1 << (bits - 1))
        return between(low...max(low, min(range.upperBound, (1 << bits) - 1)))
    }

    /// True with a chance of `partsPerMillion`.
    public mutating func chance(_ partsPerMillion: UInt32) -> Bool { below(1_000_000) < UInt64(partsPerMillion) }

    /// True once in `count` times.
    public mutating func oneIn(_ count: UInt64) -> Bool { below(count) == 0 }

    /// One of the choices, of which there is at least one.
    public mutating func pick<Choice>(_ choices: [Choice]) -> Choice { choices[Int(below(UInt64(choices.count)))] }
}
