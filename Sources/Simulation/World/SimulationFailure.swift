/// Why a simulation was stopped: something that must never happen has happened.
public struct SimulationFailure: Error, CustomStringConvertible, Sendable {
    /// What a simulation replays from.
    public let seed: UInt64
    /// Virtual nanoseconds at which it was found.
    public let time: UInt64
    public let reason: String

    public init(seed: UInt64, time: UInt64, reason: String) {
        self.seed = seed
        self.time = time
        self.reason = reason
    }

    public var description: String {
        let (seconds, rest) = time.quotientAndRemainder(dividingBy: 1_000_000_000)
        let fraction = String(rest)
        return "seed \(seed), at \(seconds).\(String(repeating: "0", count: 9 - fraction.count))\(fraction) s: \(reason)"
    }
}
