import Demikernel
import EthernetDevice
import NetworkStack
import WireFormats

/// An Ethernet device with a whole peer behind it: a second network stack, whose frames can be held back and played later, one a call, so that only
/// the stack under measurement works while it is measured.
struct PeerDevice {
    private struct State {
        var peer: NetworkStack?
        var heap: DatapathHeap?
        var mode = Mode.live
        var held: UnsafeMutablePointer<Frame>
        var heldCount = 0
        var played = 0
        var time: UInt64 = 1_000_000_000

        /// Makes a segment of a peer that has no stack, which arrives next.
        mutating func hold(
            sourcePort: UInt16, destinationPort: UInt16, _ flags: TCPFlags, sequence: UInt32, acknowledgement: UInt32, timestampEcho: UInt32
        ) {
            if heldCount == played { (heldCount, played) = (0, 0) }
            let networkOffset = EthernetHeader.byteCount
            let transportOffset = networkOffset + IPv4Header.byteCount
            guard heldCount < PeerDevice.capacity, let frame = Frame.makeSegment(heap.unsafelyUnwrapped, byteCount: 128, priority: .reserve) else {
                fatalError("there is no room for a frame")
            }
            let header = frame.segmentAddress
            EthernetHeader.write(
                to: header, destination: MACAddress(value: PeerDevice.stackMACAddress), source: MACAddress(value: PeerDevice.peerMACAddress), etherType: 0x0800)
            var writer = TCPHeaderWriter(
                to: header + transportOffset, sourcePort: sourcePort, destinationPort: destinationPort, sequence: SequenceNumber(rawValue: sequence),
                acknowledgement: SequenceNumber(rawValue: acknowledgement))
            if flags.contains(.syn) {
                writer.appendSynchronizeOptions(
                    maximumSegmentSize: 1_460, windowScale: 7, isSACKPermitted: true, hasTimestamps: true, timestampValue: 1, timestampEchoReply: 0)
            } else {
                writer.appendTimestamps(value: 1, echoReply: timestampEcho)
            }
            let pseudoHeaderSum = InternetChecksum.pseudoHeader(
                source: PeerDevice.peerAddress, destination: PeerDevice.stackAddress, protocolNumber: IPProtocol.tcp, byteCount: writer.byteCount)
            writer.finish(flags: flags, window: 512, pseudoHeaderSum: pseudoHeaderSum, payloadSum: 0)
            IPv4Header.write(
                to: header + networkOffset, totalByteCount: IPv4Header.byteCount + writer.byteCount, identification: 0, dontFragment: true, timeToLive: 64,
                protocolNumber: IPProtocol.tcp, source: PeerDevice.peerAddress, destination: PeerDevice.stackAddress)
            frame.truncate(to: transportOffset + writer.byteCount)
            held[heldCount] = frame
            heldCount += 1
        }

        /// Acknowledges a SYN and ACK; takes over the frame.
        mutating func answer(_ frame: Frame) {
            let transport = UnsafeRawPointer(frame.segmentAddress) + EthernetHeader.byteCount + IPv4Header.byteCount
            if TCPFlags(rawValue: (transport + 13).load(as: UInt8.self)) == [.syn, .ack] {
                // The timestamps stand behind the maximum segment size and the scale.
                hold(
                    sourcePort: (transport + 2).loadUnaligned(as: UInt16.self).bigEndian, destinationPort: transport.loadUnaligned(as: UInt16.self).bigEndian,
                    .ack, sequence: 2, acknowledgement: (transport + 4).loadUnaligned(as: UInt32.self).bigEndian &+ 1,
                    timestampEcho: (transport + 32).loadUnaligned(as: UInt32.self).bigEndian)
            }
            frame.releaseArray()
        }
    }

    enum Mode {
        /// Both stacks talk to each other.
        case live
        /// What the stack sends is lost; the peer's frames are held.
        case hold
        /// What the stack sends is lost; held frames arrive one by one.
        case play
        /// Held frames arrive, and a SYN and ACK of the stack's is acknowledged. No stack is behind that, so that connections take memory at one end alone.
        case answer
    }

    static let capacity = 16_384
    static let stackAddress = IPAddress.ipv4(10, 0, 0, 1)
    static let peerAddress = IPAddress.ipv4(10, 0, 0, 2)
    static let link: UInt8 = 24
    static let stackMACAddress: UInt64 = 0x0200_0000_0001
    static let peerMACAddress: UInt64 = 0x0200_0000_0002
    /// The same over IPv6: 2001:db8::1 and ::2.
    static let stackIPv6Address = IPAddress(ipv6HostOrder: 0x2001_0db8 << 32, 1)
    static let peerIPv6Address = IPAddress(ipv6HostOrder: 0x2001_0db8 << 32, 2)

