import DatapathMemory
import EthernetDevice
import Glibc
import NetworkStack
import Testing
import WireFormats

/// A segment that the stack has sent, as read from its frame by code of the tests' own.
struct SentSegment: CustomStringConvertible {
    var flags: TCPFlags
    /// As they lie in the header.
    var rawSequence: UInt32
    var rawAcknowledgement: UInt32
    /// Counted from the stack's and the peer's initial sequence numbers.
    var seq: Int
    var ack: Int
    /// As sent, not scaled.
    var window: Int
    var sourcePort: UInt16
    var destinationPort: UInt16
    var maximumSegmentSize: Int?
    var windowScale: Int?
    var timestamps: (value: UInt32, echo: UInt32)?
    var isSACKPermitted = false
    /// Counted from the peer's initial sequence number.
    var sackBlocks: [Range<Int>] = []
    var payload: [UInt8]
    /// When it was taken from the stack, in nanoseconds.
    var time: UInt64
    /// The ECN field of its packet (RFC 3168, section 5).
    var codepoint: UInt8 = 0

    var length: Int { payload.count }
    var description: String { "\(flags) seq \(seq) ack \(ack) len \(length) win \(window)" }
}

/// One stack, and a peer whose segments the test makes by hand: tests that read like packet scripts.
///
/// Sequence numbers are counted from the initial ones of both sides: the SYN has 0, the first byte 1. Time is virtual, in milliseconds.
final class SegmentScript {
    static let local = IPAddress.ipv4(10, 0, 0, 1)
    static let remote = IPAddress.ipv4(10, 0, 0, 2)
    static let localMAC = MACAddress(value: 0x0200_0000_0001)
    static let remoteMAC = MACAddress(value: 0x0200_0000_0002)

    let heap: DatapathHeap
    let stack: NetworkStack
    private(set) var now: UInt64 = 1_000_000_000
    /// What the stack has sent and no expectation has looked at.
    private(set) var sent: [SentSegment] = []
    /// Whether the device takes frames at all.
    var deviceTakesFrames = true
    var stackISN: UInt32
    var peerISN: UInt32
    /// The port that the stack's side has; known after the first SYN of an active open.
    var localPort: UInt16 = 80
    var remotePort: UInt16 = 5_000
    /// The window that the peer's segments carry unless they say otherwise, as it stands in the header.
    var peerWindow = 65_535
    /// The ECN field of the peer's packets.
    var peerCodepoint: UInt8 = 0
    /// Added to every segment of the peer while set: the value and what it echoes of the stack's last one.
    var peerTimestamp: UInt32?
    private(set) var lastTimestampOfStack: UInt32 = 0
    private var hasEnded = false
    /// Whether the stack completes its checksums itself.
    private let completesChecksums: Bool

    init(
        isn: UInt32 = 0x2000_0000, peerISN: UInt32 = 0x1000_0000, arenaByteCount: Int = 32 << 20,
        _ configure: (inout NetworkConfiguration) -> Void = { _ in }
    ) throws {
        stackISN = isn
        self.peerISN = peerISN
        heap = try DatapathHeap(MemoryConfiguration(arenaByteCount: arenaByteCount, commitsAtStart: false))
        var configuration = NetworkConfiguration(
            macAddress: SegmentScript.localMAC, addresses: [IPv4Prefix(address: SegmentScript.local, length: 24)], seed: 11)
        configuration.staticNeighbors = [.init(address: SegmentScript.remote, macAddress: SegmentScript.remoteMAC)]
        configuration.tcp.fixedInitialSequenceNumber = isn
        configure(&configuration)
        completesChecksums = !configuration.offloads.contains(.transmitChecksumTCP)
        stack = try NetworkStack(configuration, heap: heap, now: now)
    }

    deinit {
        if !hasEnded { stack.deallocate() }
        heap.close()
    }

