import DatapathMemory
import EthernetDevice
import Glibc
import NetworkStack
import QueueRuntime
import TaskScheduler

/// The state of the library OS, at one address for its whole life.
struct UserNetworkState: ~Copyable {
    let core: RuntimeCore
    let stack: NetworkStack
    /// What the stack's frames go to and come from: the device itself, or what captures them on their way.
    var device: EthernetDevice
    /// What users call the device.
    let deviceName: String
    /// While frames are captured.
    var capture: FrameCapture?
    /// Indexed by the descriptor's slot; those below `carvedSockets` are initialised.
    let sockets: UnsafeMutablePointer<NetworkSocket>
    var carvedSockets = 0
    /// One batch of received frames.
    let inbound: UnsafeMutablePointer<Frame>
    /// The stack's, so that what it has to send goes to the device without a copy of the handles.
    let output: UnsafeMutablePointer<OutputRing>
    let deliveries: UnsafeMutablePointer<Delivery>
    /// Sockets with datagrams for which the stack had no room.
    var firstStarved: UInt32 = 0
    /// The runtime's timer for the stack's next deadline, and when it fires; `.max` when it is not armed.
    var sleepTimer = TimerIdentifier.none
    var sleepDeadline = UInt64.max
    /// Datagrams of discarded pushes that the stack had no room for.
    var droppedSendBufferFull: UInt64 = 0

    init(core: RuntimeCore, stack: NetworkStack, device: EthernetDevice, deviceName: String) {
        self.core = core
        self.deviceName = deviceName
        self.stack = stack
        self.device = device
        sockets = .allocate(capacity: core.limits.maximumQueues + 1)
        inbound = .allocate(capacity: UserNetworkHandle.batchFrames)
        output = stack.outputRing
        deliveries = .allocate(capacity: UserNetworkHandle.batchFrames)
    }
}

/// A plain handle on the state: its methods touch one field at a time.
struct UserNetworkHandle {
    let state: UnsafeMutablePointer<UserNetworkState>

    /// Frames that are received in one turn at most.
    static let batchFrames = 64

    @inline(__always)
    init(_ context: UnsafeMutableRawPointer) {
        state = context.assumingMemoryBound(to: UserNetworkState.self)
    }

    @inline(__always)
    var core: RuntimeCore { state.pointee.core }

    @inline(__always)
    var stack: NetworkStack { state.pointee.stack }

    @inline(__always)
    func socket(_ index: Int) -> UnsafeMutablePointer<NetworkSocket> { state.pointee.sockets + index }

    /// Tells the stack the time before a call that may send.
    @inline(__always)
    func updateTime() { stack.setTime(core.currentTime) }

    // MARK: One turn

    /// Receives a batch, runs what is due, tells the program's operations, and sends what came of it.
    @inline(__always)
    func poll() -> Int32 {
        // The places of frames and deliveries are read again rather than kept over the calls, for which registers would have to be saved.
        let received = state.pointee.device.receive(state.pointee.inbound, capacity: UserNetworkHandle.batchFrames)
        let turn = stack.turn(to: core.now, frames: state.pointee.inbound, count: received, deliveries: state.pointee.deliveries)
        // Most turns bring one delivery at most, for the operation that the program waits for: then nothing is called any more, or one thing at the end.
        if case let deliveries = state.pointee.deliveries, turn.endOfDeliveries != deliveries {
            guard turn.endOfDeliveries == deliveries + 1, completesAwaited(deliveries.pointee) else { return finishPoll(turn) }
        }
        guard turn.eventCount | state.pointee.output.pointee.count | Int(state.pointee.firstStarved) == 0 else {
            return settlePoll(turn.progress, turn.eventCount)
        }
        return Int32(truncatingIfNeeded: turn.progress)
    }

    @inline(never)
    private func finishPoll(_ turn: TurnResult) -> Int32 {
        var delivery = state.pointee.deliveries
        while delivery != turn.endOfDeliveries {
            complete(delivery.pointee)
            delivery += 1
        }
        return settlePoll(turn.progress, turn.eventCount)
    }

    /// The end of a turn, behind its deliveries.
    @inline(never)
    private func settlePoll(_ turnProgress: Int, _ eventCount: Int) -> Int32 {
        var progress = turnProgress
        if eventCount != 0 { progress &+= deliverEvents() }
        flush()
        if state.pointee.firstStarved != 0 { progress &+= retryStarved() }
        return Int32(truncatingIfNeeded: progress)
    }

    /// Maps what has become of connections and datagram sockets to operations: of as many as one turn may.
    @inline(never)
    private func deliverEvents() -> Int {
        var count = 0
        while count < UserNetworkHandle.batchFrames, let event = stack.takeConnectionEvent() {
            count &+= 1
            let socket = socket(Int(event.owner))
            noteArrival(socket)
            if event.events == .readable && socket.pointee.phase == .connected {
                serveStreamPops(socket)
            } else {
                handle(Int(event.owner), event.events)
            }
        }
        while let (_, owner) = stack.takeDatagramEvent() {
            count &+= 1
            let socket = socket(Int(owner))
            noteArrival(socket)
            serveDatagramPops(socket)
        }
        return count
    }

