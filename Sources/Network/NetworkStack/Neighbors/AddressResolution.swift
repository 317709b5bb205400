import DatapathMemory
import EthernetDevice
import TaskScheduler
import WireFormats

/// The times of address resolution, in nanoseconds.
enum NeighborTimes {
    /// Between two requests.
    //= RFC 1122 section 2.3.2.1
    //# A mechanism to prevent ARP flooding MUST be included. The recommended maximum rate is 1 per second per destination.
    static let requestInterval: UInt64 = 1_000_000_000
    /// Requests until a neighbour counts as gone.
    static let maximumRequests: UInt8 = 3
    /// How long a hardware address is believed.
    //= RFC 1122 section 2.3.2.1
    //# For proxy ARP situations, the timeout needs to be on the order of a minute.
    static let reachable: UInt64 = 30_000_000_000
    /// How long a neighbour that did not answer is not asked again.
    static let failed: UInt64 = 3_000_000_000
    /// After how long without a frame a neighbour is forgotten.
    static let unused: UInt64 = 600_000_000_000
    /// How long after an answer nobody can change it.
    static let locked: UInt64 = 1_000_000_000
    /// DELAY_FIRST_PROBE_TIME of RFC 4861, section 10.
    static let delayed: UInt64 = 5_000_000_000
}

extension NetworkStack {
    /// Enters the neighbours that the configuration names: no more than there is room for, as `validate` has found.
    func configureNeighbors(_ configuration: NetworkConfiguration) {
        for known in configuration.staticNeighbors {
            let existing = findNeighbor(known.address)
            let slot = existing != 0 ? existing : addNeighbor(known.address, isLearning: true)
            let neighbor = state.pointee.neighbors[slot]
            neighbor.pointee.state = .permanent
            neighbor.pointee.macAddress = known.macAddress
        }
    }

    /// Releases the frames that wait for neighbours.
    func endNeighbors() {
        for chain in [NeighborCache.Chain.learnt, .unresolved, .used] {
            while state.pointee.neighborCache[chain].pointee.first != 0 { forgetNeighbor(state.pointee.neighborCache[chain].pointee.first) }
        }
    }

    /// The slot of the neighbour with this address, a new one if it was not known; 0 when there is no room even for that. O(1), amortised.
    ///
    /// The slot is the caller's to keep until `neighborEpoch` changes. The neighbour counts as used.
    func neighbor(for nextHop: IPAddress) -> UInt32 {
        var slot = findNeighbor(nextHop)
        if slot == 0 {
            slot = addNeighbor(nextHop, isLearning: false)
            guard slot != 0 else { return 0 }
            chain(slot, in: .unresolved)
        }
        let neighbor = state.pointee.neighbors[slot]
        neighbor.pointee.lastUsed = state.pointee.now
        if neighbor.pointee.chain == .learnt { chain(slot, in: .used) }
        if neighbor.pointee.state == .stale { delay(slot) }
        return slot
    }

    /// Takes over a packet behind its Ethernet header, whose destination is filled in: now, or when the neighbour is resolved. The block of the
    /// headers must be the frame's own.
    func send(_ frame: Frame, to slot: UInt32) {
        let neighbor = state.pointee.neighbors[slot]
        neighbor.pointee.lastUsed = state.pointee.now
        if neighbor.pointee.isResolved {
            if neighbor.pointee.state == .stale { delay(slot) }
            neighbor.pointee.macAddress.store(to: frame.segmentAddress)
            return emit(frame)
        }
        if neighbor.pointee.state == .failed { return drop(frame, .neighborUnreachable) }
        //= RFC 1122 section 2.3.2.2
        //# The link layer SHOULD save (rather than discard) at least one (the latest) packet of each set of packets destined to the same unresolved
        //# IP address, and transmit the saved packet when the address has been resolved.
        // So the latest one is kept even where others have taken all the room there is.
        let isFull =
            neighbor.pointee.waiting.count >= state.pointee.configuration.limits.neighborQueueLength
            || state.pointee.neighborCache.waitingCount >= state.pointee.configuration.limits.waitingFrames
        if isFull, let oldest = takeWaiting(slot) { drop(oldest, .neighborQueueFull) }
        //= RFC 1122 section 2.4
        //# The link layer MUST NOT report a Destination Unreachable error to IP solely because there is no ARP cache entry for a destination.
        neighbor.pointee.waiting.append(frame)
        state.pointee.neighborCache.waitingCount += 1
        if neighbor.pointee.attempts == 0 { request(slot) }
    }

