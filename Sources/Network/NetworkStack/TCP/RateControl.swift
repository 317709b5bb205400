import WireFormats

/// What a connection has that is paced, or whose window follows from a model of its path. It stands in a slab of its own: others have none.
struct RateControl: SlabElement {
    var pacing = Pacing()
    /// There is a model, which has the window unless `CongestionControl.isModelled` says that it has not now.
    var hasModel = false
    var delivery = DeliveryRate()
    var bbr = BBR()
    var nextFree: UInt32 = 0

    init() {}
}

extension NetworkStack {
    /// Takes a slot where the connection has to be paced, and gives it back where it has not.
    private func settleRateControl(_ c: ConnectionPointer, isNeeded: Bool) {
        if isNeeded && c.pointee.rateControl == 0 {
            // There are as many as connections.
            c.pointee.rateControl = state.pointee.rateControls.take()
        } else if !isNeeded {
            releaseRateControl(c)
        }
        if c.pointee.rateControl == 0 { c.pointee.flags.remove(.isPaced) } else { c.pointee.flags.insert(.isPaced) }
    }

    func releaseRateControl(_ c: ConnectionPointer) {
        guard c.pointee.rateControl != 0 else { return }
        state.pointee.rateControls.free(c.pointee.rateControl)
        c.pointee.rateControl = 0
        c.pointee.flags.remove(.isPaced)
    }

    /// The connection is established, or another algorithm was chosen for it: a model begins, or ends.
    //= draft-ietf-ccwg-bbr section Initialization
    //# BBRInit(): upon transport connection initialization
    func beginRateControl(_ c: ConnectionPointer) {
        // Without selective acknowledgements nothing tells which segment was delivered when.
        let hasModel = c.pointee.congestion.algorithm == .bbr && c.pointee.selective.isPermitted
        let pacing = c.pointee.rateControl == 0 ? Pacing() : state.pointee.rateControls[c.pointee.rateControl].pointee.pacing
        settleRateControl(c, isNeeded: hasModel || pacing.maximumRate != 0)
        c.pointee.congestion.setModelled(hasModel && c.pointee.rateControl != 0)
        guard c.pointee.rateControl != 0 else { return }
        let control = state.pointee.rateControls[c.pointee.rateControl]
        control.pointee.hasModel = hasModel
        guard hasModel else { return }
        forgetSnapshots(c)
        control.pointee.delivery = DeliveryRate(now: state.pointee.now)
        control.pointee.bbr = BBR(
            window: c.pointee.congestion.window, segmentSize: c.pointee.sendSegmentSize, smoothedRoundTrip: c.pointee.roundTrip.smoothed,
            now: state.pointee.now, seed: state.pointee.random.next())
        takePace(c)
    }

    /// What is in flight was sent before there was a model: it tells nothing.
    private func forgetSnapshots(_ c: ConnectionPointer) {
        var index = c.pointee.scoreboard.first
        while index != 0 {
            state.pointee.deliverySnapshots[Int(index)] = DeliverySnapshot()
            index = state.pointee.transmissions[index].pointee.next
        }
    }

    // MARK: Options

    /// The most bytes a second that leave (SO_MAX_PACING_RATE), which makes the connection a paced one; `.max` for what the congestion control says,
    /// 0 for no pacing unless the congestion control needs it.
    public func setMaximumPacingRate(_ connection: UInt32, _ rate: UInt64) {
        let c = state.pointee.connections[connection]
        let hasModel = c.pointee.rateControl != 0 && state.pointee.rateControls[c.pointee.rateControl].pointee.hasModel
        settleRateControl(c, isNeeded: rate != 0 || hasModel)
        guard c.pointee.rateControl != 0 else { return c.pointee.state.maySend ? sendPending(c) : () }
        state.pointee.rateControls[c.pointee.rateControl].pointee.pacing.maximumRate = rate
    }

    public func maximumPacingRate(_ connection: UInt32) -> UInt64 {
        let c = state.pointee.connections[connection]
        return c.pointee.rateControl == 0 ? 0 : state.pointee.rateControls[c.pointee.rateControl].pointee.pacing.maximumRate
    }

    // MARK: Sending

    /// A segment of a paced connection was just sent for the first time, or sent again by the timer's rules.
    @inline(never)
    func notePacedSegment(_ c: ConnectionPointer, _ byteCount: Int, isNew: Bool) {
        noteDeparture(c, byteCount)
        if isNew && c.pointee.scoreboard.last != 0 { rememberDelivery(c, c.pointee.scoreboard.last, byteCount) }
    }

    /// The segment of a record was sent again.
    func notePacedRetransmission(_ c: ConnectionPointer, _ record: UInt32, _ byteCount: Int) {
        noteDeparture(c, byteCount)
        rememberDelivery(c, record, byteCount)
    }

