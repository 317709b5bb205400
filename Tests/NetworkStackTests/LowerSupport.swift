import DatapathMemory
import EthernetDevice
import NetworkStack
import Testing
import WireFormats

/// A stack of its own with a link of its own: bytes go in, bytes come out, and the time is what the test says.
final class LowerHost {
    static let macAddress = MACAddress(value: 0x0200_0000_0001)
    static let address = IPAddress.ipv4(10, 0, 0, 1)
    static let broadcast = IPAddress.ipv4(10, 0, 0, 255)
    static let gateway = IPAddress.ipv4(10, 0, 0, 254)

    let heap: DatapathHeap
    let stack: NetworkStack
    private(set) var now: UInt64 = 1_000_000_000_000
    private var hasEnded = false

    /// A host 10.0.0.1/24 with a default route over 10.0.0.254.
    init(arenaByteCount: Int = 16 << 20, _ configure: (inout NetworkConfiguration) -> Void = { _ in }) throws {
        heap = try DatapathHeap(MemoryConfiguration(arenaByteCount: arenaByteCount, commitsAtStart: false))
        var configuration = NetworkConfiguration(
            macAddress: LowerHost.macAddress, addresses: [IPv4Prefix(address: LowerHost.address, length: 24)], seed: 42)
        configuration.routes = [.init(destination: IPv4Prefix(address: .unspecifiedIPv4, length: 0), gateway: LowerHost.gateway)]
        configure(&configuration)
        stack = try NetworkStack(configuration, heap: heap, now: now)
    }

    deinit {
        if !hasEnded { stack.deallocate() }
        heap.close()
    }

    /// Ends the stack, after which nothing may be left in the heap.
    func end() {
        hasEnded = true
        stack.deallocate()
        #expect(heap.statistics.liveBlocks == 0)
        #expect(heap.statistics.liveSegments == 0)
    }

    // MARK: In

    /// A frame of the heap with these bytes, in segments of the given lengths; the last one takes the rest.
    func makeFrame(_ bytes: [UInt8], cutAt lengths: [Int] = []) -> Frame {
        var rest = bytes[...]
        var pieces = lengths.map { length in
            defer { rest = rest.dropFirst(length) }
            return Array(rest.prefix(length))
        }
        pieces.append(Array(rest))
        let frame = makeSegment(pieces[0])
        var last = frame
        for piece in pieces.dropFirst() {
            let segment = makeSegment(piece)
            frame.append(segment, behind: last)
            last = segment
        }
        return frame
    }

    private func makeSegment(_ bytes: [UInt8]) -> Frame {
        let segment = Frame.makeSegment(heap, byteCount: bytes.count, priority: .reserve)!
        bytes.withUnsafeBytes { if let base = $0.baseAddress { segment.segmentAddress.copyMemory(from: base, byteCount: $0.count) } }
        segment.frameFlags = []
        return segment
    }

    func receive(_ bytes: [UInt8], cutAt lengths: [Int] = [], flags: FrameFlags = []) {
        let frame = makeFrame(bytes, cutAt: lengths)
        frame.frameFlags = flags
        stack.receive(frame)
    }

    // MARK: Out

    /// What the stack has sent since the last call.
    func output() -> [[UInt8]] {
        var result: [[UInt8]] = []
        withUnsafeTemporaryAllocation(of: Frame.self, capacity: 16) { frames in
            while true {
                let count = stack.takeOutput(into: frames.baseAddress!, capacity: 16)
                if count == 0 { return }
                for frame in frames.prefix(count) {
                    result.append(bytes(of: frame))
                    frame.releaseArray()
                }
            }
        }
        return result
    }

    func bytes(of array: Frame) -> [UInt8] {
        [UInt8](unsafeUninitializedCapacity: array.arrayByteCount) { buffer, count in
            if let base = buffer.baseAddress { array.copyArray(to: base) }
            count = array.arrayByteCount
        }
    }

    // MARK: Time

    func advance(seconds: UInt64 = 0, milliseconds: UInt64 = 0) {
        now += seconds * 1_000_000_000 + milliseconds * 1_000_000
        stack.advance(to: now)
    }

    // MARK: State

    func drops(_ reason: DropReason) -> UInt64 { stack.statistics.drops[reason] }

    // MARK: Sockets

    /// A datagram's payload and its sender; nil for none.
    func takeDatagram(_ socket: UInt32) -> (bytes: [UInt8], source: Endpoint)? {
        guard let (payload, source, _) = stack.receiveDatagram(socket) else { return nil }
        defer { payload.releaseArray() }
        return (bytes(of: payload), source)
    }

