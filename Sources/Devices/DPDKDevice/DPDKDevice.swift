#if DPDK
import CDPDK
import DatapathMemory
import EthernetDevice
import Glibc

/// An Ethernet device through any driver for virtual devices (vdev) that DPDK has: net_af_packet, net_af_xdp, net_memif, net_vhost, net_virtio_user, net_tap, net_ring, …
///
/// Buffers are the heap's blocks: DPDK's mbufs wrap those of frames that leave, and have blocks for frames to come, which are the frames then, without a
/// copy. Two drivers cannot use the heap's memory, and copy: net_af_xdp (what is received), net_virtio_user; so does a driver that is not known
/// here, and net_memif with `zero-copy=yes`. `DeviceCapabilities.receiveMode` and `transmitMode` say which it is, and whether the driver itself copies.
///
/// What a driver does not take waits in the device, up to one burst of 64 frames; then `transmit` takes no more. While the link is down (nobody at
/// the other end of a memif, say) frames are dropped and counted as `transmitLinkDown`.
///
/// No driver for virtual devices can wake a sleeper. net_af_packet has the kernel put fragments of IPv4 together, and cuts what is longer than a frame then:
/// datagrams that need fragments are lost, and counted as `receiveMalformed`. net_af_xdp on a veth needs
/// `force_copy=1,busy_budget=0`: with its busy polling frames wait for the next one.
public enum DPDKDevice {
    /// Starts DPDK, if no device of the process did, and makes the device. It is started when a heap is attached.
    ///
    /// Most drivers need root. Memory of DPDK's own (`DPDKConfiguration.environmentByteCount`) is in huge pages where enough are free.
    /// - Throws: what DPDK ended with; `takeMessage` then has its own line. `EEXIST` when a device of this name is open.
    public static func open(_ configuration: DPDKConfiguration) throws(DemikernelError) -> EthernetDevice {
        _ = takeMessage()
        try DPDKEnvironment.start()
        let driver = DPDKDriver(device: configuration.device, options: configuration.options)
        let kernelMTU = try configuration.kernelInterface?.maximumTransmissionUnit()
        var made: OpaquePointer?
        let options = configuration.options(forMTU: configuration.maximumTransmissionUnit ?? kernelMTU)
        let result = dpdk_device_open(configuration.device, options, driver.memory, &made)
        guard result == 0, let made else { throw DemikernelError(-result, .initialize, DPDKDriver.message(-result)) }
        do throws(DemikernelError) {
            let description = try describe(made, configuration, kernelMTU)
            let state = UnsafeMutablePointer<DPDKState>.allocate(capacity: 1)
            let macAddress = configuration.macAddress ?? usable(description.mac_address) ?? madeUp(configuration)
            state.initialize(
                to: DPDKState(
                    device: made, maximumFrameByteCount: Int(description.mtu) + DeviceCapabilities.ethernetHeaderByteCount, macAddress: macAddress))
            return device(state, driver, maximumSegments: Int(description.maximum_segments))
        } catch {
            _ = dpdk_device_stop(made)
            dpdk_device_free(made)
            throw error
        }
    }

    /// The line that DPDK gave for the last failure, which is forgotten then; nil when it said nothing.
    public static func takeMessage() -> String? {
        var bytes = [CChar](repeating: 0, count: Int(dpdk_message_bytes))
        dpdk_take_message(&bytes)
        let text = String(decoding: bytes.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
        return text.isEmpty ? nil : text
    }

    private static func describe(
        _ device: OpaquePointer, _ configuration: DPDKConfiguration, _ kernelMTU: Int?
    ) throws(DemikernelError) -> dpdk_description {
        var description = dpdk_description()
        dpdk_device_describe(device, &description)
        if let kernelMTU {
            // Drivers on an interface of the kernel's do not ask for its MTU, and it is not theirs to change.
            description.mtu = UInt32(clamping: configuration.maximumTransmissionUnit ?? kernelMTU)
            guard description.mtu <= kernelMTU else {
                throw DemikernelError(EINVAL, .initialize, "the interface has a smaller MTU: `ip link set dev NAME mtu N`, or leave it out here")
            }
        } else if let mtu = configuration.maximumTransmissionUnit, mtu != description.mtu {
            let result = dpdk_device_set_mtu(device, UInt32(clamping: mtu))
            guard result == 0 || result == -ENOTSUP else {
                throw DemikernelError(-result, .initialize, "DPDK's driver does not take this MTU: ask for a smaller one")
            }
            description.mtu = UInt32(clamping: mtu)
        }
        guard (68...65_265).contains(description.mtu) else {
            throw DemikernelError(EINVAL, .initialize, "the MTU of a DPDK device lies between 68 and 65265")
        }
        return description
    }

    /// An address that a station can have; memif's default, for one, is that of a group.
    private static func usable(_ address: UInt64) -> UInt64? {
        address == 0 || address & 0x0100_0000_0000 != 0 ? nil : address
    }

    /// Locally administered. The options tell the two ends of a link apart (FNV-1a).
    private static func madeUp(_ configuration: DPDKConfiguration) -> UInt64 {
        var hash: UInt64 = 0xcbf2_9ce4_8422_2325
        for byte in "\(configuration.device),\(configuration.options)".utf8 { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3 }
        return (hash & 0xfcff_ffff_ffff) | 0x0200_0000_0000
    }

    private static func device(_ state: UnsafeMutablePointer<DPDKState>, _ driver: DPDKDriver, maximumSegments: Int) -> EthernetDevice {
        let most = ScatterGatherArray.maximumSegments
        let capabilities = DeviceCapabilities(
            macAddress: state.pointee.macAddress, maximumFrameByteCount: state.pointee.maximumFrameByteCount,
            maximumTransmitSegments: maximumSegments == 0 ? most : min(maximumSegments, most), driverMode: driver.mode,
            receiveMode: driver.receiveMode, transmitMode: driver.transmitMode)
        return EthernetDevice(
            name: "dpdk", context: UnsafeMutableRawPointer(state), capabilities: capabilities,
            close: { DPDKState.at($0).close() },
            attach: { DPDKState.at($0).attach($1.assumingMemoryBound(to: DatapathHeap.self).pointee) },
            transmit: { Int32(truncatingIfNeeded: DPDKState.at($0).transmit($1.assumingMemoryBound(to: Frame.self), Int($2))) },
            receive: { Int32(truncatingIfNeeded: DPDKState.at($0).receive($1.assumingMemoryBound(to: Frame.self), Int($2))) },
            prepareToSleep: { _ in EthernetDevice.cannotWake },
            statistics: { $1.assumingMemoryBound(to: DeviceStatistics.self).pointee = DPDKState.at($0).statistics() })
    }
}
#endif
