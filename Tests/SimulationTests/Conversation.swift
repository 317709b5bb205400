import QueueRuntime
import WireFormats

@testable import Simulation

/// A conversation that is made by hand and shown to the checker.
struct Conversation {
    let world = Simulation(seed: 1)
    let client: SimulatedHost
    let server: SimulatedHost

    let family: AddressFamily

    /// - Parameter conduct: what the server is held to; nil for nothing.
    init(_ family: AddressFamily = .ipv4, conduct: Conduct? = nil) throws {
        self.family = family
        var settings = SimulatedHost.Settings()
        settings.speaksIPv6 = family == .ipv6
        client = try world.makeHost("client", settings)
        server = try world.makeHost("server", settings)
        if let conduct { world.checker.expect(conduct, of: server) }
    }

    /// Of a host with the limits that are standard, but for those given.
    static func conduct(maximumSegmentSize: Int = 500, reassemblyPieces: Int = 4_096, resetsPerSecond: Int = 1_000) -> Conduct {
        Conduct(
            minimumRetransmissionTimeout: 200_000_000, maximumSegmentSize: maximumSegmentSize, reassemblyPieces: reassemblyPieces, challengesPerSecond: 10,
            acknowledgementsPerSecond: 100, resetsPerSecond: resetsPerSecond, timeWait: 0, asksForNeighbors: false)
    }

    var violations: [String] { world.checker.violations }

    /// A segment of the client (`isBack`: of the server), which the other one receives unless it is lost, in the same millisecond.
    func send(
        isBack: Bool = false, _ flags: TCPFlags, sequence: UInt32, acknowledgement: UInt32 = 0, window: UInt16 = 1_000, options: [UInt8] = [],
        byteCount: Int = 0, isLost: Bool = false, at milliseconds: UInt64 = 0, mayHaveWaited: Bool = false,
        damage: ((inout [UInt8]) -> Void)? = nil
    ) {
        let (from, to) = isBack ? (server, client) : (client, server)
        let (fromPort, toPort): (UInt16, UInt16) = isBack ? (80, 5_000) : (5_000, 80)
        var segment = ForgedFrame.Segment(
            from: Endpoint(address: from.address(family), port: fromPort), to: Endpoint(address: to.address(family), port: toPort))
        segment.flags = flags
        segment.sequence = sequence
        segment.acknowledgement = acknowledgement
        segment.window = window
        segment.options = options
        segment.payload = [UInt8](repeating: 7, count: byteCount)
        var frame = ForgedFrame.tcp(segment, from: from.macAddress, to: to.macAddress)
        damage?(&frame)
        let time = milliseconds * 1_000_000
        world.checker.transmitted(frame, by: from, at: time, mayHaveWaited: mayHaveWaited)
        if !isLost { world.checker.received(SimulatedFrame(frame), by: to, at: time) }
    }

    /// The client's numbers begin at 100, the server's at 900.
    func shakeHands(options: [UInt8] = [], segmentSize: UInt16 = 500, window: UInt16 = 1_000) {
        let size: [UInt8] = [2, 4, UInt8(segmentSize >> 8), UInt8(truncatingIfNeeded: segmentSize)]
        send(.syn, sequence: 100, window: window, options: size + options)
        send(isBack: true, [.syn, .ack], sequence: 900, acknowledgement: 101, window: window, options: size + options)
        send(.ack, sequence: 101, acknowledgement: 901, window: window, options: options)
    }
}
