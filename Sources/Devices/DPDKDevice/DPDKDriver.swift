#if DPDK
import CDPDK
import DatapathMemory
import Glibc

/// What is known of a driver of DPDK: how it can use the heap's memory, and what it does with frames.
struct DPDKDriver {
    /// For `DeviceCapabilities.driverMode`.
    let mode: StaticString
    /// Whether an mbuf of its pool may have its bytes in the heap: not where the driver reckons with mbuf and bytes lying behind each other (af_xdp), or
    /// hands the pool's memory to another process (virtio_user).
    let receivesIntoBlocks: Bool
    /// Whether it transmits external buffers.
    let transmitsFromBlocks: Bool
    /// Whether frames that were sent are in a ring that others read.
    let framesOutliveDevice: Bool
    /// Mbufs that it holds for frames to come, beside one for each descriptor.
    let heldMbufs: UInt32
    /// How frames come and go; "zero copy" where nobody copies them.
    let receiveMode: StaticString
    let transmitMode: StaticString

    private init(
        _ mode: StaticString, blocks: (receive: Bool, transmit: Bool), outlive: Bool = false, held: UInt32 = 0, receive: StaticString, transmit: StaticString
    ) {
        self.mode = mode
        (receivesIntoBlocks, transmitsFromBlocks) = blocks
        framesOutliveDevice = outlive
        heldMbufs = held
        receiveMode = receive
        transmitMode = transmit
    }

    /// The driver of a device, by the device's name; one that is not known gets copies, which each of them can work with.
    init(device name: String, options: String) {
        let driver = DPDKDriver.name(ofDevice: name)
        let both = (receive: true, transmit: true)
        switch driver {
        case "net_ring": self.init("DPDK net_ring", blocks: both, outlive: true, receive: "zero copy", transmit: "zero copy")
        case "net_null": self.init("DPDK net_null", blocks: both, receive: "zero copy", transmit: "zero copy")
        case "net_af_packet":
            self.init("DPDK net_af_packet", blocks: both, receive: "copy by the driver", transmit: "copy by the driver")
        case "net_memif" where !options.split(separator: ",").contains("zero-copy=yes"):
            self.init("DPDK net_memif", blocks: both, receive: "copy by the driver", transmit: "copy by the driver")
        case "net_memif": self.init("DPDK net_memif", blocks: (false, false), receive: "copy", transmit: "copy")
        case "net_vhost": self.init("DPDK net_vhost", blocks: both, receive: "copy by the driver", transmit: "copy by the driver")
        case "net_tap": self.init("DPDK net_tap", blocks: both, receive: "copy by the kernel", transmit: "copy by the kernel")
        case "net_pcap": self.init("DPDK net_pcap", blocks: both, receive: "copy by the driver", transmit: "copy by the driver")
        case "net_af_xdp": self.init("DPDK net_af_xdp", blocks: (false, true), held: 4096, receive: "copy", transmit: "copy by the driver")
        case "net_virtio_user", "virtio_user": self.init("DPDK net_virtio_user", blocks: (false, false), receive: "copy", transmit: "copy")
        default: self.init("DPDK", blocks: (false, false), receive: "copy", transmit: "copy")
        }
    }

    /// The name without its number.
    static func name(ofDevice device: String) -> String {
        var name = Substring(device)
        while let last = name.last, last.isNumber { name.removeLast() }
        return String(name)
    }

    var memory: dpdk_memory {
        dpdk_memory(
            receives_into_blocks: receivesIntoBlocks, transmits_from_blocks: transmitsFromBlocks, frames_outlive_device: framesOutliveDevice,
            held_mbufs: heldMbufs)
    }

    /// Why a device could not be made, as far as the errno tells; DPDK's own line is in `DPDKDevice.takeMessage`.
    static func message(_ code: Int32) -> StaticString {
        switch code {
        case EPERM, EACCES: "DPDK's driver needs root (CAP_NET_RAW, CAP_NET_ADMIN): run it with sudo"
        case EEXIST: "a device of this name is open already: give each another number, such as net_ring1"
        case ENODEV, ENOENT:
            "there is no such driver or interface: the driver's name comes first, such as net_af_packet0, and `ip link` lists the interfaces"
        case EINVAL: "DPDK's driver refused its options: they are DPDK's own, such as net_af_packet0,iface=eth0"
        case ENAMETOOLONG: "the name of a device of DPDK has at most 63 bytes"
        case ENOMEM: "DPDK's memory, 128 MiB for the process, has no room for one more device: close one, or ask for a smaller MTU"
        default: "DPDK could not make the device"
        }
    }
}
#endif