    /// Enters the answer to whose hardware address this is, and sends what has waited for it.
    /// - Parameter verifiesAfter: when to ask whether it holds, if it is used until then.
    func resolve(_ slot: UInt32, to macAddress: MACAddress, verifiesAfter delay: UInt64) {
        let neighbor = state.pointee.neighbors[slot]
        // Nobody has copied anything of one that was only learnt: so a flood of requests does not make all connections look again.
        if neighbor.pointee.chain != .learnt, !neighbor.pointee.isResolved || neighbor.pointee.macAddress != macAddress { raiseNeighborEpoch() }
        neighbor.pointee.state = .reachable
        neighbor.pointee.attempts = 0
        neighbor.pointee.macAddress = macAddress
        neighbor.pointee.confirmed = state.pointee.now
        if neighbor.pointee.chain == .unresolved { chain(slot, in: .used) }
        armNeighborTimer(slot, after: delay)
        sendWaiting(slot)
    }

    /// Enters a hardware address that is not known to be right (IPv6), and sends what has waited for it.
    func becomeStale(_ slot: UInt32, _ macAddress: MACAddress) {
        resolve(slot, to: macAddress, verifiesAfter: NeighborTimes.reachable)
        let neighbor = state.pointee.neighbors[slot]
        neighbor.pointee.state = .stale
        // Who has copied the hardware address has to come back, so that it is asked about.
        if neighbor.pointee.chain != .learnt { raiseNeighborEpoch() }
    }

    /// A stale neighbour is used.
    //= RFC 4861 section 7.3.3
    //# The first time a node sends a packet to a neighbor whose entry is STALE, the sender changes the state to DELAY and sets a timer to expire in
    //# DELAY_FIRST_PROBE_TIME seconds. If the entry is still in the DELAY state when the timer expires, the entry's state changes to PROBE.
    private func delay(_ slot: UInt32) {
        state.pointee.neighbors[slot].pointee.state = .delayed
        armNeighborTimer(slot, after: NeighborTimes.delayed)
    }

    private func sendWaiting(_ slot: UInt32) {
        let macAddress = state.pointee.neighbors[slot].pointee.macAddress
        while let frame = takeWaiting(slot) {
            if DeliberateBug.isPresent(.waitingFramesDropped) {
                frame.releaseArray()
                continue
            }
            macAddress.store(to: frame.segmentAddress)
            // It waits no more, and is sent: after it was confirmed the neighbour is used.
            state.pointee.neighbors[slot].pointee.lastUsed = state.pointee.now
            emit(frame)
        }
    }

    /// The frame that has waited longest for a neighbour; nil for none.
    func takeWaiting(_ slot: UInt32) -> Frame? {
        guard let frame = state.pointee.neighbors[slot].pointee.waiting.removeFirst() else { return nil }
        state.pointee.neighborCache.waitingCount -= 1
        return frame
    }

    // MARK: Timers

    /// Sends one more request: to all while the hardware address is not known, else to the neighbour alone, which bothers nobody else.
    //= RFC 1122 section 2.3.2.1
    //# (2) Unicast Poll -- Actively poll the remote host by periodically sending a point-to-point ARP Request to it, and delete the entry if no
    //# ARP Reply is received from N successive polls.
    //= RFC 826 section Packet Generation
    //# It then causes this packet to be broadcast to all stations on the Ethernet cable originally determined by the routing mechanism.
    //= RFC 1122 section 3.3.1.4
    //# The IP layer MUST be able to detect the failure of a next-hop gateway that is listed in its route cache.
    private func request(_ slot: UInt32) {
        let neighbor = state.pointee.neighbors[slot]
        neighbor.pointee.attempts &+= 1
        armNeighborTimer(slot, after: NeighborTimes.requestInterval)
        let macAddress = neighbor.pointee.isResolved ? neighbor.pointee.macAddress : nil
        if neighbor.pointee.address.isIPv4 {
            sendARPRequest(for: neighbor.pointee.address, to: macAddress ?? .broadcast)
        } else {
            sendNeighborSolicitation(for: neighbor.pointee.address, to: macAddress)
        }
    }

