import DatapathMemory
import EthernetDevice
import TaskScheduler
import WireFormats

/// A user-level network stack of one interface, as a value that is fed with events: frames in, frames out, time in, seed in.
///
/// It does no I/O, reads no clock and has no thread, so the same events give the same frames. Whoever drives it calls `receive` for each frame,
/// `advance` when time has passed, takes the frames of `takeOutput` to a device, and asks `takeEvent` what has become of the sockets.
///
/// A plain handle, as cheap to copy as a pointer; whoever made the stack ends it with `deallocate`. It belongs to one thread.
public struct NetworkStack {
    let state: UnsafeMutablePointer<StackState>

    /// The handle of a stack that exists: for its timers.
    init(state: UnsafeMutablePointer<StackState>) {
        self.state = state
    }

    /// - Parameters:
    ///   - heap: where the frames come from that the stack sends.
    ///   - now: the time to start from, in nanoseconds.
    /// - Throws: `EINVAL` for a configuration that contradicts itself, `ENOMEM` when the tables cannot be mapped.
    public init(_ configuration: NetworkConfiguration, heap: DatapathHeap, now: UInt64) throws(DemikernelError) {
        try configuration.validate()
        state = try StackState.make(configuration, heap: heap, now: now)
        configureNeighbors(configuration)
        configureIPv6(configuration)
    }

    /// Ends the stack: connections are forgotten without a word to their peers, and every frame and buffer is released.
    public func deallocate() {
        endTCP()
        endUDP()
        endNeighbors()
        endReassembly()
        while !state.pointee.output.pointee.isEmpty {
            state.pointee.output.pointee.first.frames.pointee.releaseArray()
            state.pointee.output.pointee.removeFirst(1)
        }
        while let frame = state.pointee.loopback.removeFirst() { frame.releaseArray() }
        state.pointee.deallocateTables()
        state.deinitialize(count: 1)
        state.deallocate()
    }

    // MARK: Time

    /// The time of the last event, in nanoseconds.
    public var now: UInt64 { state.pointee.now }

    /// Says what time it is. Runs nothing; what is due runs in `advance`.
    @inline(__always)
    public func setTime(_ now: UInt64) {
        if now > state.pointee.now { state.pointee.now = now }
    }

    /// Runs every timer that is due at `now`, each once, and what was sent to the stack's own addresses.
    /// - Returns: how much was done.
    @discardableResult
    public func advance(to now: UInt64) -> Int {
        setTime(now)
        var count = 0
        while let timer = state.pointee.timers.popExpired(now: state.pointee.now) {
            timer.action(timer.context, timer.argument)
            count += 1
        }
        if !state.pointee.loopback.isEmpty { count += deliverLoopback() }
        return count
    }

    /// When the earliest timer is due, in nanoseconds; nil for none.
    public var nextDeadline: UInt64? {
        if !state.pointee.loopback.isEmpty { return state.pointee.now }
        settleTimers()
        return state.pointee.timers.nextDeadline
    }

    /// One turn in one call: frames in, then what is due. What has become of the sockets then is told by the deliveries, `takeConnectionEvent` and
    /// `takeDatagramEvent`.
    ///
    /// What has arrived comes before the timers: an acknowledgement that was waiting in the device stops a retransmission.
    /// - Parameters:
    ///   - frames: `count` frames, which are taken over.
    ///   - deliveries: room for as many: what sockets have awaited (`awaitData`, `awaitDatagram`), before anything that the events tell.
    @inlinable
    @inline(__always)
    public func turn(
        to now: UInt64, frames: UnsafeMutablePointer<Frame>, count: Int, deliveries: UnsafeMutablePointer<Delivery>
    ) -> TurnResult {
        if count == 0 { return turnWithoutFrames(now, deliveries) }
        // Frames come in trains of one kind, and each has a function with its own short way in it: one with all of them would save registers for any.
        switch kind(of: frames.pointee) {
        case .datagram: return turnOfDatagrams(now, frames, count, deliveries)
        case .acknowledgement where count == 1: return turnOfAcknowledgement(now, frames, deliveries)
        default: return turnOfSegments(now, frames, count, deliveries)
        }
    }

