import DatapathMemory

/// A device that writes every frame to a capture, in both directions, and else is the device that it wraps.
///
/// An outbound frame is captured when the device has taken it, with what the stack gave: a checksum that the device completes is not complete there. An
/// inbound frame is captured as it is given to the caller.
public enum CapturingDevice {
    /// Wraps a device, which is closed with the returned one and not used by itself any more. The writer stays the caller's: it is closed after the
    /// device.
    /// - Parameters:
    ///   - interfaceName: what the device is called in the capture.
    ///   - snapshotByteCount: bytes of a frame that are kept; the device's `maximumFrameByteCount` at most.
    /// - Throws: what `PacketCaptureWriter.addInterface` throws; the device is as it was.
    public static func wrap(
        _ device: EthernetDevice, writer: PacketCaptureWriter, interfaceName: String, snapshotByteCount: Int = .max
    ) throws(DemikernelError) -> EthernetDevice {
        let snapshotByteCount = min(max(snapshotByteCount, 1), device.capabilities.maximumFrameByteCount)
        let interface = try writer.addInterface(
            name: interfaceName, macAddress: device.capabilities.macAddress, snapshotByteCount: snapshotByteCount)
        let state = UnsafeMutablePointer<CapturingState>.allocate(capacity: 1)
        state.initialize(to: CapturingState(device, writer, interface, snapshotByteCount))
        return EthernetDevice(
            name: device.name, context: UnsafeMutableRawPointer(state), capabilities: device.capabilities,
            close: { CapturingState.at($0).close() },
            attach: { CapturingState.at($0).pointee.device.attachFunction(CapturingState.at($0).pointee.device.context, $1) },
            transmit: { Int32(truncatingIfNeeded: CapturingState.at($0).transmit($1.assumingMemoryBound(to: Frame.self), Int($2))) },
            receive: { Int32(truncatingIfNeeded: CapturingState.at($0).receive($1.assumingMemoryBound(to: Frame.self), Int($2))) },
            prepareToSleep: { CapturingState.at($0).prepareToSleep() },
            statistics: { CapturingState.at($0).pointee.device.statisticsFunction(CapturingState.at($0).pointee.device.context, $1) })
    }

    /// Ends the capture of a device that `wrap` returned, and is not to be used any more.
    /// - Returns: the device that was wrapped, as if it had never been.
    public static func unwrap(_ capturing: EthernetDevice) -> EthernetDevice {
        let state = CapturingState.at(capturing.context)
        let device = state.pointee.device
        state.deallocateAll()
        return device
    }
}

private struct CapturingState {
    let device: EthernetDevice
    let writer: PacketCaptureWriter
    let interface: UInt32
    let snapshotByteCount: Int
    /// Blocks of frames that the device is about to be given: it may take fewer, and the bytes of those that it takes are gone.
    let stage: UnsafeMutableRawPointer
    let stageByteCount: Int

    /// The most frames that the device is given at once.
    static let stagedFrames = 32

    init(_ device: EthernetDevice, _ writer: PacketCaptureWriter, _ interface: UInt32, _ snapshotByteCount: Int) {
        self.device = device
        self.writer = writer
        self.interface = interface
        self.snapshotByteCount = snapshotByteCount
        // At least one frame fits.
        stageByteCount = max(64 << 10, CaptureBlock.packetByteCount(snapshotByteCount))
        stage = UnsafeMutableRawPointer.allocate(byteCount: stageByteCount, alignment: 16)
    }

    static func at(_ context: UnsafeMutableRawPointer) -> UnsafeMutablePointer<CapturingState> {
        context.assumingMemoryBound(to: CapturingState.self)
    }
}

extension UnsafeMutablePointer<CapturingState> {
    fileprivate func transmit(_ frames: UnsafeMutablePointer<Frame>, _ count: Int) -> Int {
        var taken = 0
        while taken < count {
            let staged = stage(frames + taken, count - taken)
            let accepted = pointee.device.transmit(frames + taken, count: staged)
            writeStage(accepted)
            taken += accepted
            if accepted < staged { break }
        }
        return taken
    }

    /// Encodes the first frames, as many as fit.
    /// - Returns: how many, at least one.
    private func stage(_ frames: UnsafeMutablePointer<Frame>, _ count: Int) -> Int {
        let time = pointee.writer.now
        var used = 0
        var staged = 0
        while staged < Swift.min(count, CapturingState.stagedFrames) {
            let captured = Swift.min(frames[staged].arrayByteCount, pointee.snapshotByteCount)
            let byteCount = CaptureBlock.packetByteCount(captured)
            guard byteCount <= pointee.stageByteCount - used else { break }
            CaptureBlock.encodePacket(
                frames[staged], capturedByteCount: captured, interface: pointee.interface, direction: .outbound, time: time, to: pointee.stage + used)
            used += byteCount
            staged += 1
        }
        return staged
    }

    /// Writes the first `count` blocks of the stage.
    private func writeStage(_ count: Int) {
        var block = UnsafeRawPointer(pointee.stage)
        for _ in 0..<count {
            let byteCount = Int(block.load(fromByteOffset: 4, as: UInt32.self))
            pointee.writer.writeEncodedPacket(block, byteCount)
            block += byteCount
        }
    }

    fileprivate func receive(_ frames: UnsafeMutablePointer<Frame>, _ capacity: Int) -> Int {
        let count = pointee.device.receive(frames, capacity: capacity)
        if count > 0 {
            let time = pointee.writer.now
            for index in 0..<count {
                pointee.writer.write(
                    frames[index], interface: pointee.interface, direction: .inbound, time: time, snapshotByteCount: pointee.snapshotByteCount)
            }
        } else {
            pointee.writer.flushWhenIdle()
        }
        return count
    }

    /// Nobody is in a hurry: who reads the file along sees all of it now.
    fileprivate func prepareToSleep() -> Int32 {
        pointee.writer.flush()
        return pointee.device.prepareToSleep()
    }

    fileprivate func close() {
        pointee.device.close()
        pointee.writer.flush()
        deallocateAll()
    }

    fileprivate func deallocateAll() {
        pointee.stage.deallocate()
        deinitialize(count: 1)
        deallocate()
    }
}
