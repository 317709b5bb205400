import DatapathMemory

/// A device that loses, doubles, reorders, delays and damages frames as a seed tells it, and else is the device that it wraps.
///
/// The same seed, configuration and calls give the same faults. A copy that a fault needs comes from the frame's own heap at the priority of a
/// datagram; a fault for which there is no memory does not happen, and is counted.
///
/// A frame that `transmit` took is gone for the caller whatever becomes of it. While the wrapped device has no room for what comes of the frames taken,
/// no further ones are taken. While frames are held back nobody may sleep for long, so `prepareToSleep` answers `cannotWake`.
///
/// Checksums that the device would complete are withdrawn from the capabilities: a device that computes the checksum of a damaged frame hides the
/// damage. A damaged frame that arrives is not `checksumVerified` any more.
public struct FaultyDevice {
    /// What the stack is given.
    public let device: EthernetDevice
    private let state: UnsafeMutablePointer<FaultyState>

    /// Frames that the wrapped device is asked for at once.
    static let batchFrames = 64

    /// Wraps a device, which is closed with the new one and not used by itself any more.
    public static func wrap(_ device: EthernetDevice, faults: FaultConfiguration, seed: UInt64) -> FaultyDevice {
        let state = UnsafeMutablePointer<FaultyState>.allocate(capacity: 1)
        state.initialize(to: FaultyState(device, faults, seed))
        var capabilities = device.capabilities
        capabilities.offloads.subtract([.transmitChecksumIPv4, .transmitChecksumTCP, .transmitChecksumUDP])
        let faulty = EthernetDevice(
            name: device.name, context: UnsafeMutableRawPointer(state), capabilities: capabilities,
            close: { FaultyState.at($0).close() },
            attach: { FaultyState.at($0).pointee.device.attachFunction(FaultyState.at($0).pointee.device.context, $1) },
            transmit: { Int32(truncatingIfNeeded: FaultyState.at($0).transmit($1.assumingMemoryBound(to: Frame.self), Int($2))) },
            receive: { Int32(truncatingIfNeeded: FaultyState.at($0).receive($1.assumingMemoryBound(to: Frame.self), Int($2))) },
            prepareToSleep: { FaultyState.at($0).prepareToSleep() },
            statistics: { FaultyState.at($0).pointee.device.statisticsFunction(FaultyState.at($0).pointee.device.context, $1) })
        return FaultyDevice(device: faulty, state: state)
    }

    /// What was done so far. Not after the device's close.
    public var statistics: FaultStatistics {
        var statistics = FaultStatistics()
        statistics.transmit = state.pointee.outbound.counts
        statistics.receive = state.pointee.inbound.counts
        return statistics
    }

    /// Changes the faults from the next frame on; the generators go on where they are, and what is held back stays so until it is due.
    public func setFaults(_ faults: FaultConfiguration) {
        state.pointee.outbound.faults = faults.transmit
        state.pointee.inbound.faults = faults.receive
    }
}

private struct FaultyState {
    let device: EthernetDevice
    var outbound: FaultPath
    var inbound: FaultPath
    let scratch: UnsafeMutablePointer<Frame>

    init(_ device: EthernetDevice, _ faults: FaultConfiguration, _ seed: UInt64) {
        self.device = device
        outbound = FaultPath(faults.transmit, seed: seed, index: 0)
        inbound = FaultPath(faults.receive, seed: seed, index: 1)
        scratch = UnsafeMutablePointer<Frame>.allocate(capacity: FaultyDevice.batchFrames)
    }

    static func at(_ context: UnsafeMutableRawPointer) -> UnsafeMutablePointer<FaultyState> {
        context.assumingMemoryBound(to: FaultyState.self)
    }
}

extension UnsafeMutablePointer<FaultyState> {
    fileprivate func transmit(_ frames: UnsafeMutablePointer<Frame>, _ count: Int) -> Int {
        if pointee.outbound.isTransparent {
            let taken = pointee.device.transmit(frames, count: count)
            pointee.outbound.countPassed(taken)
            return taken
        }
        submitReady()
        var taken = 0
        while taken < count, !pointee.outbound.hasReadyFrame {
            pointee.outbound.process(frames[taken])
            taken += 1
            submitReady()
        }
        return taken
    }

    /// Gives the device what is ready, as far as it takes it.
    private func submitReady() {
        while pointee.outbound.hasReadyFrame, pointee.device.transmit(pointee.outbound.first) { pointee.outbound.removeFirst() }
    }

    fileprivate func receive(_ frames: UnsafeMutablePointer<Frame>, _ capacity: Int) -> Int {
        pointee.outbound.poll()
        submitReady()
        pointee.inbound.poll()
        if pointee.inbound.isTransparent {
            let given = pointee.device.receive(frames, capacity: capacity)
            pointee.inbound.countPassed(given)
            return given
        }
        var given = 0
        // No more than `capacity` are asked for, also when all are lost: a flood must not keep the caller here.
        var asked = 0
        while given < capacity {
            if pointee.inbound.hasReadyFrame {
                frames[given] = pointee.inbound.first
                pointee.inbound.removeFirst()
                given += 1
                continue
            }
            let batch = Swift.min(FaultyDevice.batchFrames, capacity - Swift.max(given, asked))
            guard batch > 0 else { break }
            let count = pointee.device.receive(pointee.scratch, capacity: batch)
            guard count > 0 else { break }
            asked += count
            for index in 0..<count { pointee.inbound.process(pointee.scratch[index]) }
        }
        return given
    }

    fileprivate func prepareToSleep() -> Int32 {
        let wakeUp = pointee.device.prepareToSleep()
        return pointee.outbound.isEmpty && pointee.inbound.isEmpty ? wakeUp : EthernetDevice.cannotWake
    }

    fileprivate func close() {
        pointee.outbound.close()
        pointee.inbound.close()
        pointee.device.close()
        pointee.scratch.deallocate()
        deinitialize(count: 1)
        deallocate()
    }
}
