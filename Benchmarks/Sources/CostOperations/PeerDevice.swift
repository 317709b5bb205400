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
    }

    enum Mode {
        /// Both stacks talk to each other.
        case live
        /// What the stack sends is lost; the peer's frames are held.
        case hold
        /// What the stack sends is lost; held frames arrive one by one.
        case play
    }

    static let capacity = 16_384
    static let stackAddress = IPAddress.ipv4(10, 0, 0, 1)
    static let peerAddress = IPAddress.ipv4(10, 0, 0, 2)
    static let link: UInt8 = 24
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
                macAddress: 0x0200_0000_0001, maximumFrameByteCount: 1_514, maximumTransmitSegments: 8, driverMode: "memory", receiveMode: "zero copy",
                transmitMode: "zero copy"),
            close: { _ in },
            attach: { context, heap in
                let state = context.assumingMemoryBound(to: State.self)
                state.pointee.heap = heap.assumingMemoryBound(to: DatapathHeap.self).pointee
                var configuration = NetworkConfiguration(
                    macAddress: MACAddress(value: 0x0200_0000_0002), addresses: [IPv4Prefix(address: PeerDevice.peerAddress, length: PeerDevice.link)],
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
                case .play:
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
