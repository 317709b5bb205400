/// What the algorithms of congestion control remember beside the window and its threshold.
///
/// A connection whose window has never been a limit, and never been reduced, has nothing to remember. It is lent one before the first change, and gives it
/// back when it ends, or idles and nothing in it would be used again (`CongestionControl.mayForget`).
struct CongestionHistory: SlabElement {
    var newReno = NewReno()
    var cubic = Cubic()
    var slowStart = HyStart()
    var dctcp = DCTCP()
    private(set) var saved: Saved?
    var nextFree: UInt32 = 0

    /// What a reduction has changed.
    struct Saved {
        let window: Int
        let slowStartThreshold: Int
        fileprivate let newReno: NewReno
        fileprivate let cubic: Cubic
    }

    init() {}

    /// Another algorithm, or another connection, begins.
    mutating func forget() { self = CongestionHistory() }

    /// Nothing was sent for a while: what is known of the rounds of slow start, and of the time since the last reduction, no longer holds.
    mutating func endEpoch() {
        cubic.endEpoch()
        slowStart = HyStart()
    }

    mutating func save(window: Int, slowStartThreshold: Int) {
        saved = Saved(window: window, slowStartThreshold: slowStartThreshold, newReno: newReno, cubic: cubic)
    }

    mutating func restore(_ saved: Saved) {
        newReno = saved.newReno
        cubic = saved.cubic
        self.saved = nil
    }
}