    @inline(never)
    private func handle(_ index: Int, _ events: ConnectionEvents) {
        let socket = socket(index)
        switch socket.pointee.phase {
        case .free, .open: break
        case .listening: if events.contains(.acceptable) { serveAccepts(index) }
        case .connecting:
            if events.contains(.connected) {
                finishConnect(index)
                // The peer's first bytes, or its end, may have come with it.
                handleConnected(index, events)
            } else if events.contains(.failed) {
                failConnect(index)
            }
        case .connected: handleConnected(index, events)
        case .flushing:
            if events.contains(.failed) {
                dropSends(index, stack.connectionError(socket.pointee.index))
                gone(index)
            } else if events.contains(.writable) {
                sendWaiting(index)
            }
        case .awaitingEnd: if events.contains(.closed) { gone(index) }
        }
    }

    private func handleConnected(_ index: Int, _ events: ConnectionEvents) {
        let socket = socket(index)
        if events.contains(.failed) {
            socket.pointee.failure = stack.connectionError(socket.pointee.index)
            dropSends(index, socket.pointee.failure)
        }
        serveStreamPops(socket)
        if events.contains(.writable) && socket.pointee.firstToSend != nil { sendWaiting(index) }
    }

    /// Hands what the stack has to send to the device, as far as that has room; the rest leaves with a later turn.
    @inline(__always)
    func flush() {
        if !state.pointee.output.pointee.isEmpty { transmit() }
    }

    @inline(__always)
    private func transmit() {
        let output = state.pointee.output
        let wasFull = output.pointee.isFull
        let (frames, count) = output.pointee.first
        let taken = state.pointee.device.transmit(frames, count: count)
        output.pointee.removeFirst(taken)
        // Whoever waits for room has found none; and what lies behind the ring's end goes by itself.
        if wasFull || !output.pointee.isEmpty { transmitRest(taken == count, wasFull) }
    }

    @inline(never)
    private func transmitRest(_ tookAll: Bool, _ hasMoved: Bool) {
        let output = state.pointee.output
        if hasMoved { stack.outputMoved() }
        guard tookAll else { return }
        while !output.pointee.isEmpty {
            let (frames, count) = output.pointee.first
            let wasFull = output.pointee.isFull
            let taken = state.pointee.device.transmit(frames, count: count)
            output.pointee.removeFirst(taken)
            if wasFull { stack.outputMoved() }
            if taken < count { return }
        }
    }

    // MARK: Datagrams without room

    /// Remembers a socket whose datagrams wait for room in the output, or for memory.
    func starve(_ index: Int) {
        let socket = socket(index)
        guard !socket.pointee.isStarved else { return }
        socket.pointee.isStarved = true
        socket.pointee.nextStarved = state.pointee.firstStarved
        state.pointee.firstStarved = UInt32(truncatingIfNeeded: index)
    }

    private func retryStarved() -> Int {
        var next = state.pointee.firstStarved
        state.pointee.firstStarved = 0
        var count = 0
        while next != 0 {
            let index = Int(next)
            let socket = socket(index)
            next = socket.pointee.nextStarved
            socket.pointee.isStarved = false
            guard socket.pointee.firstToSend != nil else { continue }
            sendWaiting(index)
            if !socket.pointee.isStarved { count &+= 1 }
        }
        flush()
        return count
    }

    // MARK: Sleep

    /// Arms the device's wake-up, and a timer of the runtime for what the stack has to do next.
    func prepareToSleep() -> Int32 {
        // What waits for the device, or for memory, has no wake-up.
        if stack.hasOutput || state.pointee.firstStarved != 0 { return LibraryOS.cannotWake }
        let deadline = stack.nextDeadline ?? .max
        if deadline != state.pointee.sleepDeadline {
            core.scheduler.cancelTimer(state.pointee.sleepTimer)
            state.pointee.sleepTimer = .none
            state.pointee.sleepDeadline = .max
            if deadline != .max {
                // Its turn's poll runs what is due.
                let timer = core.scheduler.armTimer(
                    deadline: deadline,
                    { context, _ in UserNetworkHandle(context).state.pointee.sleepDeadline = .max },
                    context: state)
                guard let timer else { return LibraryOS.cannotWake }
                state.pointee.sleepTimer = timer
                state.pointee.sleepDeadline = deadline
            }
        }
        switch state.pointee.device.prepareToSleep() {
        case EthernetDevice.cannotWake: return LibraryOS.cannotWake
        case EthernetDevice.nothingToAwait: return LibraryOS.nothingToAwait
        case let descriptor: return descriptor
        }
    }

    // MARK: End

    func destroy() {
        for index in 1..<max(state.pointee.carvedSockets, 1) where socket(index).pointee.phase != .free {
            dropSends(index, ECANCELED)
            release(index)
        }
        core.scheduler.cancelTimer(state.pointee.sleepTimer)
        // The last FINs and resets; what the device has no room for is lost.
        flush()
        stack.deallocate()
        finishCapture()
        state.pointee.device.close()
        state.pointee.inbound.deallocate()
        state.pointee.deliveries.deallocate()
        state.pointee.sockets.deallocate()
        state.deinitialize(count: 1)
        state.deallocate()
    }
}
