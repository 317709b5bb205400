/// How requests are spread over time.
enum LoadPlan: Equatable, Sendable {
    /// Every connection keeps `pipeline` requests outstanding: a new one follows each reply.
    case closedLoop(pipeline: Int)
    /// `rate` requests per second over all connections at fixed times, whatever the server does.
    case openLoop(rate: UInt64)

    /// What a connection may have outstanding at once. An open loop that hits the limit sends later, and counts the wait as latency.
    var outstandingLimit: Int {
        switch self {
        case .closedLoop(let pipeline): pipeline
        case .openLoop: 4096
        }
    }
}
