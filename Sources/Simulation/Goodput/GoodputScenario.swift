import NetworkStack

/// Bulk transfers over one bottleneck: what its link does, how the sender is configured, and for how long it is looked at. Times are in nanoseconds.
///
/// Nothing but the seed is random: the same scenario gives the same figures on every machine, to the last byte.
public struct GoodputScenario: Sendable {
    /// What the link is, in words.
    public var name: String
    /// Connections, which begin one after the other, `stagger` apart.
    public var flows = 1
    public var stagger: UInt64 = 100_000_000
    public var algorithm: CongestionControlAlgorithm
    /// What is different about the sender, in a word.
    public var variant: String?
    /// From the sender to the receiver; the way back has the same bandwidth and delay, and no faults.
    public var link: LinkConditions
    /// From the first segment on; what comes before `warmUp` is start-up.
    public var warmUp: UInt64
    public var duration: UInt64
    public var configure: @Sendable (inout TCPConfiguration) -> Void = { _ in }
    /// Whether it takes no more than a second to play in a debug build: those are played by the tests.
    public var isSmall = false

    /// A link of a bandwidth and a round trip, with a queue of one bandwidth-delay product, or 64 KiB if that is less.
    public init(
        _ bandwidth: Bandwidth, roundTrip milliseconds: UInt64, loss: UInt32 = 0, _ algorithm: CongestionControlAlgorithm, seconds: UInt64,
        warmUp: UInt64 = 1_000
    ) {
        self.algorithm = algorithm
        var link = LinkConditions()
        link.bandwidth = bandwidth.rawValue
        link.delay = milliseconds * 500_000
        link.queueByteCount = max(Int(bandwidth.rawValue * milliseconds / 8_000), 64 << 10)
        link.loss = loss
        // What a DCTCP network marks: a fixed short queue (RFC 8257, section 4.1), here a sixteenth of the buffer.
        if algorithm == .dctcp { link.markThreshold = link.queueByteCount / 16 }
        self.link = link
        name = "\(bandwidth.name), \(milliseconds) ms, \(GoodputScenario.percentText(loss)) loss"
        self.warmUp = warmUp * 1_000_000
        duration = seconds * 1_000_000_000
    }

    public enum Bandwidth: UInt64, Sendable {
        case megabits10 = 10_000_000
        case megabits100 = 100_000_000
        case gigabit = 1_000_000_000

        var name: String {
            switch self {
            case .megabits10: "10 Mbit/s"
            case .megabits100: "100 Mbit/s"
            case .gigabit: "1 Gbit/s"
            }
        }
    }

    /// The algorithm and what is different about the sender.
    public var sender: String { "\(algorithm.name)" + (variant.map { ", \($0)" } ?? "") }

    /// Parts per million as per cent.
    static func percentText(_ partsPerMillion: UInt32) -> String {
        if partsPerMillion == 0 { return "no" }
        let (whole, rest) = (partsPerMillion / 10_000, partsPerMillion % 10_000)
        var digits = String(String(10_000 + rest).dropFirst())
        while digits.last == "0" { digits.removeLast() }
        return digits.isEmpty ? "\(whole) %" : "\(whole).\(digits) %"
    }
}
