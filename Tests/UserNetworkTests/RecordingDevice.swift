import EthernetDevice

/// Remembers where the frames lay that a device gave to the stack.
final class FrameRecorder {
    private struct State {
        let device: EthernetDevice
        var start: UInt = 0
        var byteCount = 0
        var sent: UInt = 0
    }

    private var state: UnsafeMutablePointer<State>?

    /// The memory of the last received frame of more than 100 bytes: none of the bare headers.
    var last: Range<UInt>? {
        guard let state, state.pointee.byteCount > 0 else { return nil }
        return state.pointee.start..<state.pointee.start + UInt(state.pointee.byteCount)
    }

    /// Where the last frame lay that the stack sent and that has more than 100 bytes; 0 for none.
    var lastSent: UInt { state?.pointee.sent ?? 0 }

    func reset() {
        state?.pointee.byteCount = 0
    }

    func wrap(_ device: EthernetDevice) -> EthernetDevice {
        // Lives as long as the process.
        let state = UnsafeMutablePointer<State>.allocate(capacity: 1)
        state.initialize(to: State(device: device))
        self.state = state
        return EthernetDevice(
            name: device.name, context: UnsafeMutableRawPointer(state), capabilities: device.capabilities,
            close: { $0.assumingMemoryBound(to: State.self).pointee.device.close() },
            attach: { context, heap in
                let device = context.assumingMemoryBound(to: State.self).pointee.device
                return device.attachFunction(device.context, heap)
            },
            transmit: { context, frames, count in
                let state = context.assumingMemoryBound(to: State.self)
                let device = state.pointee.device
                for index in 0..<Int(count) {
                    let frame = frames.assumingMemoryBound(to: Frame.self)[index]
                    if frame.arrayByteCount > 100 { state.pointee.sent = UInt(bitPattern: frame.segmentAddress) }
                }
                return device.transmitFunction(device.context, frames, count)
            },
            receive: { context, frames, capacity in
                let state = context.assumingMemoryBound(to: State.self)
                let count = state.pointee.device.receiveFunction(state.pointee.device.context, frames, capacity)
                for index in 0..<Int(count) {
                    let frame = frames.assumingMemoryBound(to: Frame.self)[index]
                    if frame.arrayByteCount > 100 {
                        state.pointee.start = UInt(bitPattern: frame.segmentAddress)
                        state.pointee.byteCount = frame.arrayByteCount
                    }
                }
                return count
            },
            prepareToSleep: { $0.assumingMemoryBound(to: State.self).pointee.device.prepareToSleep() },
            statistics: { context, into in
                let device = context.assumingMemoryBound(to: State.self).pointee.device
                device.statisticsFunction(device.context, into)
            })
    }
}
