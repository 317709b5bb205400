import WireFormats

/// What a connection has while something about it is not as it mostly is: a loss is being repaired, or was not long ago; segments have come out of order;
/// what brings nothing new had to be answered; it ends.
///
/// There are as many as connections, in memory that is only reserved until it is touched: one can always be lent, whatever peers do. It is given back when
/// the connection idles and everything is plain again, or ends.
struct ExceptionalState: SlabElement {
    /// When a segment that may be late is lost; `.max` for none.
    var reorderingDeadline = UInt64.max
    /// The end of TIME_WAIT, of FIN_WAIT_2, of a linger; `.max` for none.
    var lifetimeDeadline = UInt64.max
    var reduction = RateReduction()
    var undo = RecoveryUndo()
    var probe = LossProbe()
    var answers = AnswerCounts()
    var reported = ReportedBlocks()
    var nextFree: UInt32 = 0

    init() {}
}

/// Parts of the state, for who knows that it was lent: one of the bits of `LossRecovery.State` that need it is set. Without it they are as they begin.
extension Connection {
    var reorderingDeadline: UInt64 {
        get { exceptional?.pointee.reorderingDeadline ?? .max }
        set {
            precondition(exceptional != nil || newValue == .max, "a deadline stands in a state that was lent")
            exceptional?.pointee.reorderingDeadline = newValue
        }
    }

    var lifetimeDeadline: UInt64 {
        get { exceptional?.pointee.lifetimeDeadline ?? .max }
        set {
            precondition(exceptional != nil || newValue == .max, "a deadline stands in a state that was lent")
            exceptional?.pointee.lifetimeDeadline = newValue
        }
    }

    var reduction: RateReduction {
        get { exceptional?.pointee.reduction ?? RateReduction() }
        set { lent.pointee.reduction = newValue }
    }

    var undo: RecoveryUndo {
        get { exceptional?.pointee.undo ?? RecoveryUndo() }
        set { lent.pointee.undo = newValue }
    }

    var probe: LossProbe {
        get { exceptional?.pointee.probe ?? LossProbe() }
        set { lent.pointee.probe = newValue }
    }

    private var lent: UnsafeMutablePointer<ExceptionalState> {
        guard let exceptional else { preconditionFailure("a recovery has a state that was lent") }
        return exceptional
    }
}

extension NetworkStack {
    // MARK: Lending

    @discardableResult
    @inline(never)
    func lendExceptionalState(_ c: ConnectionPointer) -> UnsafeMutablePointer<ExceptionalState> {
        if let exceptional = c.pointee.exceptional { return exceptional }
        let exceptional = state.pointee.exceptionalStates[state.pointee.exceptionalStates.takeLent()]
        c.pointee.exceptional = exceptional
        schedule(c, state.pointee.now &+ NetworkStack.exceptionalTime)
        return exceptional
    }

    /// Sees to it that the congestion control can remember something. To be called before its window grows or shrinks.
    @inline(never)
    func lendCongestionHistory(_ c: ConnectionPointer) {
        guard c.pointee.congestion.history == nil else { return }
        c.pointee.congestion.history = state.pointee.congestionHistories[state.pointee.congestionHistories.takeLent()]
    }

    // MARK: Giving back

    /// A state that was lent is kept for so long at least: there may be more of what it was lent for.
    private static var exceptionalTime: UInt64 { 1_000_000_000 }

    /// When the connection may give back what it was lent, if nothing happens meanwhile; `.max` for not by itself. Nothing is in flight, or missing, and
    /// nothing was sent for as long as after which the peer's answers have come: a duplicate that it reports later takes back no recovery.
    func plainDeadline(_ c: ConnectionPointer) -> UInt64 {
        guard c.pointee.exceptional != nil || c.pointee.congestion.history != nil && c.pointee.congestion.mayForget,
            c.pointee.sendByteCount == 0, c.pointee.flightSize == 0, c.pointee.recovery.isPlain, !c.pointee.flags.contains(.fastRecovery),
            // Where nothing is in flight it is one that has lost its purpose.
            c.pointee.reorderingDeadline == .max || c.pointee.scoreboard.first == 0, c.pointee.lifetimeDeadline == .max, c.pointee.reassembly.isEmpty
        else { return .max }
        return max(c.pointee.lastSendTime &+ c.pointee.roundTrip.timeout, c.pointee.exceptional?.pointee.answers.end ?? 0)
    }

    /// What was missing has come.
    func settleException(_ c: ConnectionPointer) {
        schedule(c, max(plainDeadline(c), state.pointee.now &+ NetworkStack.exceptionalTime))
    }

    /// The timer of a connection has fired.
    func giveBackWhatIsPlain(_ c: ConnectionPointer) {
        guard plainDeadline(c) <= state.pointee.now else { return }
        if c.pointee.congestion.mayForget { giveBackCongestionHistory(c) }
        giveBackExceptionalState(c)
    }

    /// The connection is over: only what was set is still of use.
    func giveBackEverything(_ c: ConnectionPointer) {
        giveBackExceptionalState(c)
        giveBackCongestionHistory(c)
    }

    private func giveBackExceptionalState(_ c: ConnectionPointer) {
        guard let exceptional = c.pointee.exceptional else { return }
        c.pointee.exceptional = nil
        state.pointee.exceptionalStates.free(state.pointee.exceptionalStates.index(of: exceptional))
    }

    func giveBackCongestionHistory(_ c: ConnectionPointer) {
        guard let history = c.pointee.congestion.history else { return }
        c.pointee.congestion.history = nil
        state.pointee.congestionHistories.free(state.pointee.congestionHistories.index(of: history))
    }

    /// Frees the slot of a connection, and all that it was lent.
    func freeConnection(_ c: ConnectionPointer) {
        releaseRateControl(c)
        giveBackEverything(c)
        if let settings = c.pointee.settings {
            c.pointee.settings = nil
            state.pointee.connectionSettings.free(state.pointee.connectionSettings.index(of: settings))
        }
        if c.pointee.listenerQueues != 0 {
            state.pointee.listenerQueues.free(c.pointee.listenerQueues)
            c.pointee.listenerQueues = 0
        }
        state.pointee.connections.free(c.pointee.index)
    }
}