    /// What a frame seems to be, by its length and three bytes of its IPv4 header, if that is what it has.
    @inlinable
    @inline(__always)
    func kind(of frame: Frame) -> FrameKind {
        guard frame.segmentByteCount >= 42 else { return .other }
        let header = UnsafeRawPointer(frame.segmentAddress)
        // Protocol 17; 52 bytes of IPv4 and TCP headers with timestamps.
        if header.load(fromByteOffset: 23, as: UInt8.self) == 17 { return .datagram }
        return header.loadUnaligned(fromByteOffset: 16, as: UInt16.self) == UInt16(52).bigEndian ? .acknowledgement : .other
    }

    @inline(never)
    @usableFromInline
    func turnWithoutFrames(_ now: UInt64, _ deliveries: UnsafeMutablePointer<Delivery>) -> TurnResult {
        setTime(now)
        // Without a call, so that an idle turn saves no registers.
        if hasDueWork { return endTurnWithDueWork(0, deliveries) }
        return TurnResult(progress: 0, endOfDeliveries: deliveries, eventCount: state.pointee.eventCount)
    }

    @inline(never)
    @usableFromInline
    func turnOfSegments(
        _ now: UInt64, _ frames: UnsafeMutablePointer<Frame>, _ count: Int, _ deliveries: UnsafeMutablePointer<Delivery>
    ) -> TurnResult {
        setTime(now)
        var delivery = deliveries
        let end = frames + count
        var frame = frames
        repeat {
            if _slowPath(!predict(frame.pointee, &delivery, mayDeliver: true)) { ethernetInput(frame.pointee) }
            frame += 1
        } while frame != end
        return endTurn(count, delivery)
    }

    @inline(never)
    @usableFromInline
    func turnOfAcknowledgement(_ now: UInt64, _ frames: UnsafeMutablePointer<Frame>, _ deliveries: UnsafeMutablePointer<Delivery>) -> TurnResult {
        setTime(now)
        return receiveAcknowledgement(frames, deliveries)
    }

    @inline(never)
    @usableFromInline
    func turnOfDatagrams(
        _ now: UInt64, _ frames: UnsafeMutablePointer<Frame>, _ count: Int, _ deliveries: UnsafeMutablePointer<Delivery>
    ) -> TurnResult {
        setTime(now)
        return count == 1 ? receiveOneDatagram(frames, deliveries) : receiveDatagrams(frames, count, deliveries)
    }

    /// Whether a timer, or what was sent to the stack itself, may be due.
    @inline(__always)
    private var hasDueWork: Bool { state.pointee.timers.mayHaveExpired(now: state.pointee.now) || !state.pointee.loopback.isEmpty }

    @inline(__always)
    func endTurn(_ count: Int, _ endOfDeliveries: UnsafeMutablePointer<Delivery>) -> TurnResult {
        if hasDueWork { return endTurnWithDueWork(count, endOfDeliveries) }
        return TurnResult(progress: count, endOfDeliveries: endOfDeliveries, eventCount: state.pointee.eventCount)
    }

    @inline(never)
    private func endTurnWithDueWork(_ count: Int, _ endOfDeliveries: UnsafeMutablePointer<Delivery>) -> TurnResult {
        let progress = count &+ advance(to: state.pointee.now)
        return TurnResult(progress: progress, endOfDeliveries: endOfDeliveries, eventCount: state.pointee.eventCount)
    }

    // MARK: Frames

    /// Takes over a frame that the device received, and does all that follows from it.
    public func receive(_ frame: Frame) {
        var nowhere = NetworkStack.nowhere
        if !predict(frame, &nowhere, mayDeliver: false) { ethernetInput(frame) }
    }

    /// Whether there are frames to send.
    public var hasOutput: Bool { !state.pointee.output.pointee.isEmpty }

