import EthernetDevice
import WireFormats

/// A station without a stack: it sends whatever it is told to, and shows what it receives. The checker counts its frames as forged.
public final class RawHost: SimulatedNode {
    public let name: String
    public let macAddress: MACAddress
    public let address: IPAddress
    /// Gets every frame that arrives.
    public var onFrame: (([UInt8]) -> Void)?
    public private(set) var receivedFrames: UInt64 = 0
    var interface: UInt32?
    private unowned let simulation: Simulation
    private var end: LinkEnd?

    init(_ name: String, number: UInt32, simulation: Simulation) {
        self.name = name
        self.simulation = simulation
        (macAddress, address) = Simulation.addresses(ofHost: number)
    }

    public func attach(_ end: LinkEnd) -> Int {
        precondition(self.end == nil, "a raw host has one link")
        self.end = end
        return 0
    }

    public func receive(_ frame: SimulatedFrame, port: Int) {
        receivedFrames += 1
        if let interface { simulation.capture(frame, interface: interface, direction: .inbound) }
        onFrame?(frame.bytes)
    }

    /// Sends a whole frame, from the destination address on.
    public func send(_ bytes: [UInt8]) {
        let frame = SimulatedFrame(bytes, isForged: true)
        if let interface { simulation.capture(frame, interface: interface, direction: .outbound) }
        end?.send(frame)
    }
}