    /// Ends the stack, after which nothing may be left in the heap.
    func end(sourceLocation: SourceLocation = #_sourceLocation) {
        hasEnded = true
        stack.deallocate()
        #expect(heap.statistics.liveBlocks == 0, sourceLocation: sourceLocation)
        #expect(heap.statistics.liveSegments == 0, sourceLocation: sourceLocation)
    }

    // MARK: The peer's segments

    /// What a peer's segment is made of; `edit` may spoil the finished TCP bytes before the checksum is made.
    func peerBytes(
        _ flags: TCPFlags, seq: Int, ack: Int?, window: Int?, options: [UInt8], payload: [UInt8], urgentPointer: UInt16 = 0, port: UInt16? = nil
    ) -> [UInt8] {
        precondition(options.count % 4 == 0 && options.count <= 40)
        var tcp = bigEndian(port ?? remotePort) + bigEndian(localPort)
        tcp += bigEndian32(peerISN &+ UInt32(truncatingIfNeeded: seq))
        tcp += bigEndian32(ack.map { stackISN &+ UInt32(truncatingIfNeeded: $0) } ?? 0)
        tcp += [UInt8((20 + options.count) / 4) << 4, flags.rawValue]
        tcp += bigEndian(UInt16(truncatingIfNeeded: window ?? peerWindow)) + [0, 0] + bigEndian(urgentPointer)
        return tcp + options + payload
    }

    /// The peer sends one segment. An acknowledgement number implies the ACK flag.
    func peer(
        _ flags: TCPFlags, seq: Int, ack: Int? = nil, window: Int? = nil, mss: Int? = nil, scale: Int? = nil, timestamp: UInt32? = nil, echo: UInt32? = nil,
        noTimestamp: Bool = false, sackPermitted: Bool = false, sack: [Range<Int>] = [], length: Int = 0,
        payload: [UInt8]? = nil, extraOptions: [UInt8] = [], urgentPointer: UInt16 = 0, port: UInt16? = nil
    ) {
        var options: [UInt8] = []
        if let mss { options += [2, 4] + bigEndian(UInt16(mss)) }
        if let scale { options += [1, 3, 3, UInt8(scale)] }
        if let value = timestamp ?? (noTimestamp ? nil : peerTimestamp) {
            let reply = echo ?? (flags.contains(.ack) || ack != nil ? lastTimestampOfStack : 0)
            options += [1, 1, 8, 10] + bigEndian32(value) + bigEndian32(reply)
        }
        if sackPermitted { options += [1, 1, 4, 2] }
        // Counted from the stack's initial sequence number.
        if !sack.isEmpty { options += [1, 1, 5, UInt8(2 + 8 * sack.count)] }
        for block in sack {
            for edge in [block.lowerBound, block.upperBound] { options += bigEndian32(stackISN &+ UInt32(truncatingIfNeeded: edge)) }
        }
        options += extraOptions
        // The peer's stream is a pattern: its byte at sequence number 1 is the first.
        let bytes = payload ?? (length == 0 ? [] : pattern(length, from: seq - 1))
        let flags = ack == nil ? flags : flags.union(.ack)
        inject(peerBytes(flags, seq: seq, ack: ack, window: window, options: options, payload: bytes, urgentPointer: urgentPointer, port: port))
    }

    /// Puts TCP bytes into a frame of the peer; the checksum is made here unless `checksum` gives it.
    func inject(_ tcp: [UInt8], checksum: UInt16? = nil, source: IPAddress = SegmentScript.remote) {
        var tcp = tcp
        if let checksum {
            tcp.replaceSubrange(16..<18, with: bigEndian(checksum))
        } else {
            tcp.replaceSubrange(16..<18, with: bigEndian(SegmentScript.checksum(tcp, source: source, destination: SegmentScript.local)))
        }
        injectPacket(protocolNumber: 6, tcp, source: source)
    }

