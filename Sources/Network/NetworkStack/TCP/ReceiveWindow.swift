import DatapathMemory
import WireFormats

/// The window of a segment where the promised edge stays where it is, but for the rounding, as it mostly does.
struct UnmovedWindow {
    let field: Int
    let edge: SequenceNumber
    private let gain: UInt

    @inline(__always)
    init(_ c: ConnectionPointer) {
        let promised = c.pointee.receiveEdge.since(c.pointee.receiveNext)
        let steps = -1 &<< Int(c.pointee.receiveWindowShift)
        // Rounded up, so that the edge does not move left by what the scale cannot express (RFC 7323, section 2.4).
        let roundedUp = promised &+ ~steps
        field = roundedUp &>> Int(c.pointee.receiveWindowShift)
        edge = c.pointee.receiveNext.advanced(by: roundedUp & steps)
        gain = UInt(bitPattern: c.pointee.receiveLimit &- c.pointee.receiveByteCount &- promised)
    }

    /// Whether it is known at once that the edge stays where it is.
    @inline(__always)
    func holds(_ c: ConnectionPointer) -> Bool {
        // Where there is room for all that is promised, there is for the rounding, too.
        _fastPath(gain < UInt(c.pointee.receiveSegmentSize)) && _fastPath(gain < UInt(bitPattern: c.pointee.receiveLimit &>> 1))
            && _fastPath(UInt(bitPattern: field &- 1) < 65_535) && !DeliberateBug.isPresent(.windowShrinks)
            && !DeliberateBug.isPresent(.ownWindowScaleIgnored)
    }
}

/// What a connection promises to take, and how that grows (RFC 9293, section 3.8.6).
extension NetworkStack {
    /// The window field of the segment that is being made. It moves the promised edge, and the segment carries the acknowledgement that was owed.
    @inline(__always)
    func advertiseWindow(_ c: ConnectionPointer, _ flags: TCPFlags) -> Int {
        let window = UnmovedWindow(c)
        guard window.holds(c) else { return moveWindow(c, flags) }
        advertise(c, window)
        return window.field
    }

    /// Promises what was worked out before.
    @inline(__always)
    func advertise(_ c: ConnectionPointer, _ window: UnmovedWindow) {
        c.pointee.receiveEdge = window.edge
        noteAcknowledgementSent(c)
    }

    /// The same where the edge may move, or where the window is closed or larger than its field.
    @inline(never)
    private func moveWindow(_ c: ConnectionPointer, _ flags: TCPFlags) -> Int {
        let promised = c.pointee.receiveEdge.since(c.pointee.receiveNext)
        let available = c.pointee.receiveLimit &- c.pointee.receiveByteCount
        //= RFC 9293 section 3.8.6
        //# A TCP receiver SHOULD NOT shrink the window, i.e., move the right window edge to the left (SHLD-14).
        var window = promised
        //= RFC 9293 section 3.8.6.2.2
        //# A TCP implementation MUST include a SWS avoidance algorithm in the receiver (MUST-39): keep RCV.NXT+RCV.WND fixed until the reduction is at least
        //# min( Fr * RCV.BUFF, Eff.snd.MSS )
        if available &- promised >= min(c.pointee.receiveLimit &>> 1, Int(c.pointee.receiveSegmentSize)) {
            window = state.pointee.heap.pressure == .none ? available : max(promised, min(available, NetworkStack.windowUnderPressure))
        }
        if DeliberateBug.isPresent(.windowShrinks) { window = available / 2 }
        let shift = DeliberateBug.isPresent(.ownWindowScaleIgnored) ? 0 : Int(c.pointee.receiveWindowShift)
        var field = min((window &+ (1 &<< shift) &- 1) &>> shift, 65_535)
        // Each rounding may move the edge right: with tiny segments as far as they reach, so that the window would never close. But a buffer that is
        // smaller than one step of the scale must not look closed while it is empty.
        let isSmall = window &>> shift == 0 && available >= c.pointee.receiveLimit &>> 1
        if field &<< shift >= available &+ 1 &<< shift && !isSmall { field = window &>> shift }
        c.pointee.receiveEdge = c.pointee.receiveNext.advanced(by: max(promised, field &<< shift))
        noteAcknowledgementSent(c)
        //= RFC 9293 section 3.8.6.1
        //# A TCP implementation MAY keep its offered receive window closed indefinitely (MAY-8).
        if field == 0 && !flags.contains(.rst) { state.pointee.statistics.tcp.zeroWindowsAdvertised &+= 1 }
        return field
    }

    /// What windows shrink to when the heap is three quarters full.
    static var windowUnderPressure: Int { 8_192 }

    @inline(__always)
    func noteAcknowledgementSent(_ c: ConnectionPointer) {
        c.pointee.lastAcknowledged = c.pointee.receiveNext
        c.pointee.unacknowledgedSegments = 0
        c.pointee.acknowledgeDeadline = .max
    }

    /// The program has taken bytes: tells the peer when the window has grown by enough to be worth a segment.
    @inline(__always)
    func receiveQueueShrank(_ c: ConnectionPointer) {
        let promised = c.pointee.receiveEdge.since(c.pointee.receiveNext)
        let available = c.pointee.receiveLimit &- c.pointee.receiveByteCount
        if available &- promised >= min(c.pointee.receiveLimit &>> 1, max(promised, 2 &* Int(c.pointee.receiveSegmentSize))) && c.pointee.state.mayReceive {
            updateWindow(c)
        }
    }

    @inline(never)
    private func updateWindow(_ c: ConnectionPointer) {
        guard state.pointee.heap.pressure == .none || c.pointee.receiveEdge == c.pointee.receiveNext else { return }
        if DeliberateBug.isPresent(.windowUpdateMissing) && c.pointee.receiveEdge == c.pointee.receiveNext { return }
        state.pointee.statistics.tcp.windowUpdates += 1
        sendAcknowledgement(c)
    }

    /// Lets the receive buffer grow to twice what the program takes in a round trip, so that the window is no limit (dynamic right-sizing: Fisk and
    /// Feng, LACSI 2001). Called once for every half buffer that arrives.
    @inline(never)
    func growReceiveBuffer(_ c: ConnectionPointer) {
        let elapsed = state.pointee.now &- c.pointee.growthTime
        c.pointee.growthTime = state.pointee.now
        c.pointee.growthSequence = c.pointee.receiveNext.advanced(by: c.pointee.receiveLimit / 2)
        let maximum = state.pointee.configuration.tcp.maximumReceiveBuffer
        guard !c.pointee.flags.contains(.fixedReceiveBuffer), c.pointee.receiveLimit < maximum,
            elapsed <= 2 * max(c.pointee.roundTrip.smoothed, 100_000), c.pointee.receiveByteCount < c.pointee.receiveLimit / 2,
            state.pointee.heap.pressure == .none
        else { return }
        c.pointee.receiveLimit = min(2 * c.pointee.receiveLimit, maximum)
        state.pointee.statistics.tcp.receiveBufferGrowths += 1
    }
}