    /// Sends bytes; an array that was not taken is released.
    func sendDatagram(_ socket: UInt32, _ bytes: [UInt8], to destination: Endpoint? = nil, cutAt lengths: [Int] = []) -> Int32 {
        let array = makeFrame(bytes, cutAt: lengths)
        let error = stack.sendDatagram(socket, array, to: destination)
        if error != 0 { array.releaseArray() }
        return error
    }

    func boundSocket(_ port: UInt16, address: IPAddress = .unspecifiedIPv4, reusePort: Bool = false) -> UInt32 {
        let socket = stack.makeDatagramSocket(owner: UInt32(port))
        #expect(stack.bindDatagram(socket, to: Endpoint(address: address, port: port), reusePort: reusePort) == 0)
        return socket
    }

    /// Lets the stack learn a neighbour that asks for it.
    func introduce(_ peer: LowerPeer) {
        receive(peer.arpRequest(for: LowerHost.address))
        _ = output()
    }
}

/// Another station of the link, and what it sends.
struct LowerPeer {
    var macAddress = MACAddress(value: 0x0200_0000_0002)
    var address = IPAddress.ipv4(10, 0, 0, 2)

    init() {}

    init(_ number: UInt8) {
        macAddress = MACAddress(value: 0x0200_0000_0000 | UInt64(number))
        address = .ipv4(10, 0, 0, number)
    }

    func endpoint(_ port: UInt16) -> Endpoint { Endpoint(address: address, port: port) }

    // MARK: ARP

    func arp(
        _ operation: UInt16, sender: IPAddress? = nil, target: IPAddress, targetHardware: MACAddress = MACAddress(value: 0),
        destination: MACAddress = .broadcast
    ) -> [UInt8] {
        let packet = ARPPacket(
            operation: operation, senderHardware: macAddress, senderProtocol: sender ?? address, targetHardware: targetHardware,
            targetProtocol: target)
        return frame(EtherType.arp, to: destination, byteCount: ARPPacket.byteCount) { packet.write(to: $0) }
    }

    func arpRequest(for target: IPAddress) -> [UInt8] { arp(ARPPacket.request, target: target) }

    func arpReply() -> [UInt8] {
        arp(ARPPacket.reply, target: LowerHost.address, targetHardware: LowerHost.macAddress, destination: LowerHost.macAddress)
    }

    // MARK: IPv4

    func frame(
        _ etherType: UInt16, to destination: MACAddress = LowerHost.macAddress, byteCount: Int, _ write: (UnsafeMutableRawPointer) -> Void
    ) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: 14 + byteCount)
        bytes.withUnsafeMutableBytes {
            EthernetHeader.write(to: $0.baseAddress!, destination: destination, source: macAddress, etherType: etherType)
            write($0.baseAddress! + 14)
        }
        return bytes
    }

    /// An IPv4 packet in a frame; `edit` may spoil the header, whose checksum is made right behind it.
    func ipv4(
        _ protocolNumber: UInt8, _ payload: [UInt8], source: IPAddress? = nil, destination: IPAddress = LowerHost.address, options: [UInt8] = [],
        timeToLive: UInt8 = 64, typeOfService: UInt8 = 0, to hardware: MACAddress = LowerHost.macAddress, edit: (inout [UInt8]) -> Void = { _ in }
    ) -> [UInt8] {
        precondition(options.count % 4 == 0)
        let headerByteCount = 20 + options.count
        var packet = [UInt8](repeating: 0, count: 20)
        packet.withUnsafeMutableBytes {
            IPv4Header.write(
                to: $0.baseAddress!, totalByteCount: headerByteCount + payload.count, identification: 0x1234, dontFragment: true,
                timeToLive: timeToLive, typeOfService: typeOfService, protocolNumber: protocolNumber, source: source ?? address,
                destination: destination)
        }
        packet += options
        packet[0] = 0x40 | UInt8(headerByteCount / 4)
        edit(&packet)
        packet[10] = 0
        packet[11] = 0
        let checksum = internetChecksum(packet)
        packet[10] = UInt8(checksum >> 8)
        packet[11] = UInt8(checksum & 0xff)
        packet += payload
        return frame(EtherType.ipv4, to: hardware, byteCount: packet.count) { target in
            packet.withUnsafeBytes { target.copyMemory(from: $0.baseAddress!, byteCount: $0.count) }
        }
    }

    // MARK: UDP

    /// A UDP datagram with its checksum over the addresses it is sent between.
    func datagram(
        _ payload: [UInt8], from sourcePort: UInt16, to port: UInt16, source: IPAddress? = nil, destination: IPAddress = LowerHost.address
    ) -> [UInt8] {
        var datagram = bigEndian(sourcePort) + bigEndian(port) + bigEndian(UInt16(8 + payload.count)) + [0, 0] + payload
        let pseudoHeader = ipv4Bytes(source ?? address) + ipv4Bytes(destination) + [0, 17] + datagram[4...5]
        let checksum = internetChecksum(pseudoHeader + datagram)
        datagram.replaceSubrange(6...7, with: bigEndian(checksum == 0 ? 0xffff : checksum))
        return datagram
    }

    func udp(
        _ payload: [UInt8], from sourcePort: UInt16 = 7_000, to port: UInt16, source: IPAddress? = nil, destination: IPAddress = LowerHost.address,
        hardware: MACAddress = LowerHost.macAddress
    ) -> [UInt8] {
        ipv4(
            17, datagram(payload, from: sourcePort, to: port, source: source, destination: destination), source: source, destination: destination,
            to: hardware)
    }

    // MARK: ICMP

    func icmp(_ message: [UInt8], source: IPAddress? = nil, destination: IPAddress = LowerHost.address, options: [UInt8] = []) -> [UInt8] {
        ipv4(1, withChecksum(message), source: source, destination: destination, options: options)
    }

    func withChecksum(_ message: [UInt8]) -> [UInt8] {
        var message = message
        let checksum = internetChecksum(message)
        message.replaceSubrange(2...3, with: bigEndian(checksum))
        return message
    }

    func echoRequest(_ payload: [UInt8], destination: IPAddress = LowerHost.address, options: [UInt8] = []) -> [UInt8] {
        icmp([8, 0, 0, 0, 0x12, 0x34, 0, 1] + payload, destination: destination, options: options)
    }
}

