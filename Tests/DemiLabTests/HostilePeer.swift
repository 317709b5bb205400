import Foundation
import Testing

@testable import DemiLab

/// A peer that brings connections into every state of TCP and then sends what is nearly right: segments of the connection with wrong bits, lengths,
/// numbers and options, most of them under right checksums. Meanwhile the program makes its calls, and time goes by.
final class HostilePeer {
    /// Where a connection stands when the hostile frames begin (RFC 9293, section 3.3.2), and some of what it may hold there.
    enum Stage: CaseIterable {
        case listen, synSent, synReceived, established, dataInFlight, reassembling, zeroWindow
        case finWait1, finWait2, closing, timeWait, closeWait, lastAcknowledgement, datagram
    }

    let script: Script
    private var random: SplitMix
    private let listener: Int
    private var nextPort: UInt16 = 1_024
    /// The program's queues and pending tokens.
    private var queues: [Int] = []
    private var tokens: [UInt64] = []
    /// The accepted connections by their peers' ports.
    private var peerPorts: [UInt16: Int] = [:]
    // The connection under attack, as the peer sees it.
    private var peerPort: UInt16 = 0
    private var localPort: UInt16 = 12345
    private var sequence: UInt32 = 0
    private var acknowledgement: UInt32 = 0
    private let hasTimestamps: Bool
    /// Frames that the stack sent that no stack should send.
    private(set) var malformed: [String] = []

