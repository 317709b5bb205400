import EthernetDevice

/// A device that shows each received frame to an observer before its user gets it, and else is the device that it wraps.
enum ObservedDevice {
    /// Wraps a device, which is closed with the returned one. The observer is set before the first `receive`.
    static func wrap(_ device: EthernetDevice) -> (device: EthernetDevice, observation: Observation) {
        let observation = Observation(device)
        let wrapped = EthernetDevice(
            name: device.name, context: Unmanaged.passRetained(observation).toOpaque(), capabilities: device.capabilities,
            close: { context in
                Observation.at(context).device.close()
                Unmanaged<Observation>.fromOpaque(context).release()
            },
            attach: { Observation.at($0).device.attachFunction(Observation.at($0).device.context, $1) },
            transmit: { Observation.at($0).device.transmitFunction(Observation.at($0).device.context, $1, $2) },
            receive: { context, frames, capacity in
                let observation = Observation.at(context)
                let frames = frames.assumingMemoryBound(to: Frame.self)
                let count = observation.device.receive(frames, capacity: Int(capacity))
                for index in 0..<count { observation.observe?(frames[index].segmentAddress, frames[index].segmentByteCount) }
                return Int32(count)
            },
            prepareToSleep: { Observation.at($0).device.prepareToSleep() },
            statistics: { Observation.at($0).device.statisticsFunction(Observation.at($0).device.context, $1) })
        return (wrapped, observation)
    }

    final class Observation {
        fileprivate let device: EthernetDevice
        var observe: ((UnsafeRawPointer, Int) -> Void)?

        fileprivate init(_ device: EthernetDevice) {
            self.device = device
        }

        fileprivate static func at(_ context: UnsafeMutableRawPointer) -> Observation {
            Unmanaged<Observation>.fromOpaque(context).takeUnretainedValue()
        }
    }
}
