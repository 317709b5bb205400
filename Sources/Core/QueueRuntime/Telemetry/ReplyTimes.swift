/// Times from requests to replies, measured while somebody asks for them: who does not ask for that long is not interested any more.
struct ReplyTimes {
    var histogram = LatencyHistogram()
    /// Nanoseconds of the runtime's clock; measuring stops then.
    var endOfInterest: UInt64

    /// Longer than monitoring systems leave between two questions.
    static let interest: UInt64 = 300_000_000_000
}

extension Runtime {
    /// For servers: tells that a reply was pushed to a request that was popped in the turn which began at `time` (`runtime.core.now` at that moment). What is
    /// measured is how long the program held the request: from the turn that brought it, to the push of its reply.
    ///
    /// While nobody looks at the telemetry it costs a comparison, else a reading of the clock and an addition.
    public func noteReply(toRequestAt time: UInt64) {
        if core.state.pointee.replyTimes != nil { core.recordReply(time) }
    }
}

extension RuntimeCore {
    @inline(never)
    func recordReply(_ time: UInt64) {
        guard let times = state.pointee.replyTimes else { return }
        let now = state.pointee.clock.now
        if now < times.pointee.endOfInterest { times.pointee.histogram.record(now &- time) }
    }

    /// The times that were measured, and from now on measures for some minutes.
    func takeReplyTimes() -> LatencyHistogram {
        let end = state.pointee.clock.now &+ ReplyTimes.interest
        guard let times = state.pointee.replyTimes else {
            let times = UnsafeMutablePointer<ReplyTimes>.allocate(capacity: 1)
            times.initialize(to: ReplyTimes(endOfInterest: end))
            state.pointee.replyTimes = times
            return LatencyHistogram()
        }
        times.pointee.endOfInterest = end
        return times.pointee.histogram
    }
}
