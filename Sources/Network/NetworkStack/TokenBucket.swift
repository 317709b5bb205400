/// Limits the rate of what a peer can provoke.
struct TokenBucket {
    private let nanosecondsPerToken: UInt64
    private let burst: Int
    private var tokens: Int
    private var lastRefill: UInt64 = 0

    init(perSecond: Int, burst: Int) {
        nanosecondsPerToken = UInt64(1_000_000_000 / max(perSecond, 1))
        self.burst = burst
        tokens = burst
    }

    /// Takes one token if there is one at `now`.
    mutating func take(now: UInt64) -> Bool {
        let earned = (now &- lastRefill) / nanosecondsPerToken
        if earned > 0 {
            tokens = min(burst, tokens + Int(min(earned, UInt64(burst))))
            lastRefill = now &- (now &- lastRefill) % nanosecondsPerToken
        }
        guard tokens > 0 else { return false }
        tokens -= 1
        return true
    }
}