    private func rememberDelivery(_ c: ConnectionPointer, _ record: UInt32, _ byteCount: Int) {
        let control = state.pointee.rateControls[c.pointee.rateControl]
        guard control.pointee.hasModel else { return }
        let inFlight = pipe(c)
        if inFlight <= byteCount && control.pointee.delivery.applicationLimitedEnd != 0 {
            control.pointee.bbr.restartFromIdle(now: state.pointee.now, window: c.pointee.congestion.window, delivered: control.pointee.delivery.delivered)
                .map { c.pointee.congestion.setWindow($0) }
            takePace(c)
        }
        state.pointee.deliverySnapshots[Int(record)] = control.pointee.delivery.send(byteCount: byteCount, inFlight: inFlight, now: state.pointee.now)
    }

    /// Everything is sent, and the network would take more.
    //= draft-cheng-iccrg-delivery-rate-estimation section Detecting application-limited phases
    //# The connection is app-limited if: the transport has less than SMSS of unsent data, nothing is queued below, it is not limited by cwnd, and all lost
    //# packets have been retransmitted.
    @inline(never)
    func noteNothingToSend(_ c: ConnectionPointer) {
        let control = state.pointee.rateControls[c.pointee.rateControl]
        guard control.pointee.hasModel, case let inFlight = pipe(c), inFlight < c.pointee.congestion.window, c.pointee.scoreboard.lostByteCount == 0
        else { return }
        control.pointee.delivery.markApplicationLimited(inFlight: inFlight)
    }

    // MARK: Acknowledgements

    /// Takes samples of the segments that an acknowledgement number covers, while their records are there. O(segments acknowledged).
    @inline(never)
    func sampleAcknowledged(_ c: ConnectionPointer, _ acknowledgement: SequenceNumber) {
        guard state.pointee.rateControls[c.pointee.rateControl].pointee.hasModel else { return }
        var start = c.pointee.scoreboard.start
        var index = c.pointee.scoreboard.first
        while index != 0 {
            let record = state.pointee.transmissions[index]
            let end = record.pointee.end
            let isWhole = end.since(acknowledgement) <= 0
            let byteCount = (isWhole ? end : acknowledgement).since(start)
            guard byteCount > 0 else { return }
            if !record.pointee.flags.contains(.isSelected) { sampleDelivered(c, index, byteCount) }
            guard isWhole else { return }
            start = end
            index = record.pointee.next
        }
    }

    /// The segment of a record, or a part of it, is newly known to be delivered.
    func sampleDelivered(_ c: ConnectionPointer, _ index: UInt32, _ byteCount: Int) {
        let record = state.pointee.transmissions[index]
        let control = state.pointee.rateControls[c.pointee.rateControl]
        guard control.pointee.hasModel else { return }
        control.pointee.delivery.deliver(
            byteCount: byteCount, state.pointee.deliverySnapshots[Int(index)], sentAt: record.pointee.sentAt, end: record.pointee.end,
            isRetransmitted: record.pointee.flags.contains(.isRetransmitted), now: state.pointee.now)
    }

    /// The segment of a record is taken for lost.
    //= draft-ietf-ccwg-bbr section Per-Loss Steps
    //# On every packet loss event, where some sequence range "packet" is marked lost: BBRUpdateOnLoss(packet): BBRHandleLostPacket(packet)
    func noteSegmentLost(_ c: ConnectionPointer, _ index: UInt32, _ byteCount: Int) {
        let control = state.pointee.rateControls[c.pointee.rateControl]
        guard control.pointee.hasModel else { return }
        control.pointee.delivery.lose(byteCount: byteCount)
        guard state.pointee.deliverySnapshots[Int(index)].deliveredAt != 0 else { return }
        let delivery = control.pointee.delivery
        control.pointee.bbr.lose(
            byteCount: byteCount, state.pointee.deliverySnapshots[Int(index)], lost: delivery.lost, delivered: delivery.delivered,
            window: c.pointee.congestion.window, now: state.pointee.now)
        takeCounts(control)
    }

    private func takeCounts(_ control: UnsafeMutablePointer<RateControl>) {
        state.pointee.statistics.tcp.inflightReductions += UInt64(control.pointee.bbr.reductionCount)
        state.pointee.statistics.tcp.inflightReductionsByLoss += UInt64(control.pointee.bbr.lossReductionCount)
        state.pointee.statistics.tcp.modelPlateaus += UInt64(control.pointee.bbr.plateauCount)
        (control.pointee.bbr.reductionCount, control.pointee.bbr.lossReductionCount, control.pointee.bbr.plateauCount) = (0, 0, 0)
    }

