import WireFormats

/// An Ethernet switch: it learns where stations are from what they send, and floods what it does not know, broadcasts and groups; groups beyond the link
/// only to where somebody has reported them, if it snoops.
public final class SimulatedSwitch: SimulatedNode {
    public let name: String
    /// Stations that the switch remembers; further ones are flooded to.
    public let capacity: Int
    private unowned let simulation: Simulation
    private var ends: [LinkEnd] = []
    private var ports: [UInt64: Int] = [:]
    private var snooping: GroupSnooping?
    /// Frames that went to every port.
    public private(set) var floodedFrames: UInt64 = 0
    public var learntStationCount: Int { ports.count }

    init(_ name: String, capacity: Int, simulation: Simulation) {
        self.name = name
        self.capacity = capacity
        self.simulation = simulation
    }

    public func attach(_ end: LinkEnd) -> Int {
        ends.append(end)
        return ends.count - 1
    }

    /// Sends groups where they are listened to, and asks who listens, from now on.
    public func beginSnooping(_ snooping: GroupSnooping) {
        self.snooping = snooping
        query()
    }

    /// Asks no more; what is known counts until its time is over.
    public func endQuerying() { isQuerying = false }

    private var isQuerying = true

    private func query() {
        guard let snooping, isQuerying else { return }
        for frame in snooping.queries {
            for end in ends { end.send(SimulatedFrame(frame)) }
        }
        simulation.schedule(after: snooping.queryInterval) { [weak self] in self?.query() }
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
        snooping?.observe(frame.bytes, port: port, at: simulation.now)
        let listeners = destination.isGroup ? snooping?.ports(frame.bytes, at: simulation.now) : nil
        if listeners == nil { floodedFrames += 1 }
        for index in ends.indices where index != port && listeners?.contains(index) ?? true { ends[index].send(frame) }
    }
}
