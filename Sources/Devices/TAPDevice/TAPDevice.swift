import CLinuxDevices
import DatapathMemory
import EthernetDevice
import Glibc
import NetworkInterface

/// An Ethernet device whose other end is the Linux kernel: a TAP interface (Documentation/networking/tuntap.rst).
///
/// The kernel hands over whole frames with complete checksums, at one system call each way for every frame; bytes are copied by it. Small frames move
/// into small blocks, so that they pin no large ones. A frame that leaves is gathered from its segments.
///
/// Nothing blocks. While the interface is down, frames that are sent are counted as `transmitLinkDown`. When it is removed, the device is gone
/// for good: it receives nothing more, counts what is sent as `transmitLinkDown`, and `DeviceStatistics.isGone` says so.
public enum TAPDevice {
    /// Attaches to the interface, makes it if there is none, and brings it up. One that this call made goes when the device is closed or the process ends.
    ///
    /// Needs CAP_NET_ADMIN in the network namespace (root, or a user namespace's root), or an interface that `ip tuntap add NAME mode tap user …`
    /// made for this user before.
    /// - Throws: `EINVAL` for a name that cannot be or belongs to another kind of interface, `EPERM`, `EACCES`, `EBUSY` when another process is
    ///   attached, `ENODEV` or `ENOENT` where the kernel has no TAP, `EMFILE`.
    public static func open(_ configuration: TAPConfiguration) throws(DemikernelError) -> EthernetDevice {
        guard NetworkInterface.isValidName(configuration.name) else {
            throw DemikernelError(EINVAL, .initialize, "the name of an interface has 1 to 15 letters, without space, slash or colon")
        }
        let descriptor = Glibc.open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK)
        guard descriptor >= 0 else { throw DemikernelError(errno, .initialize, openMessage(errno)) }
        do throws(DemikernelError) {
            var name = nameBytes(configuration.name)
            let result = linux_tap_attach(descriptor, &name, configuration.queueCount > 1 ? 1 : 0)
            guard result == 0 else { throw DemikernelError(-result, .initialize, attachMessage(-result)) }
            if configuration.queueCount > 1 {
                let program = QueueSteering(queueCount: configuration.queueCount).instructions
                let result = linux_tap_steer(descriptor, program, UInt32(program.count))
                guard result == 0 else { throw DemikernelError(-result, .initialize, steeringMessage(-result)) }
            }
            let interface = NetworkInterface(configuration.name)
            if let mtu = configuration.maximumTransmissionUnit, try interface.maximumTransmissionUnit() != mtu {
                try interface.setMaximumTransmissionUnit(mtu)
            }
            if try !interface.isUp().isUp { try interface.setUp() }
            return try make(
                descriptor: descriptor, maximumTransmissionUnit: try interface.maximumTransmissionUnit(), macAddress: configuration.macAddress)
        } catch {
            close(descriptor)
            throw error
        }
    }

    /// A device on a descriptor that somebody else has attached, and handed over. The interface may be in another network namespace; it is neither
    /// brought up nor changed.
    /// - Parameters:
    ///   - descriptor: of /dev/net/tun, attached with IFF_TAP and IFF_NO_PI and without IFF_VNET_HDR; the device closes it. Not when this throws.
    ///   - maximumTransmissionUnit: of the interface, in bytes.
    /// - Throws: `EINVAL` for a descriptor that is none of a TAP, or was attached in another way, or an MTU outside 68 to 65521.
    public static func make(
        descriptor: Int32, maximumTransmissionUnit: Int, macAddress: UInt64? = nil
    ) throws(DemikernelError) -> EthernetDevice {
        var name = nameBytes("")
        var flags: UInt16 = 0
        guard linux_tap_describe(descriptor, &name, &flags) == 0 else {
            throw DemikernelError(EINVAL, .initialize, "the descriptor is not attached to a TAP interface")
        }
        let wanted = UInt16(IFF_TAP) | UInt16(IFF_NO_PI)
        guard flags & (wanted | UInt16(IFF_TUN) | UInt16(IFF_VNET_HDR)) == wanted else {
            throw DemikernelError(EINVAL, .initialize, "the descriptor must be attached with IFF_TAP and IFF_NO_PI, and without IFF_VNET_HDR")
        }
        guard (68...65_521).contains(maximumTransmissionUnit) else {
            throw DemikernelError(EINVAL, .initialize, "the MTU of a TAP interface lies between 68 and 65521")
        }
        var hardware = [UInt8](repeating: 0, count: 6)
        let result = linux_tap_hardware_address(descriptor, &hardware)
        guard result == 0 else { throw DemikernelError(-result, .initialize, "the TAP interface does not tell its hardware address") }
        let ofKernel = hardware.reduce(0 as UInt64) { $0 << 8 | UInt64($1) }
        let status = fcntl(descriptor, F_GETFL)
        guard status >= 0, fcntl(descriptor, F_SETFL, status | O_NONBLOCK) == 0 else {
            throw DemikernelError(errno, .initialize, "the descriptor cannot be made non-blocking")
        }
        let maximumFrameByteCount = maximumTransmissionUnit + DeviceCapabilities.ethernetHeaderByteCount
        let state = UnsafeMutablePointer<TAPState>.allocate(capacity: 1)
        state.initialize(to: TAPState(descriptor: descriptor, maximumFrameByteCount: maximumFrameByteCount))
        return device(state, macAddress: macAddress ?? address(besides: ofKernel))
    }

    /// A hardware address for the stack: both ends of a link need one of their own. Locally administered, and the same for the same interface.
    private static func address(besides other: UInt64) -> UInt64 {
        (other ^ 1) | 0x0200_0000_0000
    }

    private static func nameBytes(_ name: String) -> [CChar] {
        let bytes = Array(name.utf8CString)
        return bytes + [CChar](repeating: 0, count: Int(IFNAMSIZ) - bytes.count)
    }

    private static func openMessage(_ code: Int32) -> StaticString {
        switch code {
        case ENOENT, ENODEV, ENXIO: "the kernel has no TAP devices: load them with `modprobe tun`"
        case EACCES, EPERM: "/dev/net/tun cannot be opened by this user: run it with sudo, or let users in with `chmod 666 /dev/net/tun`"
        default: "/dev/net/tun cannot be opened"
        }
    }

    private static func attachMessage(_ code: Int32) -> StaticString {
        switch code {
        case EPERM:
            """
            only root can make a TAP interface: run it with sudo or inside `demikernel testbed shell`, or make one for this user: \
            `sudo ip tuntap add dev NAME mode tap user $USER`
            """
        case EBUSY: "another process is attached to this TAP interface: stop it, or take another name"
        case EINVAL: "an interface of this name exists and is no TAP, or is of one queue where several are wanted, or the other way: take another name"
        case E2BIG: "all queues of this TAP interface are in use"
        default: "the TAP interface could not be made"
        }
    }

    private static func steeringMessage(_ code: Int32) -> StaticString {
        code == EPERM
            ? "only root (CAP_BPF) can spread flows over the queues of a TAP interface: run it with sudo, or as one shard"
            : "the kernel does not take the program that spreads flows over the queues of a TAP interface"
    }

    private static func device(_ state: UnsafeMutablePointer<TAPState>, macAddress: UInt64) -> EthernetDevice {
        let capabilities = DeviceCapabilities(
            macAddress: macAddress, maximumFrameByteCount: state.pointee.maximumFrameByteCount,
            maximumTransmitSegments: ScatterGatherArray.maximumSegments, driverMode: "TAP", receiveMode: "copy by the kernel",
            transmitMode: "copy by the kernel")
        return EthernetDevice(
            name: "tap", context: UnsafeMutableRawPointer(state), capabilities: capabilities,
            close: { TAPState.at($0).close() },
            attach: { TAPState.at($0).attach($1.assumingMemoryBound(to: DatapathHeap.self).pointee) },
            transmit: { Int32(truncatingIfNeeded: TAPState.at($0).transmit($1.assumingMemoryBound(to: Frame.self), Int($2))) },
            receive: { Int32(truncatingIfNeeded: TAPState.at($0).receive($1.assumingMemoryBound(to: Frame.self), Int($2))) },
            prepareToSleep: { TAPState.at($0).pointee.statistics.isGone ? EthernetDevice.nothingToAwait : TAPState.at($0).pointee.descriptor },
            statistics: { $1.assumingMemoryBound(to: DeviceStatistics.self).pointee = TAPState.at($0).pointee.statistics })
    }
}
