#if DPDK
import NetworkInterface

/// Drivers that are on an interface of the kernel's.
extension DPDKConfiguration {
    /// The interface of the kernel's that the device is on; nil where there is none, or the options do not name one.
    var kernelInterface: NetworkInterface? {
        guard ["net_af_packet", "net_af_xdp"].contains(DPDKDriver.name(ofDevice: device)) else { return nil }
        let option = options.split(separator: ",").first { $0.hasPrefix("iface=") }
        return option.map { NetworkInterface(String($0.dropFirst("iface=".count))) }
    }

    /// The options, and where they do not tell the size of a packet ring's frames, one that packets of `mtu` bytes fit into and that fits into a block: the
    /// driver's own is 2048, which with the room in front would take a block twice as large.
    func options(forMTU mtu: Int?) -> String {
        guard DPDKDriver.name(ofDevice: device) == "net_af_packet", let mtu, !options.contains("framesz=") else { return options }
        // linux/if_packet.h: the network header is at the next multiple of 16 behind a tpacket2_hdr, a sockaddr_ll (52 bytes) and 16 more.
        let frameByteCount = (80 + mtu + 63) / 64 * 64
        // Blocks are pages of the kernel, and the driver wants no gap between the frames of one block and the next: the least common multiple.
        let pageByteCount = 4096
        let commonFactor = 1 << min(frameByteCount.trailingZeroBitCount, pageByteCount.trailingZeroBitCount)
        return "\(options),framesz=\(frameByteCount)" + (options.contains("blocksz=") ? "" : ",blocksz=\(frameByteCount / commonFactor * pageByteCount)")
    }
}
#endif