    /// Lets the model learn from an acknowledgement, when everything that it tells is known.
    //= draft-ietf-ccwg-bbr section Per-ACK Steps
    //# On every ACK, the BBR algorithm executes the following BBRUpdateOnACK() steps: BBRUpdateModelAndState(), BBRUpdateControlParameters()
    @inline(never)
    func updateModel(_ c: ConnectionPointer) {
        guard c.pointee.rateControl != 0, case let control = state.pointee.rateControls[c.pointee.rateControl], control.pointee.hasModel,
            control.pointee.delivery.sample.newlyDelivered > 0
        else { return }
        let sample = control.pointee.delivery.takeSample(minimumRoundTrip: c.pointee.recovery.minimumRoundTrip)
        if !c.pointee.congestion.isModelled {
            // Until there are records again of all that is in flight, losses are recovered, and the window is reduced, as without a model.
            guard hasRecords(c) || c.pointee.scoreboard.first == 0, !c.pointee.flags.contains(.fastRecovery) else { return }
            c.pointee.congestion.setModelled(true)
        }
        let before = control.pointee.bbr.state
        let window = control.pointee.bbr.update(
            BBR.Input(
                now: state.pointee.now, sample: sample, delivered: control.pointee.delivery.delivered, inFlight: pipe(c),
                window: c.pointee.congestion.window, isWindowLimited: c.pointee.flags.contains(.congestionWindowLimited),
                segmentSize: c.pointee.sendSegmentSize,
                isRecovering: !c.pointee.recovery.state.isDisjoint(with: [.isReducing, .hasTimedOut])))
        c.pointee.congestion.setWindow(window)
        if before != control.pointee.bbr.state { count(control.pointee.bbr.state) }
        takeCounts(control)
        //= draft-ietf-ccwg-bbr section ProbeRTT
        //# BBRHandleProbeRTT(): Ignore low rate samples during ProbeRTT: MarkConnectionAppLimited()
        if control.pointee.bbr.state == .probeRoundTrip { control.pointee.delivery.markApplicationLimited(inFlight: pipe(c)) }
        takePace(c)
        if 2 &* c.pointee.congestion.window > c.pointee.sendLimit { growSendBuffer(c) }
    }

    private func takePace(_ c: ConnectionPointer) {
        let control = state.pointee.rateControls[c.pointee.rateControl]
        control.pointee.pacing.rate = control.pointee.bbr.pacingRate
        control.pointee.pacing.quantum = control.pointee.bbr.quantum
    }

    private func count(_ phase: BBR.State) {
        switch phase {
        case .drain: state.pointee.statistics.tcp.modelDrains += 1
        case .probeUp: state.pointee.statistics.tcp.bandwidthProbes += 1
        case .probeRoundTrip: state.pointee.statistics.tcp.roundTripProbes += 1
        case .probeCruise: state.pointee.statistics.tcp.modelCruises += 1
        case .startup, .probeDown, .probeRefill: break
        }
    }

    // MARK: Recovery

    /// A recovery begins: the window is what is in flight, and what has just left it.
    func enterModelRecovery(_ c: ConnectionPointer) {
        let control = state.pointee.rateControls[c.pointee.rateControl]
        let delivered = max(control.pointee.delivery.sample.newlyDelivered, c.pointee.sendSegmentSize)
        c.pointee.congestion.setWindow(
            control.pointee.bbr.enterRecovery(
                window: c.pointee.congestion.window, inFlight: pipe(c), newlyDelivered: delivered, delivered: control.pointee.delivery.delivered))
    }

    /// The retransmission timer has expired.
    func modelTimeout(_ c: ConnectionPointer) {
        let isRecovering = !c.pointee.recovery.state.isDisjoint(with: [.isReducing, .hasTimedOut])
        state.pointee.rateControls[c.pointee.rateControl].pointee.bbr.saveWindow(c.pointee.congestion.window, isRecovering: isRecovering)
        c.pointee.congestion.setWindow(c.pointee.sendSegmentSize)
    }

    /// What was in flight at the loss has arrived.
    func leaveModelRecovery(_ c: ConnectionPointer) {
        c.pointee.congestion.setWindow(state.pointee.rateControls[c.pointee.rateControl].pointee.bbr.leaveRecovery(window: c.pointee.congestion.window))
    }

    /// The recovery was for nothing.
    func undoModelRecovery(_ c: ConnectionPointer) {
        let control = state.pointee.rateControls[c.pointee.rateControl]
        let delivered = control.pointee.delivery.delivered
        c.pointee.congestion.setWindow(
            control.pointee.bbr.undo(window: c.pointee.congestion.window, delivered: delivered, now: state.pointee.now))
        takePace(c)
    }

    /// A router's mark was echoed, or a probe has repaired a loss: congestion, though no segment is known to be lost.
    func noteModelCongestion(_ c: ConnectionPointer, isMark: Bool) {
        let control = state.pointee.rateControls[c.pointee.rateControl]
        control.pointee.bbr.noteCongestion(
            inFlight: pipe(c), delivered: control.pointee.delivery.delivered, window: c.pointee.congestion.window, isMark: isMark, now: state.pointee.now)
        takeCounts(control)
    }

    /// The records of what is in flight are gone: the window goes on as it is without a model, which learns nothing until there are records again.
    func suspendModel(_ c: ConnectionPointer) {
        state.pointee.statistics.tcp.modelSuspensions += 1
        c.pointee.congestion.setModelled(false)
    }
}
