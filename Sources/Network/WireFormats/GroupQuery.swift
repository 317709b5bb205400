/// The protocols by which hosts tell routers which groups they listen to: IGMP (RFC 1112, RFC 2236, RFC 3376) for IPv4, MLD (RFC 2710, RFC 3810) for IPv6.
/// MLD's versions are those of IGMP, less the first.
public enum GroupProtocol: UInt8, Sendable {
    case igmpv1, igmpv2, igmpv3, mldv1, mldv2

    /// Whether one report tells of many groups and of the sources that are wanted; in the older versions each group has its own.
    @inlinable
    public var reportsSources: Bool { self == .igmpv3 || self == .mldv2 }
}

/// A router's question which groups a host listens to. The view borrows the bytes; no accessor reads outside of them.
@frozen
public struct GroupQuery {
    /// The version that its sender speaks.
    public let version: GroupProtocol
    /// Which group it is about; unspecified for all of them.
    public let group: IPAddress
    /// Until when it wants an answer, in nanoseconds.
    public let maximumResponseTime: UInt64
    /// How often a host says what has changed, and how often the querier asks, in nanoseconds; 0 where it does not tell.
    public let robustness: UInt8
    public let queryInterval: UInt64
    /// The sources that it is about, where it is not about all of them.
    public let sourceCount: Int
    private let sources: UnsafeRawPointer

    public var isGeneral: Bool { group.isUnspecified }

    /// Nil for bytes that are no query of any version. The checksum is not looked at.
    //= RFC 3376 section 7.1
    //# The IGMP version of a Membership Query message is determined as follows: IGMPv1 Query: length = 8 octets AND Max Resp Code field is zero; IGMPv2
    //# Query:
    //# length = 8 octets AND Max Resp Code field is non-zero; IGMPv3 Query: length >= 12 octets. Query messages that do not match any of the above conditions
    //# (e.g., a Query of length 10 octets) MUST be silently ignored.
    public init?(igmp message: UnsafeRawPointer, count: Int) {
        guard count == 8 || count >= 12, message.byte(0) == IGMPType.membershipQuery else { return nil }
        let code = message.byte(1)
        group = IPAddress(ipv4Raw: message.raw32(4))
        guard group.isUnspecified || group.isMulticast else { return nil }
        if count == 8 {
            version = code == 0 ? .igmpv1 : .igmpv2
            //= RFC 2236 section 4
            //# The IGMPv1 router will send General Queries with the Max Response Time set to 0. This MUST be interpreted as a value of 100 (10 seconds).
            maximumResponseTime = (code == 0 ? 100 : UInt64(code)) &* 100_000_000
            (robustness, queryInterval, sourceCount, sources) = (0, 0, 0, message)
        } else {
            version = .igmpv3
            maximumResponseTime = GroupQuery.value(of: code) &* 100_000_000
            robustness = message.byte(8) & 7
            queryInterval = GroupQuery.value(of: message.byte(9)) &* 1_000_000_000
            sourceCount = Int(message.bigEndian16(10))
            sources = message + 12
            guard sourceCount &* 4 <= count &- 12, !group.isUnspecified || sourceCount == 0 else { return nil }
        }
    }

    /// The same of MLD.
    //= RFC 3810 section 8.1
    //# The MLD version of a Multicast Listener Query message is determined as follows: MLDv1 Query: length = 24 octets; MLDv2 Query: length >= 28 octets.
    //# Query
    //# messages that do not match any of the above conditions (e.g., a Query of length 26 octets) MUST be silently ignored.
    public init?(mld message: ICMPv6View) {
        guard message.count == 24 || message.count >= 28, message.type == ICMPv6Type.multicastListenerQuery else { return nil }
        let code = UInt16(truncatingIfNeeded: message.restOfHeader &>> 16)
        group = IPAddress(ipv6At: message.base + 8)
        guard !group.isIPv4, group.isUnspecified || group.isMulticast else { return nil }
        if message.count == 24 {
            version = .mldv1
            maximumResponseTime = UInt64(code) &* 1_000_000
            (robustness, queryInterval, sourceCount, sources) = (0, 0, 0, message.base)
        } else {
            version = .mldv2
            //= RFC 3810 section 5.1.3
            //# The Maximum Response Code field specifies the maximum time allowed before sending a responding Report. If Maximum Response Code >= 32768,
            //# Maximum
            //# Response Code represents a floating-point value.
            let milliseconds = code < 32_768 ? UInt64(code) : (UInt64(code) & 0xfff | 0x1000) &<< (UInt64(code) &>> 12 & 7 &+ 3)
            maximumResponseTime = milliseconds &* 1_000_000
            robustness = message.base.byte(24) & 7
            queryInterval = GroupQuery.value(of: message.base.byte(25)) &* 1_000_000_000
            sourceCount = Int(message.base.bigEndian16(26))
            sources = message.base + 28
            guard sourceCount &* 16 <= message.count &- 28, !group.isUnspecified || sourceCount == 0 else { return nil }
        }
    }

    /// - Parameter index: below `sourceCount`.
    public func source(_ index: Int) -> IPAddress {
        precondition(index >= 0 && index < sourceCount)
        return version == .igmpv3 ? IPAddress(ipv4Raw: sources.raw32(index &* 4)) : IPAddress(ipv6At: sources + index &* 16)
    }

    //= RFC 3376 section 4.1.1
    //# If Max Resp Code >= 128, Max Resp Code represents a floating-point value as follows: Max Resp Time = (mant | 0x10) << (exp + 3)
    //= RFC 3376 section 4.1.7
    //# If QQIC >= 128, QQIC represents a floating-point value
    static func value(of code: UInt8) -> UInt64 {
        code < 128 ? UInt64(code) : (UInt64(code) & 0xf | 0x10) &<< (UInt64(code) &>> 4 & 7 &+ 3)
    }
}