// MARK: - Bytes

/// RFC 1071, as it is written there: the independent check of what the stack computes.
func internetChecksum(_ bytes: [UInt8]) -> UInt16 {
    var sum: UInt32 = 0
    for index in stride(from: 0, to: bytes.count, by: 2) {
        sum += UInt32(bytes[index]) << 8 | (index + 1 < bytes.count ? UInt32(bytes[index + 1]) : 0)
        sum = sum & 0xffff + sum >> 16
    }
    return ~UInt16(sum)
}

func bigEndian(_ value: UInt16) -> [UInt8] { [UInt8(value >> 8), UInt8(value & 0xff)] }

func ipv4Bytes(_ address: IPAddress) -> [UInt8] {
    let value = address.ipv4HostOrder
    return [UInt8(value >> 24), UInt8(value >> 16 & 0xff), UInt8(value >> 8 & 0xff), UInt8(value & 0xff)]
}

/// Bytes from their hexadecimal digits; all else is ignored.
func hex(_ text: String) -> [UInt8] {
    let digits = text.compactMap(\.hexDigitValue)
    precondition(digits.count % 2 == 0)
    return stride(from: 0, to: digits.count, by: 2).map { UInt8(digits[$0] << 4 | digits[$0 + 1]) }
}

func number(_ bytes: [UInt8], at offset: Int) -> UInt16 { UInt16(bytes[offset]) << 8 | UInt16(bytes[offset + 1]) }

/// Whether a sent frame is what it has to be, whatever it carries: our source address, an IPv4 header and a UDP or ICMP checksum that are right.
func expectWellFormed(_ frame: [UInt8], sourceLocation: SourceLocation = #_sourceLocation) {
    #expect(Array(frame[6..<12]) == [2, 0, 0, 0, 0, 1], sourceLocation: sourceLocation)
    guard number(frame, at: 12) == 0x0800 else { return }
    let packet = Array(frame[14...])
    #expect(packet[0] == 0x45, sourceLocation: sourceLocation)
    #expect(Int(number(packet, at: 2)) == packet.count, sourceLocation: sourceLocation)
    #expect(internetChecksum(Array(packet[0..<20])) == 0, sourceLocation: sourceLocation)
    #expect(packet[8] > 0, sourceLocation: sourceLocation)
    let payload = Array(packet[20...])
    if packet[9] == 1 { #expect(internetChecksum(payload) == 0, sourceLocation: sourceLocation) }
    if packet[9] == 17 {
        #expect(Int(number(payload, at: 4)) == payload.count, sourceLocation: sourceLocation)
        let pseudoHeader = Array(packet[12..<20]) + [0, 17] + payload[4...5]
        #expect(number(payload, at: 6) != 0 && internetChecksum(pseudoHeader + payload) == 0, sourceLocation: sourceLocation)
    }
}