    func injectPacket(protocolNumber: UInt8, _ payload: [UInt8], source: IPAddress = SegmentScript.remote) {
        var header: [UInt8] = [0x45, peerCodepoint] + bigEndian(UInt16(20 + payload.count)) + [0, 0, 0x40, 0, 64, protocolNumber, 0, 0]
        header += ipv4Bytes(source) + ipv4Bytes(SegmentScript.local)
        header.replaceSubrange(10..<12, with: bigEndian(internetChecksum(header)))
        let bytes = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0] + header + payload
        guard let frame = Frame.makeSegment(heap, byteCount: bytes.count, priority: .reserve) else { return }
        bytes.withUnsafeBytes { frame.segmentAddress.copyMemory(from: $0.baseAddress!, byteCount: $0.count) }
        frame.frameFlags = []
        stack.receive(frame)
        collect()
    }

    static func checksum(_ tcp: [UInt8], source: IPAddress, destination: IPAddress) -> UInt16 {
        var bytes = tcp
        bytes.replaceSubrange(16..<18, with: [0, 0])
        return internetChecksum(ipv4Bytes(source) + ipv4Bytes(destination) + [0, 6] + bigEndian(UInt16(tcp.count)) + bytes)
    }

    // MARK: The stack's segments

    /// Takes what the stack has to send, as its device does.
    func collect() {
        guard deviceTakesFrames else { return }
        withUnsafeTemporaryAllocation(of: Frame.self, capacity: 64) { frames in
            while case let count = stack.takeOutput(into: frames.baseAddress!, capacity: 64), count > 0 {
                for index in 0..<count {
                    read(frames[index])
                    frames[index].releaseArray()
                }
            }
        }
    }

    private func read(_ frame: Frame) {
        let bytes = [UInt8](unsafeUninitializedCapacity: frame.arrayByteCount) { buffer, count in
            frame.copyArray(to: buffer.baseAddress!)
            count = frame.arrayByteCount
        }
        guard bytes.count >= 54, number(bytes, at: 12) == 0x0800, bytes[23] == 6 else { return }
        let tcp = Array(bytes[34...])
        let headerByteCount = Int(tcp[12] >> 4) * 4
        // What the stack sends is always well-formed.
        #expect(Array(bytes[0..<6]) == [2, 0, 0, 0, 0, 2])
        #expect(bytes[14] == 0x45 && Int(number(bytes, at: 16)) == bytes.count - 14 && internetChecksum(Array(bytes[14..<34])) == 0)
        if completesChecksums {
            #expect(SegmentScript.checksum(tcp, source: SegmentScript.local, destination: SegmentScript.remote) == number(tcp, at: 16))
        }
        #expect(headerByteCount >= 20 && headerByteCount <= tcp.count)
        var segment = SentSegment(
            flags: TCPFlags(rawValue: tcp[13]), rawSequence: number32(tcp, at: 4), rawAcknowledgement: number32(tcp, at: 8), seq: 0, ack: 0,
            window: Int(number(tcp, at: 14)), sourcePort: number(tcp, at: 0), destinationPort: number(tcp, at: 2), payload: Array(tcp[headerByteCount...]),
            time: now)
        segment.codepoint = bytes[15] & 3
        segment.seq = Int(Int32(bitPattern: segment.rawSequence &- stackISN))
        segment.ack = segment.flags.contains(.ack) ? Int(Int32(bitPattern: segment.rawAcknowledgement &- peerISN)) : 0
        var offset = 20
        while offset < headerByteCount, tcp[offset] != 0 {
            let kind = tcp[offset]
            if kind == 1 {
                offset += 1
                continue
            }
            switch kind {
            case 2: segment.maximumSegmentSize = Int(number(tcp, at: offset + 2))
            case 3: segment.windowScale = Int(tcp[offset + 2])
            case 4: segment.isSACKPermitted = true
            case 5:
                for position in stride(from: offset + 2, to: offset + Int(tcp[offset + 1]), by: 8) {
                    let left = Int(Int32(bitPattern: number32(tcp, at: position) &- peerISN))
                    segment.sackBlocks.append(left..<left + Int(number32(tcp, at: position + 4) &- number32(tcp, at: position)))
                }
            case 8:
                segment.timestamps = (number32(tcp, at: offset + 2), number32(tcp, at: offset + 6))
                lastTimestampOfStack = number32(tcp, at: offset + 2)
            default: break
            }
            offset += Int(tcp[offset + 1])
        }
        sent.append(segment)
    }

    /// The next segment must be this one. What is not given may be anything.
    @discardableResult
    func expect(
        _ flags: TCPFlags, seq: Int? = nil, ack: Int? = nil, length: Int = 0, window: Int? = nil, sourceLocation: SourceLocation = #_sourceLocation
    ) -> SentSegment {
        guard !sent.isEmpty else {
            Issue.record("expected \(flags) but the stack sent nothing", sourceLocation: sourceLocation)
            return SentSegment(
                flags: [], rawSequence: 0, rawAcknowledgement: 0, seq: 0, ack: 0, window: 0, sourcePort: 0, destinationPort: 0, payload: [], time: now)
        }
        let segment = sent.removeFirst()
        // PSH is the sender's business.
        let matches = segment.flags.subtracting(.psh) == flags.subtracting(.psh) && (seq ?? segment.seq) == segment.seq && (ack ?? segment.ack) == segment.ack
            && length == segment.length && (window ?? segment.window) == segment.window
        if !matches {
            let wanted = "\(flags) seq \(seq.map(String.init) ?? "-") ack \(ack.map(String.init) ?? "-") len \(length) win \(window.map(String.init) ?? "-")"
            Issue.record("expected \(wanted), but the stack sent \(segment)", sourceLocation: sourceLocation)
        }
        return segment
    }

    func expectNothing(sourceLocation: SourceLocation = #_sourceLocation) {
        if !sent.isEmpty {
            Issue.record("expected nothing, but the stack sent \(sent.prefix(5).map(\.description))", sourceLocation: sourceLocation)
            sent = []
        }
    }

    /// Everything sent and not looked at.
    func takeSent() -> [SentSegment] {
        defer { sent = [] }
        return sent
    }

    // MARK: Time

    /// Lets time pass, running what becomes due at its time.
    func advance(_ milliseconds: Int) { advance(nanoseconds: UInt64(milliseconds) * 1_000_000) }

    func advance(seconds: Int) { advance(nanoseconds: UInt64(seconds) * 1_000_000_000) }

    func advance(nanoseconds: UInt64) {
        let end = now + nanoseconds
        while let next = stack.nextDeadline, next <= end {
            now = max(now, next)
            stack.advance(to: now)
            collect()
        }
        now = end
        stack.advance(to: now)
        collect()
    }

    // MARK: The program's side

    func listener(backlog: Int = 16) -> UInt32 {
        let socket = stack.makeConnection(owner: 1)
        #expect(stack.bind(socket, to: Endpoint(address: SegmentScript.local, port: 80)) == 0)
        #expect(stack.listen(socket, backlog: backlog) == 0)
        localPort = 80
        return socket
    }

    /// Begins an active open; its SYN is taken from the output and the port learnt.
    @discardableResult
    func connect(sourceLocation: SourceLocation = #_sourceLocation) -> (connection: UInt32, synchronize: SentSegment) {
        let connection = stack.makeConnection(owner: 2)
        remotePort = 5_000
        #expect(stack.connect(connection, to: Endpoint(address: SegmentScript.remote, port: remotePort)) == 0, sourceLocation: sourceLocation)
        collect()
        let synchronize = expect(.syn, seq: 0, sourceLocation: sourceLocation)
        localPort = synchronize.sourcePort
        return (connection, synchronize)
    }

    /// An active open that is complete. Both sides are at sequence number 1 and nothing waits in the output.
    func established(
        mss: Int? = 1_460, scale: Int? = nil, window: Int? = nil, timestamp: UInt32? = nil, sackPermitted: Bool = false,
        sourceLocation: SourceLocation = #_sourceLocation
    ) -> UInt32 {
        let (connection, synchronize) = connect(sourceLocation: sourceLocation)
        peerTimestamp = timestamp
        peer([.syn, .ack], seq: 0, ack: 1, window: window, mss: mss, scale: scale, echo: synchronize.timestamps?.value, sackPermitted: sackPermitted)
        expect(.ack, seq: 1, ack: 1, sourceLocation: sourceLocation)
        expectNothing(sourceLocation: sourceLocation)
        #expect(stack.connectionState(connection) == .established, sourceLocation: sourceLocation)
        return connection
    }

    /// A passive open that is complete and accepted.
    func accepted(
        _ listener: UInt32, mss: Int? = 1_460, scale: Int? = nil, window: Int? = nil, timestamp: UInt32? = nil,
        sourceLocation: SourceLocation = #_sourceLocation
    ) -> UInt32 {
        peerTimestamp = timestamp
        peer(.syn, seq: 0, window: window, mss: mss, scale: scale)
        expect([.syn, .ack], seq: 0, ack: 1, sourceLocation: sourceLocation)
        peer(.ack, seq: 1, ack: 1, window: window)
        expectNothing(sourceLocation: sourceLocation)
        let connection = stack.accept(listener, owner: 3)
        #expect(connection != 0, sourceLocation: sourceLocation)
        return connection
    }

    func state(_ connection: UInt32) -> ConnectionState { stack.connectionState(connection) }

    /// Sends the next `count` bytes of a pattern that starts at `offset`.
    @discardableResult
    func send(_ connection: UInt32, _ count: Int, from offset: Int = 0) -> Int32 {
        send(connection, pattern(count, from: offset))
    }

    @discardableResult
    func send(_ connection: UInt32, _ bytes: [UInt8]) -> Int32 {
        var array: Frame?
        for start in stride(from: 0, to: bytes.count, by: 131_072) {
            guard let segment = Frame.makeSegment(heap, byteCount: min(131_072, bytes.count - start), priority: .application) else {
                array?.releaseArray()
                return ENOMEM
            }
            bytes.withUnsafeBytes { segment.segmentAddress.copyMemory(from: $0.baseAddress! + start, byteCount: segment.segmentByteCount) }
            if let array { array.append(segment, behind: array.lastSegment) } else { array = segment }
        }
        let error = stack.send(connection, array!)
        if error != 0 { array!.releaseArray() }
        collect()
        return error
    }

    func receive(_ connection: UInt32, maximumBytes: Int = .max) -> [UInt8] {
        var bytes = [UInt8]()
        while bytes.count < maximumBytes, let array = stack.takeReceived(connection, maximumSegments: 16, maximumBytes: maximumBytes - bytes.count) {
            let piece = [UInt8](unsafeUninitializedCapacity: array.arrayByteCount) { buffer, count in
                array.copyArray(to: buffer.baseAddress!)
                count = array.arrayByteCount
            }
            bytes += piece
            array.releaseArray()
        }
        collect()
        return bytes
    }

    func close(_ connection: UInt32) {
        stack.close(connection)
        collect()
    }

    func shutdown(_ connection: UInt32, receive: Bool = false, send: Bool = true, sourceLocation: SourceLocation = #_sourceLocation) {
        #expect(stack.shutdown(connection, receive: receive, send: send) == 0, sourceLocation: sourceLocation)
        collect()
    }

    func abort(_ connection: UInt32) {
        stack.abort(connection)
        collect()
    }

    /// All events of a connection since the last call; those of others are lost.
    func events(_ connection: UInt32) -> ConnectionEvents {
        var events = ConnectionEvents()
        while let event = stack.takeConnectionEvent() {
            if event.connection == connection { events.formUnion(event.events) }
        }
        return events
    }

    var tcp: TCPStatistics { stack.statistics.tcp }
    func drops(_ reason: DropReason) -> UInt64 { stack.statistics.drops[reason] }
}

func bigEndian32(_ value: UInt32) -> [UInt8] { bigEndian(UInt16(value >> 16)) + bigEndian(UInt16(value & 0xffff)) }

func number32(_ bytes: [UInt8], at offset: Int) -> UInt32 { UInt32(number(bytes, at: offset)) << 16 | UInt32(number(bytes, at: offset + 2)) }