    init(seed: UInt64, timestamps: Bool) throws {
        random = SplitMix(seed: seed)
        hasTimestamps = timestamps
        script = Script()
        let start = Script.start.replacingOccurrences(of: #""timestamps":false"#, with: #""timestamps":\#(timestamps)"#)
            .replacingOccurrences(of: #""wscale":0"#, with: #""wscale":\#(timestamps ? 3 : 0)"#)
        #expect(try script.send(start)["ok"] as? Bool == true)
        listener = try script.listen(backlog: 64)
    }

    /// Brings a connection to `stage` and sends `count` hostile frames.
    func attack(_ stage: Stage, count: Int) throws {
        try reach(stage)
        for _ in 0..<count {
            let frame = makeFrame()
            try script.receive(frame)
            if random.chance(3, in: 4) { try poll() }
            if random.chance(1, in: 8) { try callSomething() }
            if random.chance(1, in: 10) { try script.advance(by: [1_000, 1_000_000, 300_000_000, 1_500_000_000][random.below(4)]) }
        }
        try poll()
        try closeAll()
    }

    /// Closes what is left, the listener too, and lets every timer run out.
    func end() throws {
        queues.append(listener)
        try closeAll()
        for _ in 0..<150 {
            try script.advance(by: 10_000_000_000)
            try poll()
        }
        try collect()
        #expect(tokens.isEmpty, "an operation of a closed queue is still pending")
    }

    /// Whether an honest peer is served.
    func isServed() throws -> Bool {
        try poll()
        peerPort = freshPort()
        try script.receive(Packet(flags: .syn, sourcePort: peerPort, sequence: 7, maximumSegmentSize: 1450).frame)
        let answers = try poll().compactMap(Packet.init(frame:)).filter { $0.destinationPort == peerPort }
        guard let answer = answers.first, answer.flags == [.syn, .ack], answer.acknowledgement == 8 else { return false }
        try script.receive(
            Packet(flags: [.ack, .psh], sourcePort: peerPort, sequence: 8, acknowledgement: answer.sequence &+ 1, payload: [1, 2, 3]).frame)
        try poll()
        try collect()
        // Connections of the attack may come first.
        for _ in 0..<64 where peerPorts[peerPort] == nil {
            tokens.append(try script.begin("accept", #""qd":\#(listener)"#))
            try collect()
        }
        guard let connection = peerPorts[peerPort] else { return false }
        let pop = try script.begin("pop", #""qd":\#(connection)"#)
        let isServed = try script.result(pop)["data"] as? String == "010203"
        try closeAll()
        return isServed
    }

    // MARK: Stages

    private func freshPort() -> UInt16 {
        nextPort = nextPort == .max ? 1_024 : nextPort + 1
        return nextPort
    }

    private func reach(_ stage: Stage) throws {
        peerPort = freshPort()
        localPort = 12345
        sequence = UInt32(truncatingIfNeeded: random.next())
        acknowledgement = 0
        switch stage {
        case .listen: break
        case .datagram:
            let socket = try script.socket("dgram")
            queues.append(socket)
            try script.call("bind", #""qd":\#(socket),"ip":"192.168.1.1","port":0"#)
            tokens.append(try script.begin("pop", #""qd":\#(socket)"#))
            tokens.append(try script.begin("pushto", #""qd":\#(socket),"ip":"192.168.1.2","port":9,"data":"aa""#))
            localPort = try poll().compactMap(Packet.init(frame:)).last?.sourcePort ?? 12345
        case .synSent:
            let socket = try script.socket("stream")
            queues.append(socket)
            tokens.append(try script.begin("connect", #""qd":\#(socket),"ip":"192.168.1.2","port":\#(peerPort)"#))
            let synchronize = try #require(try poll().compactMap(Packet.init(frame:)).last { $0.flags == .syn && $0.destinationPort == peerPort })
            localPort = synchronize.sourcePort
            acknowledgement = synchronize.sequence &+ 1
        default:
            try handshake(completes: stage != .synReceived)
            if stage != .synReceived { try proceed(to: stage) }
        }
    }

    private func handshake(completes: Bool) throws {
        if completes { tokens.append(try script.begin("accept", #""qd":\#(listener)"#)) }
        var synchronize = segment(.syn)
        synchronize.options = [2, 4, 5, 0xaa] + (hasTimestamps ? [1, 3, 3, 7] + timestamps() : [])
        try receive(synchronize)
        guard completes else { return }
        try receive(segment(.ack))
        try collect()
    }

    private func proceed(to stage: Stage) throws {
        guard let queue = queues.last else { return }
        switch stage {
        case .dataInFlight: for byteCount in [10, 1_450, 3_000] { try push(queue, byteCount) }
        case .reassembling:
            for offset: UInt32 in [3_000, 1_000, 9_000, 1_500] {
                try receive(segment(.ack, offset: offset, payload: [UInt8](repeating: 7, count: 700)))
            }
        case .zeroWindow:
            var closed = segment(.ack)
            closed.window = 0
            try receive(closed)
            try push(queue, 2_000)
        case .finWait1: try shutDown(queue)
        case .finWait2:
            try shutDown(queue)
            try poll()
            try receive(segment(.ack))
        case .closing:
            let early = segment([.fin, .ack])
            try shutDown(queue)
            try receive(early)
        case .timeWait:
            try shutDown(queue)
            try poll()
            try receive(segment([.fin, .ack]))
        case .closeWait: try receive(segment([.fin, .ack]))
        case .lastAcknowledgement:
            try receive(segment([.fin, .ack]))
            try shutDown(queue)
        default: break
        }
        try poll()
    }

    private func shutDown(_ queue: Int) throws {
        try script.send(#"{"op":"call","fn":"shutdown","qd":\#(queue),"how":1}"#)
    }

    // MARK: Frames

    private func timestamps() -> [UInt8] {
        // The stack's millisecond clock, more or less, and so never older than what was sent before.
        [1, 1, 8, 10] + bigEndian(UInt32(truncatingIfNeeded: script.now >> 20)) + bigEndian(UInt32(0))
    }

    private func segment(_ flags: Packet.Flags, offset: UInt32 = 0, payload: [UInt8] = []) -> Packet {
        var packet = Packet(
            flags: flags, sourcePort: peerPort, destinationPort: localPort, sequence: sequence &+ offset,
            acknowledgement: flags.contains(.ack) ? acknowledgement : 0, payload: payload)
        if hasTimestamps { packet.options = timestamps() }
        return packet
    }

    private func makeFrame() -> [UInt8] {
        var packet = segment(Packet.Flags(rawValue: [16, 16, 16, 24, 24, 24, 17, 4, 20, 2, 18, 0, 63, UInt8(random.below(256))][random.below(14)]))
        if random.chance(1, in: 12) { packet.protocolNumber = [17, 17, 1, UInt8(random.below(256))][random.below(4)] }
        packet.payload = [UInt8](repeating: UInt8(random.below(256)), count: [0, 0, 1, 2, 700, 1_448][random.below(6)])
        switch random.below(6) {
        case 0: packet.sequence = sequence &+ UInt32(random.below(70_000))
        case 1: packet.sequence = sequence &- UInt32(random.below(3_000))
        case 2: packet.acknowledgement = acknowledgement &+ UInt32(random.below(6_000))
        case 3: packet.acknowledgement = acknowledgement &- UInt32(random.below(70_000))
        case 4: packet.sequence = [0, 0x7fff_ffff, 0x8000_0000, .max][random.below(4)] &+ (random.chance(1, in: 2) ? sequence : 0)
        default: break
        }
        if random.chance(1, in: 4) { packet.window = [0, 1, 100, .max][random.below(4)] }
        if random.chance(1, in: 4) { packet.options = makeOptions() }
        var frame = packet.frame
        mutate(&frame)
        if random.chance(3, in: 4) { Packet.completeChecksums(&frame) }
        return frame
    }

    /// Options of odd kinds and lengths, up to 40 bytes.
    private func makeOptions() -> [UInt8] {
        var options: [UInt8] = []
        while options.count < 40, random.chance(7, in: 8) {
            options.append([0, 1, 2, 3, 4, 5, 8, 19, 28, 34, UInt8(random.below(256))][random.below(11)])
            if random.chance(3, in: 4) { options.append([0, 1, 2, 3, 4, 10, 18, UInt8(random.below(256))][random.below(8)]) }
            for _ in 0..<random.below(9) { options.append(UInt8(random.below(256))) }
        }
        options = Array(options.prefix(40))
        return options + [UInt8](repeating: 0, count: (4 - options.count % 4) % 4)
    }

    private func mutate(_ frame: inout [UInt8]) {
        guard random.chance(2, in: 3) else { return }
        for _ in 0...random.below(3) {
            switch random.below(8) {
            case 0: frame.removeLast(min(frame.count, 1 + random.below(random.chance(1, in: 2) ? 4 : max(frame.count, 1))))
            case 1: frame += [UInt8](repeating: UInt8(random.below(256)), count: random.below(60))
            case 2 where frame.count > 17: frame.replaceSubrange(16..<18, with: bigEndian(UInt16(random.below(1_600))))
            case 3 where frame.count > 46: frame[46] = UInt8(random.below(256))
            case 4 where frame.count > 21: frame[20 + random.below(2)] ^= UInt8(1 << random.below(8))
            case 5 where !frame.isEmpty: frame[random.below(frame.count)] ^= UInt8(1 << random.below(8))
            default:
                // Behind the addresses, where a bit changes what the segment means.
                if frame.count > 38 { frame[38 + random.below(min(frame.count - 38, 60))] ^= UInt8(1 << random.below(8)) }
            }
        }
    }

    // MARK: The program

    private func receive(_ packet: Packet) throws {
        try script.receive(packet.frame)
        try poll()
    }

    private func push(_ queue: Int, _ byteCount: Int) throws {
        let data = [UInt8](repeating: 0x5a, count: byteCount).hexadecimal
        let reply = try script.send(#"{"op":"call","fn":"push","qd":\#(queue),"data":"\#(data)"}"#)
        if let token = reply["qt"] as? NSNumber { tokens.append(token.uint64Value) }
    }

    private func callSomething() throws {
        guard let queue = queues.last else { return }
        let calls = [
            #""pop","qd":\#(queue)"#, #""pop","qd":\#(queue)"#, #""push","qd":\#(queue),"data":"01020304""#, #""accept","qd":\#(listener)"#,
            #""shutdown","qd":\#(queue),"how":\#(random.below(3))"#, #""close","qd":\#(queue)"#,
        ]
        let reply = try script.send(#"{"op":"call","fn":\#(calls[random.below(calls.count)])}"#)
        if let token = reply["qt"] as? NSNumber { tokens.append(token.uint64Value) }
        try collect()
    }

    /// Takes the results that are there.
    private func collect() throws {
        var pending: [UInt64] = []
        for token in tokens {
            let reply = try script.result(token)
            if reply["done"] as? Bool != true { pending.append(token) }
            if let queue = reply["new_qd"] as? Int, let port = reply["port"] as? Int {
                queues.append(queue)
                peerPorts[UInt16(port)] = queue
            }
        }
        tokens = pending
    }

    private func closeAll() throws {
        try collect()
        for queue in queues {
            let reply = try script.send(#"{"op":"call","fn":"close","qd":\#(queue)}"#)
            if let token = reply["qt"] as? NSNumber { tokens.append(token.uint64Value) }
        }
        queues = []
        peerPorts = [:]
        try poll()
        try collect()
    }

    @discardableResult
    private func poll() throws -> [[UInt8]] {
        let texts = try #require(try script.send(#"{"op":"poll"}"#)["tx"] as? [String])
        let frames = texts.compactMap { [UInt8](hexadecimal: $0) }
        for frame in frames {
            if let packet = Packet(frame: frame) {
                follow(packet)
            } else if !isControl(frame) {
                malformed.append(frame.hexadecimal)
            }
        }
        return frames
    }

    /// Keeps to the numbers that the stack expects, so that what is wrong with a frame is what was made so.
    private func follow(_ packet: Packet) {
        guard packet.protocolNumber == 6, packet.destinationPort == peerPort, packet.flags.contains(.ack), !packet.flags.contains(.rst) else { return }
        sequence = packet.acknowledgement
        let length = packet.payload.count + (packet.flags.isDisjoint(with: [.syn, .fin]) ? 0 : 1)
        acknowledgement = packet.sequence &+ UInt32(length)
    }

    /// ARP, or ICMP in a packet with right checksums.
    private func isControl(_ frame: [UInt8]) -> Bool {
        guard frame.count >= 42 else { return false }
        if frame[12...13] == [8, 6] { return true }
        var copy = frame
        Packet.completeChecksums(&copy)
        return frame[12...13] == [8, 0] && frame[23] == 1 && copy[24..<26] == frame[24..<26]
    }
}

/// SplitMix64 (Steele, Lea, Flood, OOPSLA 2014).
struct SplitMix {
    private var state: UInt64

    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var value = state
        value = (value ^ (value >> 30)) &* 0xbf58_476d_1ce4_e5b9
        value = (value ^ (value >> 27)) &* 0x94d0_49bb_1331_11eb
        return value ^ (value >> 31)
    }

    mutating func below(_ limit: Int) -> Int { Int(next() % UInt64(limit)) }

    mutating func chance(_ favourable: Int, in cases: Int) -> Bool { below(cases) < favourable }
}
