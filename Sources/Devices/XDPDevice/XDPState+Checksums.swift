import CLinuxDevices
import DatapathMemory
import EthernetDevice

/// Checksums of segments that are sent: the kernel completes them, by what stands in front of the frame (Documentation/networking/xsk-tx-metadata.rst), or
/// leaves that to the network card; on a veth nobody does, and the kernel at the other end knows that.
extension XDPState {
    /// Bytes in front of a frame that are the kernel's.
    static let metadataByteCount = MemoryLayout<linux_xdp_metadata>.size
    /// Where the field lies in a TCP header.
    fileprivate static let checksumOffset = 16

    /// Where the TCP header of a frame begins; the stack's segments have no extension headers.
    fileprivate static func transportOffset(_ frame: UnsafeMutableRawPointer) -> Int {
        (frame + 12).loadUnaligned(as: UInt16.self) == 0x0008 ? 14 + Int((frame + 14).load(as: UInt8.self) & 15) * 4 : 54
    }
}

extension UnsafeMutablePointer<XDPState> {
    /// Leaves the checksum of a frame that wants one to the kernel. Where there is no room to say so, it is completed here.
    /// - Returns: whether the kernel has to look in front of the frame.
    @inline(never)
    func leavesChecksum(_ frame: Frame) -> Bool {
        guard frame.headroom >= XDPState.metadataByteCount, pointee.grant.completesChecksums else {
            _ = completeChecksum(frame)
            return false
        }
        let start = frame.segmentAddress
        (start - XDPState.metadataByteCount).storeBytes(
            of: linux_xdp_metadata(
                flags: UInt64(linux_xdp_metadata_checksum), checksum_start: UInt16(truncatingIfNeeded: XDPState.transportOffset(start)),
                checksum_offset: UInt16(XDPState.checksumOffset), unused: 0, launch_time: 0),
            as: linux_xdp_metadata.self)
        return true
    }

    /// Completes the checksum of a frame that wants one.
    /// - Returns: true.
    @inline(never)
    func completeChecksum(_ frame: Frame) -> Bool {
        guard frame.frameFlags.contains(.needsTransportChecksum) else { return true }
        let transportOffset = XDPState.transportOffset(frame.segmentAddress)
        var sum: UInt64 = 0
        var position = 0
        var segment: Frame? = frame
        // The field holds the pseudo-header's sum, and is summed with the rest.
        while let current = segment {
            for index in 0..<current.segmentByteCount {
                if position >= transportOffset {
                    let byte = UInt64((current.segmentAddress + index).load(as: UInt8.self))
                    sum &+= (position &- transportOffset) & 1 == 0 ? byte &<< 8 : byte
                }
                position &+= 1
            }
            segment = current.nextSegment
        }
        while sum >> 16 != 0 { sum = sum & 0xffff &+ sum >> 16 }
        (frame.segmentAddress + transportOffset + XDPState.checksumOffset).storeBytes(of: UInt16(truncatingIfNeeded: ~sum).bigEndian, as: UInt16.self)
        frame.frameFlags.remove(.needsTransportChecksum)
        return true
    }
}
