/// SplitMix64: small, and good enough to choose faults with. Each kind of fault has its own, so that to change the chance of one leaves the choices
/// of the others as they were.
struct FaultGenerator {
    private var state: UInt64

    init(seed: UInt64) {
        state = seed
    }

    /// The `index`th of the generators that come from one seed.
    init(seed: UInt64, index: UInt64) {
        var generator = FaultGenerator(seed: seed)
        generator.state &+= index &* 0xd1b5_4a32_d192_ed03
        state = generator.next()
    }

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var value = state
        value = (value ^ (value &>> 30)) &* 0xbf58_476d_1ce4_e5b9
        value = (value ^ (value &>> 27)) &* 0x94d0_49bb_1331_11eb
        return value ^ (value &>> 31)
    }

    /// True with a chance of `partsPerMillion`.
    mutating func chance(_ partsPerMillion: UInt32) -> Bool {
        next().multipliedFullWidth(by: 1_000_000).high < UInt64(partsPerMillion)
    }

    /// A decision about a fault with details: one number is drawn whatever comes of it.
    /// - Returns: the generator of the details; nil when the fault does not happen.
    mutating func details(_ partsPerMillion: UInt32) -> FaultGenerator? {
        let number = next()
        return number.multipliedFullWidth(by: 1_000_000).high < UInt64(partsPerMillion) ? FaultGenerator(seed: number) : nil
    }

    /// A number from 0 to `bound` - 1; `bound` is at least 1.
    mutating func below(_ bound: Int) -> Int {
        Int(next().multipliedFullWidth(by: UInt64(bound)).high)
    }
}
