import DatapathMemory

/// Two Ethernet devices joined by a link in memory, for tests, simulations and stacks in one process.
///
/// The link is up while both ends are attached; a frame that is sent before or after is lost, as on a wire without a peer, and counted as
/// `transmitLinkDown`. A frame of one segment whose block is of the receiving end's heap is handed over by its pointer, without a copy: so one heap
/// attached to both ends makes a zero-copy link. Its block may then be shared with the sender (which keeps it to retransmit, say), and the
/// receiver may write into it only where `isSoleOwner` holds. Every other frame (another heap's, or of several segments) is copied into one
/// block of the receiving heap, at the priority of a datagram, as a network card's DMA does: so a received frame always has one segment. Where that
/// heap has no block the frame is lost, and counted by the receiving end as `receiveOutOfMemory`.
///
/// Frames keep their order and are not padded to Ethernet's least length. Both ends belong to one thread, since counts on blocks do.
public enum MemoryEthernetPair {
    /// Makes the two ends.
    /// - Parameters:
    ///   - capacity: frames in flight in each direction; `transmit` takes no more.
    ///   - mtu: bytes of the largest payload of a frame.
    ///   - macAddresses: of the first and of the second end, 48 bits each.
    ///   - elidesChecksums: whether the link offers the checksums of TCP and UDP as an offload: memory corrupts nothing, so a frame that asks for its
    ///     checksum to be completed is received as one whose checksums are verified, and nobody computes them. A frame that asks for nothing
    ///     is received without flags.
    public static func make(
        capacity: Int = 1024, mtu: Int = 1500, macAddresses: (UInt64, UInt64) = (0x0200_0000_0001, 0x0200_0000_0002), elidesChecksums: Bool = false
    ) -> (EthernetDevice, EthernetDevice) {
        precondition(capacity > 0 && capacity <= 1 << 24, "a link holds between 1 and 16777216 frames")
        precondition(mtu > 0 && mtu <= 65535, "an MTU lies between 1 and 65535 bytes")
        let ends = UnsafeMutablePointer<MemoryLinkEnd>.allocate(capacity: 2)
        for index in 0..<2 {
            (ends + index).initialize(
                to: MemoryLinkEnd(
                    peer: ends + (1 - index), allocation: ends, capacity: capacity,
                    maximumFrameByteCount: DeviceCapabilities.ethernetHeaderByteCount + mtu, elidesChecksums: elidesChecksums))
        }
        return (
            device(ends, macAddress: macAddresses.0),
            device(ends + 1, macAddress: macAddresses.1)
        )
    }

    private static func device(_ end: UnsafeMutablePointer<MemoryLinkEnd>, macAddress: UInt64) -> EthernetDevice {
        let offloads: DeviceOffloads = [.receiveChecksumIPv4, .receiveChecksumTCP, .receiveChecksumUDP, .transmitChecksumTCP, .transmitChecksumUDP]
        let capabilities = DeviceCapabilities(
            macAddress: macAddress, maximumFrameByteCount: end.pointee.maximumFrameByteCount,
            maximumTransmitSegments: ScatterGatherArray.maximumSegments, offloads: end.pointee.elidesChecksums ? offloads : [],
            driverMode: "memory", receiveMode: "zero copy within one heap, else copy", transmitMode: "zero copy within one heap, else copy")
        return EthernetDevice(
            name: "memory", context: UnsafeMutableRawPointer(end), capabilities: capabilities,
            close: { MemoryLinkEnd.at($0).close() },
            attach: { MemoryLinkEnd.at($0).attach($1.assumingMemoryBound(to: DatapathHeap.self).pointee) },
            transmit: { Int32(truncatingIfNeeded: MemoryLinkEnd.at($0).transmit($1.assumingMemoryBound(to: Frame.self), Int($2))) },
            receive: { Int32(truncatingIfNeeded: MemoryLinkEnd.at($0).receive($1.assumingMemoryBound(to: Frame.self), Int($2))) },
            prepareToSleep: { MemoryLinkEnd.at($0).pointee.isEmpty ? EthernetDevice.nothingToAwait : EthernetDevice.cannotWake },
            statistics: { $1.assumingMemoryBound(to: DeviceStatistics.self).pointee = MemoryLinkEnd.at($0).pointee.statistics })
    }
}
