/// What two sides are compared by.
enum ComparisonMeasure: String, Sendable {
    case p50
    case p99
    case requestsPerSecond = "requests_per_second"
    case packetsPerSecond = "packets_per_second"
    /// The rounds count bytes.
    case bitsPerSecond = "bits_per_second"

    /// Whether less is better.
    var isLatency: Bool { self == .p50 || self == .p99 }

    /// Nanoseconds, or how many a second.
    func value(_ round: RoundResult) -> Double {
        switch self {
        case .p50: Double(round.latencies.valueAtPercentile(50))
        case .p99: Double(round.latencies.valueAtPercentile(99))
        case .requestsPerSecond, .packetsPerSecond: round.requestsPerSecond
        case .bitsPerSecond: round.requestsPerSecond * 8
        }
    }
}

/// The ratio to the peer that is to be reached: for latencies at most, for rates at least.
struct ComparisonGoal: Sendable {
    let measure: ComparisonMeasure
    let near: Double
    let far: Double

    init(_ measure: ComparisonMeasure, _ ratio: Double) { self.init(measure, near: ratio, far: ratio) }

    init(_ measure: ComparisonMeasure, near: Double, far: Double) {
        self.measure = measure
        self.near = near
        self.far = far
    }

    func ratio(_ placement: ProcessorPlacement) -> Double { placement == .near ? near : far }

    func isMet(by ratio: Double, _ placement: ProcessorPlacement) -> Bool {
        measure.isLatency ? ratio <= self.ratio(placement) : ratio >= self.ratio(placement)
    }
}

/// How far apart the two processors are. A virtual machine's can change places while it runs, and the kernel does not know: so it is measured.
enum ProcessorPlacement: String, CaseIterable, Sendable {
    /// A message goes to the other processor and back within `bound`: they share a cache.
    case near
    case far

    /// Nanoseconds. Round trips of the bare ring take 110 to 180 between processors that share a cache, 450 and more between others.
    static let bound = 300.0

    init(ringNanoseconds: Double) { self = ringNanoseconds < Self.bound ? .near : .far }
}