    /// Has a stack speak IPv6 from its first moment.
    static func addIPv6(_ address: IPAddress, to configuration: inout NetworkConfiguration) {
        configuration.ipv6Addresses = [IPv6Prefix(address: address, length: 64)]
        configuration.ipv6.duplicateAddressDetectionTransmits = 0
    }

    private let state: UnsafeMutablePointer<State>

    /// Lives as long as the process.
    init() {
        state = .allocate(capacity: 1)
        state.initialize(to: State(held: .allocate(capacity: PeerDevice.capacity)))
    }

    var mode: Mode {
        get { state.pointee.mode }
        nonmutating set { state.pointee.mode = newValue }
    }

    /// The peer; there is one once the device is in use.
    var peer: NetworkStack { state.pointee.peer.unsafelyUnwrapped }

    /// The clock of both, which goes on by a microsecond with every reading.
    var clock: RuntimeClock {
        RuntimeClock(
            injected: { context in
                let state = context.unsafelyUnwrapped.assumingMemoryBound(to: State.self)
                state.pointee.time &+= 1_000
                return state.pointee.time
            }, context: state)
    }

    /// Takes what the peer has to send into the held frames.
    func holdOutput() {
        let room = PeerDevice.capacity - state.pointee.heldCount
        state.pointee.heldCount += peer.takeOutput(into: state.pointee.held + state.pointee.heldCount, capacity: room)
    }

    /// Has the peer begin a connection without a stack: by a SYN with the options that all use, while the mode is `answer`.
    func synchronize(from port: UInt16, to stackPort: UInt16) {
        state.pointee.hold(sourcePort: port, destinationPort: stackPort, .syn, sequence: 1, acknowledgement: 0, timestampEcho: 0)
    }

    var heldCount: Int { state.pointee.heldCount - state.pointee.played }

    /// Releases what was not played.
    func discardHeld() {
        for index in state.pointee.played..<state.pointee.heldCount { state.pointee.held[index].releaseArray() }
        state.pointee.heldCount = state.pointee.played
    }

    func device() -> EthernetDevice {
        EthernetDevice(
            name: "peer", context: state,
            capabilities: DeviceCapabilities(
                macAddress: PeerDevice.stackMACAddress, maximumFrameByteCount: 1_514, maximumTransmitSegments: 8, driverMode: "memory", receiveMode: "zero copy",
                transmitMode: "zero copy"),
            close: { _ in },
            attach: { context, heap in
                let state = context.assumingMemoryBound(to: State.self)
                state.pointee.heap = heap.assumingMemoryBound(to: DatapathHeap.self).pointee
                var configuration = NetworkConfiguration(
                    macAddress: MACAddress(value: PeerDevice.peerMACAddress), addresses: [IPv4Prefix(address: PeerDevice.peerAddress, length: PeerDevice.link)],
                    seed: 2)
                configuration.limits.maximumHalfOpen = 16_384
                configuration.limits.maximumHalfOpenPerSource = 16_384
                PeerDevice.addIPv6(PeerDevice.peerIPv6Address, to: &configuration)
                state.pointee.peer = try? NetworkStack(configuration, heap: state.pointee.heap.unsafelyUnwrapped, now: state.pointee.time)
                return 0
            },
            transmit: { context, frames, count in
                let state = context.assumingMemoryBound(to: State.self)
                let frames = frames.assumingMemoryBound(to: Frame.self)
                for index in 0..<Int(count) {
                    if state.pointee.mode == .play {
                        frames[index].releaseArray()
                    } else if state.pointee.mode == .answer {
                        state.pointee.answer(frames[index])
                    } else {
                        state.pointee.peer.unsafelyUnwrapped.setTime(state.pointee.time)
                        state.pointee.peer.unsafelyUnwrapped.receive(frames[index])
                    }
                }
                return count
            },
            receive: { context, frames, capacity in
                let state = context.assumingMemoryBound(to: State.self)
                let frames = frames.assumingMemoryBound(to: Frame.self)
                switch state.pointee.mode {
                case .live: return Int32(state.pointee.peer.unsafelyUnwrapped.takeOutput(into: frames, capacity: Int(capacity)))
                case .hold: return 0
                case .play, .answer:
                    guard state.pointee.played < state.pointee.heldCount else { return 0 }
                    frames[0] = state.pointee.held[state.pointee.played]
                    state.pointee.played += 1
                    return 1
                }
            },
            prepareToSleep: { _ in EthernetDevice.cannotWake },
            statistics: { _, _ in })
    }
}