    /// The frames that wait for the device. Its owner takes them from the front, in any number, and then calls
    /// `outputMoved`, which may be left out where the ring was not full.
    public var outputRing: UnsafeMutablePointer<OutputRing> { state.pointee.output }

    /// The device has taken frames from the ring: those who waited for room send on, which may fill it again.
    @inline(__always)
    public func outputMoved() {
        if !state.pointee.awaitingOutput.isEmpty && !state.pointee.output.pointee.isFull { resumeOutput() }
    }

    /// Moves up to `capacity` frames to `frames`, oldest first; the caller owns them.
    public func takeOutput(into frames: UnsafeMutablePointer<Frame>, capacity: Int) -> Int {
        var count = 0
        while count < capacity, !state.pointee.output.pointee.isEmpty {
            frames[count] = state.pointee.output.pointee.first.frames.pointee
            state.pointee.output.pointee.removeFirst(1)
            count += 1
        }
        outputMoved()
        return count
    }

    /// Gives frames back that `takeOutput` gave and the device had no room for: they are sent first.
    public func returnOutput(_ frames: UnsafeMutablePointer<Frame>, count: Int) {
        for index in (0..<count).reversed() {
            if state.pointee.output.pointee.isExhausted {
                drop(frames[index], .outOfMemory)
            } else {
                state.pointee.output.pointee.prepend(frames[index])
            }
        }
    }

    // MARK: State

    /// Whether the interface speaks IPv6.
    public var speaksIPv6: Bool { state.pointee.ipv6.isEnabled }

    /// The interface's IPv6 addresses that are in use: not those that are being verified, or that another node has. The link-local one is among them.
    public var ipv6Addresses: [IPAddress] {
        (0..<state.pointee.ipv6.addressCount).compactMap { index in
            let address = state.pointee.ipv6.addresses[index]
            return address.isAssigned ? address.address : nil
        }
    }

    /// The counts since the stack was made.
    public var statistics: NetworkStatistics {
        var statistics = state.pointee.statistics
        // The short ways count one number only.
        statistics.framesReceived &+= statistics.tcp.headerPredictions &+ statistics.datagramPredictions
        statistics.datagramsReceived &+= statistics.datagramPredictions
        statistics.datagramsSent &+= statistics.plainDatagramsSent
        statistics.tcp.segmentsReceived &+= statistics.tcp.headerPredictions
        statistics.framesSent &+= statistics.tcp.plainSegmentsSent &+ statistics.plainDatagramsSent
        statistics.tcp.segmentsSent &+= statistics.tcp.plainSegmentsSent
        statistics.connections = state.pointee.connections.liveCount
        statistics.datagramSockets = state.pointee.datagramSockets.liveCount
        statistics.neighbors = state.pointee.neighbors.liveCount
        statistics.tcp.transmissionRecords = state.pointee.transmissions.liveCount
        statistics.tcp.lentRecords =
            state.pointee.listenerQueues.liveCount + state.pointee.connectionSettings.liveCount + state.pointee.congestionHistories.liveCount
            + state.pointee.exceptionalStates.liveCount
        return statistics
    }

    /// Counts one frame, segment or datagram that goes no further.
    //= RFC 1122 section 3.1
    //# for diagnosis of problems a host SHOULD provide the capability of logging the error, and SHOULD record the event in a statistics counter
    @inline(never)
    func drop(_ frame: Frame, _ reason: DropReason) {
        state.pointee.statistics.drops[reason] += 1
        frame.releaseArray()
    }
}

/// What a turn of the stack has done. In whole words, which come back in registers as they are.
@frozen
public struct TurnResult {
    /// Frames and timers together; 0 for nothing.
    public let progress: Int
    /// Behind the last delivery that was written.
    public let endOfDeliveries: UnsafeMutablePointer<Delivery>
    /// How much `takeConnectionEvent` and `takeDatagramEvent` have to give.
    public let eventCount: Int
}

/// What a frame seems to be at a first look.
@usableFromInline
enum FrameKind {
    /// UDP over IPv4.
    case datagram
    /// Of TCP over IPv4 with timestamps, and nothing else.
    case acknowledgement
    case other
}
