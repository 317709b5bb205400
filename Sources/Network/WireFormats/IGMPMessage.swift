/// The types of IGMP messages (RFC 3376 section 4).
public enum IGMPType {
    @inlinable @inline(__always) public static var membershipQuery: UInt8 { 0x11 }
    @inlinable @inline(__always) public static var version1Report: UInt8 { 0x12 }
    @inlinable @inline(__always) public static var version2Report: UInt8 { 0x16 }
    @inlinable @inline(__always) public static var leaveGroup: UInt8 { 0x17 }
    @inlinable @inline(__always) public static var version3Report: UInt8 { 0x22 }
}

/// A received IGMP message of eight bytes at least: the payload of an IPv4 packet. The view borrows the bytes.
@frozen
public struct IGMPView {
    public let base: UnsafeRawPointer
    public let count: Int

    /// Nil for fewer than eight bytes.
    @inlinable
    public init?(_ bytes: UnsafeRawPointer, count: Int) {
        guard count >= 8 else { return nil }
        base = bytes
        self.count = count
    }

    /// One of `IGMPType`, or any other number.
    @inlinable
    public var type: UInt8 { base.byte(0) }

    /// Of all messages but a report of version 3: the group that they are about.
    @inlinable
    public var group: IPAddress { IPAddress(ipv4Raw: base.raw32(4)) }

    //= RFC 3376 section 4.1.2
    //# The Checksum is the 16-bit one's complement of the one's complement sum of the whole IGMP message (the entire IP payload). When receiving packets, the
    //# checksum MUST be verified before processing a packet.
    public var isChecksumValid: Bool { InternetChecksum.isValid(InternetChecksum.sum(base, count: count)) }

    /// Nil for what is no query.
    public var query: GroupQuery? { GroupQuery(igmp: base, count: count) }
}

/// IGMP messages, for writing. Each begins at `target`, behind the IPv4 header; the checksum is zero until `complete` has written it.
public enum IGMPMessage {
    public static func complete(_ message: UnsafeMutableRawPointer, count: Int) {
        message.storeRaw(InternetChecksum.finish(InternetChecksum.sum(message, count: count)), at: 2)
    }

    /// Writes a report of the older versions, or a leave: 8 bytes.
    //= RFC 2236 section 2
    //# All IGMP messages of concern to hosts have the following format: Type, Max Resp Time, Checksum, Group Address
    public static func writeMessage(to target: UnsafeMutableRawPointer, type: UInt8, group: IPAddress) {
        target.storeRaw(UInt32(type), at: 0)
        target.storeRaw(group.ipv4Raw, at: 4)
    }

    /// Writes the header of a report of version 3 (RFC 3376 section 4.2), behind which `count` records lie: 8 bytes.
    public static func writeReport(to target: UnsafeMutableRawPointer, records count: Int) {
        target.storeRaw(UInt32(IGMPType.version3Report), at: 0)
        target.storeRaw(UInt32(truncatingIfNeeded: count).bigEndian, at: 4)
    }
}

/// What a record of a report of IGMPv3 or MLDv2 says of its group (RFC 3376 section 4.2.12, RFC 3810 section 5.2.12).
@frozen
public enum GroupRecordType: UInt8, Sendable {
    //= RFC 3376 section 4.2.12
    //# A "Current-State Record" is sent by a system in response to a Query received on an interface: 1 MODE_IS_INCLUDE, 2 MODE_IS_EXCLUDE. A
    //# "Filter-Mode-Change
    //# Record": 3 CHANGE_TO_INCLUDE_MODE, 4 CHANGE_TO_EXCLUDE_MODE
    //= RFC 3810 section 5.2.12
    //# MODE_IS_INCLUDE has value 1, MODE_IS_EXCLUDE has value 2, CHANGE_TO_INCLUDE_MODE has value 3, CHANGE_TO_EXCLUDE_MODE has value 4
    /// The sources behind it are wanted, and were asked about.
    case modeIsInclude = 1
    /// All sources but those behind it are wanted.
    case modeIsExclude = 2
    /// From now on only the sources behind it are wanted: with none of them the group is left.
    case changeToInclude = 3
    /// From now on all sources but those behind it are wanted: with none of them the group is joined.
    case changeToExclude = 4
}

/// The records of reports of IGMPv3 and MLDv2, for writing.
public enum GroupRecord {
    /// The bytes of a record with so many sources.
    public static func byteCount(of group: IPAddress, sources count: Int = 0) -> Int { group.isIPv4 ? 8 &+ 4 &* count : 20 &+ 16 &* count }

    /// Writes a record of `byteCount(of:sources:)` bytes.
    public static func write(
        to target: UnsafeMutableRawPointer, _ type: GroupRecordType, group: IPAddress, sources: UnsafePointer<IPAddress>? = nil, sourceCount: Int = 0
    ) {
        target.storeRaw(UInt32(type.rawValue) | UInt32(UInt16(truncatingIfNeeded: sourceCount).bigEndian) &<< 16, at: 0)
        write(group, to: target + 4, isIPv4: group.isIPv4)
        let list = target + byteCount(of: group)
        guard let sources else { return }
        for index in 0..<sourceCount { write(sources[index], to: list + index &* (group.isIPv4 ? 4 : 16), isIPv4: group.isIPv4) }
    }

    /// A source of an IPv6 group takes sixteen bytes whatever a querier has put into them.
    private static func write(_ address: IPAddress, to target: UnsafeMutableRawPointer, isIPv4: Bool) {
        if isIPv4 { return target.storeRaw(address.ipv4Raw, at: 0) }
        target.storeRaw(address.words.0, at: 0)
        target.storeRaw(address.words.1, at: 8)
    }
}