    private func armNeighborTimer(_ slot: UInt32, after delay: UInt64) {
        let neighbor = state.pointee.neighbors[slot]
        state.pointee.timers.cancel(neighbor.pointee.timer)
        // The wheel has a place for every neighbour.
        neighbor.pointee.timer =
            state.pointee.timers.arm(
                deadline: state.pointee.now &+ delay,
                action: { context, argument in
                    NetworkStack(state: context.assumingMemoryBound(to: StackState.self)).neighborTimerFired(UInt32(truncatingIfNeeded: argument))
                }, context: state, argument: UInt64(slot)
            ).unsafelyUnwrapped
    }

    private func neighborTimerFired(_ slot: UInt32) {
        let neighbor = state.pointee.neighbors[slot]
        neighbor.pointee.timer = .none
        switch neighbor.pointee.state {
        case .incomplete:
            if neighbor.pointee.attempts < NeighborTimes.maximumRequests { request(slot) } else { giveUp(slot) }
        case .probing:
            if neighbor.pointee.attempts < NeighborTimes.maximumRequests { return request(slot) }
            forgetRedirects(over: neighbor.pointee.address)
            forgetNeighbor(slot)
        case .reachable:
            if DeliberateBug.isPresent(.neighborNotRefreshed) { return }
            //= RFC 1122 section 3.3.1.4
            //# Pinging MUST be used only when traffic is being sent to the gateway and when there is no other positive indication that it functions.
            if neighbor.pointee.lastUsed >= neighbor.pointee.confirmed {
                neighbor.pointee.state = .probing
                request(slot)
            } else if state.pointee.now &- neighbor.pointee.confirmed >= NeighborTimes.unused {
                forgetNeighbor(slot)
            } else {
                armNeighborTimer(slot, after: NeighborTimes.reachable)
                //= RFC 4861 section 7.3.3
                //# When ReachableTime milliseconds have passed since receipt of the last reachability confirmation for a neighbor, the Neighbor Cache entry's
                //# state changes from REACHABLE to STALE.
                if !neighbor.pointee.address.isIPv4 {
                    neighbor.pointee.state = .stale
                    raiseNeighborEpoch()
                }
            }
        case .stale:
            if state.pointee.now &- max(neighbor.pointee.confirmed, neighbor.pointee.lastUsed) >= NeighborTimes.unused {
                forgetNeighbor(slot)
            } else {
                armNeighborTimer(slot, after: NeighborTimes.reachable)
            }
        case .delayed:
            neighbor.pointee.state = .probing
            request(slot)
        case .failed: forgetNeighbor(slot)
        case .permanent: break
        }
    }

    /// Nobody has answered. Whoever waits is told as if a router had said it.
    private func giveUp(_ slot: UInt32) {
        let neighbor = state.pointee.neighbors[slot]
        neighbor.pointee.state = .failed
        armNeighborTimer(slot, after: NeighborTimes.failed)
        forgetRedirects(over: neighbor.pointee.address)
        // What is told may send, and so come back here: the queue is taken out first.
        var waiting = neighbor.pointee.waiting
        neighbor.pointee.waiting = FrameQueue()
        state.pointee.neighborCache.waitingCount -= waiting.count
        while let frame = waiting.removeFirst() {
            let packet = UnsafeRawPointer(frame.segmentAddress) + EthernetHeader.byteCount
            let byteCount = frame.segmentByteCount &- EthernetHeader.byteCount
            if let quotation = ICMPv4Quotation(packet, count: byteCount) {
                _ = deliver(.hostUnreachable, about: quotation)
            } else if let quotation = ICMPv6Quotation(packet, count: byteCount) {
                _ = deliver(.hostUnreachable, about: quotation)
            }
            drop(frame, .neighborUnreachable)
        }
    }
}
