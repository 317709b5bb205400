/// ICMPv6 messages, for writing. Each begins at `target`, behind the IPv6 header; the functions return its length with the header. The checksum is zero
/// until `complete` has written it.
public enum ICMPv6Message {
    /// Of type, code, checksum and the four bytes behind them.
    @inlinable @inline(__always)
    public static var headerByteCount: Int { 8 }

    /// Writes the checksum of a message whose own is zero.
    @inlinable
    public static func complete(_ message: UnsafeMutableRawPointer, count: Int, source: IPAddress, destination: IPAddress) {
        let pseudoHeader = InternetChecksum.pseudoHeader(source: source, destination: destination, protocolNumber: IPProtocol.icmpv6, byteCount: count)
        message.storeRaw(InternetChecksum.finish(pseudoHeader &+ InternetChecksum.sum(message, count: count)), at: 2)
    }

    @inlinable @inline(__always)
    static func writeHeader(_ target: UnsafeMutableRawPointer, _ type: UInt8, _ code: UInt8, _ rest: UInt32) {
        target.storeRaw(UInt32(type) | UInt32(code) &<< 8, at: 0)
        target.storeRaw(rest.bigEndian, at: 4)
    }

    // MARK: Errors and echoes

    /// The most that an error message quotes.
    //= RFC 4443 section 2.4
    //# Every ICMPv6 error message (type < 128) MUST include as much of the IPv6 offending (invoking) packet as possible without making the error message packet
    //# exceed the minimum IPv6 MTU.
    @inlinable @inline(__always)
    public static var maximumQuotedByteCount: Int { IPv6Header.minimumMTU - IPv6Header.byteCount - headerByteCount }

    /// The length of the error message about `packet`, with the ICMPv6 header.
    @inlinable @inline(__always)
    public static func errorByteCount(quoting packet: IPv6View) -> Int { headerByteCount &+ min(packet.totalByteCount, maximumQuotedByteCount) }

    /// Writes an error message about `packet`.
    /// - Parameter restOfHeader: bytes 4 to 7 in host order: the MTU, the pointer, or zero.
    public static func writeError(to target: UnsafeMutableRawPointer, type: UInt8, code: UInt8, restOfHeader: UInt32 = 0, quoting packet: IPv6View) -> Int {
        writeHeader(target, type, code, restOfHeader)
        let quoted = min(packet.totalByteCount, maximumQuotedByteCount)
        (target + 8).copyMemory(from: packet.base, byteCount: quoted)
        return headerByteCount &+ quoted
    }

    /// Turns the echo request at `message` into its reply, in place.
    //= RFC 4443 section 4.2
    //# The data received in the ICMPv6 Echo Request message MUST be returned entirely and unmodified in the ICMPv6 Echo Reply message.
    @inlinable
    public static func turnIntoEchoReply(_ message: UnsafeMutableRawPointer) {
        message.storeRaw(UInt32(ICMPv6Type.echoReply), at: 0)
    }

    // MARK: Neighbour discovery

    /// The longest of the messages below.
    @inlinable @inline(__always)
    public static var maximumNeighborDiscoveryByteCount: Int { 32 }

    /// Writes a neighbour solicitation of 24 bytes, or 32 with the sender's hardware address.
    public static func writeNeighborSolicitation(to target: UnsafeMutableRawPointer, for address: IPAddress, sender: MACAddress?) -> Int {
        writeHeader(target, ICMPv6Type.neighborSolicitation, 0, 0)
        return writeTarget(target, address, NeighborDiscoveryOption.sourceLinkLayerAddress, sender)
    }

    /// Writes a neighbour advertisement of 32 bytes.
    public static func writeNeighborAdvertisement(
        to target: UnsafeMutableRawPointer, of address: IPAddress, macAddress: MACAddress, isSolicited: Bool, overrides: Bool
    ) -> Int {
        writeHeader(target, ICMPv6Type.neighborAdvertisement, 0, (isSolicited ? 0x4000_0000 : 0) | (overrides ? 0x2000_0000 : 0))
        return writeTarget(target, address, NeighborDiscoveryOption.targetLinkLayerAddress, macAddress)
    }

    /// Writes a router solicitation of 8 bytes, or 16 with the sender's hardware address.
    public static func writeRouterSolicitation(to target: UnsafeMutableRawPointer, sender: MACAddress?) -> Int {
        writeHeader(target, ICMPv6Type.routerSolicitation, 0, 0)
        guard let sender else { return 8 }
        writeLinkLayerAddress(target + 8, NeighborDiscoveryOption.sourceLinkLayerAddress, sender)
        return 16
    }

    private static func writeTarget(_ target: UnsafeMutableRawPointer, _ address: IPAddress, _ option: UInt8, _ macAddress: MACAddress?) -> Int {
        target.storeRaw(address.words.0, at: 8)
        target.storeRaw(address.words.1, at: 16)
        guard let macAddress else { return 24 }
        writeLinkLayerAddress(target + 24, option, macAddress)
        return 32
    }

    private static func writeLinkLayerAddress(_ target: UnsafeMutableRawPointer, _ option: UInt8, _ macAddress: MACAddress) {
        target.storeRaw(UInt16(option) | 1 << 8, at: 0)
        macAddress.store(to: target + 2)
    }

    // MARK: Multicast listener discovery

    /// Writes the header of an MLDv2 report (RFC 3810 section 5.2), behind which `count` records lie: 8 bytes.
    public static func writeListenerReport(to target: UnsafeMutableRawPointer, records count: Int) {
        writeHeader(target, ICMPv6Type.multicastListenerReport, 0, UInt32(truncatingIfNeeded: count))
    }

    /// Writes a report of MLDv1, or that there are no listeners any more: 24 bytes.
    public static func writeListenerMessage(to target: UnsafeMutableRawPointer, type: UInt8, group: IPAddress) {
        writeHeader(target, type, 0, 0)
        target.storeRaw(group.words.0, at: 8)
        target.storeRaw(group.words.1, at: 16)
    }
}
