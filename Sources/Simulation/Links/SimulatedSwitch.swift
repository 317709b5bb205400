import WireFormats

/// An Ethernet switch: it learns where stations are from what they send, and floods what it does not know, broadcasts and groups.
public final class SimulatedSwitch: SimulatedNode {
    public let name: String
    /// Stations that the switch remembers; further ones are flooded to.
    public let capacity: Int
    private var ends: [LinkEnd] = []
    private var ports: [UInt64: Int] = [:]
    /// Frames that went to every port.
    public private(set) var floodedFrames: UInt64 = 0
    public var learntStationCount: Int { ports.count }

    init(_ name: String, capacity: Int) {
        self.name = name
        self.capacity = capacity
    }

    public func attach(_ end: LinkEnd) -> Int {
        ends.append(end)
        return ends.count - 1
    }

    public func receive(_ frame: SimulatedFrame, port: Int) {
        guard frame.bytes.count >= EthernetHeader.byteCount else { return }
        let (destination, source) = frame.bytes.withUnsafeBytes { bytes in
            (MACAddress(at: bytes.baseAddress!), MACAddress(at: bytes.baseAddress! + 6))
        }
        if !source.isGroup, ports[source.value] != nil || ports.count < capacity { ports[source.value] = port }
        if !destination.isGroup, let known = ports[destination.value] {
            if known != port { ends[known].send(frame) }
            return
        }
        floodedFrames += 1
        for index in ends.indices where index != port { ends[index].send(frame) }
    }
}
