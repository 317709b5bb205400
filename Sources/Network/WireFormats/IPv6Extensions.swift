/// The next-header numbers of IPv6 extension headers (RFC 8200 section 4).
public enum IPv6ExtensionType {
    @inlinable @inline(__always) public static var hopByHopOptions: UInt8 { 0 }
    @inlinable @inline(__always) public static var routing: UInt8 { 43 }
    @inlinable @inline(__always) public static var fragment: UInt8 { 44 }
    @inlinable @inline(__always) public static var noNextHeader: UInt8 { 59 }
    @inlinable @inline(__always) public static var destinationOptions: UInt8 { 60 }
}

/// What a walk over the extension headers of a packet to this host has found (RFC 8200 section 4).
@frozen
public struct IPv6Extensions {
    /// Why the packet goes no further.
    public enum Fault: UInt8, Sendable {
        /// Its upper-layer header was found.
        case none
        /// A header leads beyond the packet or breaks a limit, or an option asks for the packet to be dropped in silence.
        case discard
        /// Parameter problem, code 0.
        case erroneousField
        /// Parameter problem, code 1.
        case unrecognizedNextHeader
        /// Parameter problem, code 2.
        case unrecognizedOption
        /// The same, unless the packet was sent to a group.
        case unrecognizedOptionUnlessMulticast
    }

    /// The fragment header of a packet that is a part of another.
    @frozen
    public struct Fragment: Equatable, Sendable {
        /// Where the fragment header lies in the packet, and where the next-header number that names it.
        public var headerOffset: Int
        public var nextHeaderOffset: Int
        /// Of the header behind it.
        public var nextHeader: UInt8
        /// Where the payload lies in what was fragmented, in bytes: a multiple of 8.
        public var offset: Int
        public var moreFragments: Bool
        public var identification: UInt32

        public init(headerOffset: Int, nextHeaderOffset: Int, nextHeader: UInt8, offset: Int, moreFragments: Bool, identification: UInt32) {
            self.headerOffset = headerOffset
            self.nextHeaderOffset = nextHeaderOffset
            self.nextHeader = nextHeader
            self.offset = offset
            self.moreFragments = moreFragments
            self.identification = identification
        }
    }

    public private(set) var fault = Fault.none
    /// Where in the packet the fault lies: at its end for a header that is missing, which is no fault to report.
    public private(set) var faultOffset = 0
    /// The protocol behind the extension headers, one of `IPProtocol` or any other number; `noNextHeader` where there is none.
    public private(set) var nextHeader: UInt8
    /// Where the next-header number lies that names the protocol.
    public private(set) var nextHeaderOffset = 6
    /// Where the protocol's header begins.
    public private(set) var offset = 40
    public private(set) var hasRouterAlert = false
    /// Whether there is a fragment header, be it that of a whole packet.
    public private(set) var hasFragmentHeader = false
    /// Nil for a whole packet, also for one with the fragment header of a whole packet (RFC 6946).
    public private(set) var fragment: Fragment?

    /// Extension headers of one packet.
    @inlinable
    public static var maximumHeaders: Int { 8 }
    /// Options of one header, padding included.
    //= RFC 8504 section 5.3
    //# A host MAY limit the number of options of a hop-by-hop or destination options header.
    @inlinable
    public static var maximumOptions: Int { 32 }

    /// Walks over the extension headers of a packet that has been checked. O(headers and options), which are both bounded.
    public init(_ packet: IPv6View) {
        nextHeader = packet.nextHeader
        // Nearly every packet has none.
        if !IPv6Extensions.isExtension(nextHeader) { return }
        walk(packet.base, end: packet.totalByteCount)
    }

    @inline(__always)
    private static func isExtension(_ number: UInt8) -> Bool {
        number == IPv6ExtensionType.hopByHopOptions || number == IPv6ExtensionType.routing || number == IPv6ExtensionType.fragment
            || number == IPv6ExtensionType.destinationOptions
    }

    //= RFC 8200 section 4
    //# extension headers must be processed strictly in the order they appear in the packet
    private mutating func walk(_ base: UnsafeRawPointer, end: Int) {
        var count = 0
        while IPv6Extensions.isExtension(nextHeader) {
            count += 1
            guard count <= IPv6Extensions.maximumHeaders, end &- offset >= 8 else { return fail(.discard, at: offset) }
            //= RFC 8200 section 4.1
            //# IPv6 nodes must accept and attempt to process extension headers in any order and occurring any number of times in the same packet, except for
            //# the Hop-by-Hop Options header, which is restricted to appear immediately after an IPv6 header only.
            if nextHeader == IPv6ExtensionType.hopByHopOptions && count > 1 { return fail(.unrecognizedNextHeader, at: nextHeaderOffset) }
            let isFragmentHeader = nextHeader == IPv6ExtensionType.fragment
            //= RFC 8200 section 4.3
            //# Length of the Hop-by-Hop Options header in 8-octet units, not including the first 8 octets.
            let byteCount = isFragmentHeader ? 8 : (Int(base.byte(offset &+ 1)) &+ 1) &* 8
            guard byteCount <= end &- offset else { return fail(.discard, at: offset) }
            switch nextHeader {
            case IPv6ExtensionType.routing:
                //= RFC 8200 section 4.4
                //# If Segments Left is zero, the node must ignore the Routing header and proceed to process the next header in the packet. If Segments Left is
                //# non-zero, the node must discard the packet and send an ICMP Parameter Problem, Code 0, message to the packet's Source Address, pointing to
                //# the
                //# unrecognized Routing Type.
                //= RFC 5095 section 3
                //# An IPv6 node that receives a packet with a destination address assigned to it and that contains an RH0 extension header MUST NOT execute the
                //# algorithm specified in the latter part of Section 4.4 of RFC2460 for RH0.
                if base.byte(offset &+ 3) != 0 { return fail(.erroneousField, at: offset &+ 2) }
            case IPv6ExtensionType.fragment:
                hasFragmentHeader = true
                let field = base.bigEndian16(offset &+ 2)
                let found = Fragment(
                    headerOffset: offset, nextHeaderOffset: nextHeaderOffset, nextHeader: base.byte(offset), offset: Int(field & 0xfff8),
                    moreFragments: field & 1 != 0, identification: base.bigEndian32(offset &+ 4))
                //= RFC 6946 section 4
                //# A host that receives an IPv6 "atomic fragment" MUST process that packet in isolation from any other packets/fragments.
                if found.moreFragments || found.offset > 0 {
                    fragment = found
                    offset &+= 8
                    return
                }
            default:
                guard walkOptions(base, from: offset &+ 2, to: offset &+ byteCount) else { return }
            }
            nextHeader = base.byte(offset)
            nextHeaderOffset = offset
            offset &+= byteCount
        }
    }

    /// - Returns: whether the packet goes on.
    private mutating func walkOptions(_ base: UnsafeRawPointer, from start: Int, to end: Int) -> Bool {
        var position = start
        var count = 0
        while position < end {
            let type = base.byte(position)
            count += 1
            guard count <= IPv6Extensions.maximumOptions else {
                fail(.discard, at: position)
                return false
            }
            // Pad1 has no length.
            if type == 0 {
                position &+= 1
                continue
            }
            guard end &- position >= 2, Int(base.byte(position &+ 1)) <= end &- position &- 2 else {
                fail(.discard, at: position)
                return false
            }
            switch type {
            // PadN.
            case 1: break
            // Router alert (RFC 2711), which says nothing to a host.
            case 5: hasRouterAlert = true
            default:
                //= RFC 8200 section 4.2
                //# The Option Type identifiers are internally encoded such that their highest-order 2 bits specify the action that must be taken if the
                //# processing IPv6 node does not recognize the Option Type
                let action = type &>> 6
                if action != 0 {
                    fail(action == 1 ? .discard : action == 2 ? .unrecognizedOption : .unrecognizedOptionUnlessMulticast, at: position)
                    return false
                }
            }
            position &+= 2 &+ Int(base.byte(position &+ 1))
        }
        return true
    }

    private mutating func fail(_ fault: Fault, at offset: Int) {
        self.fault = fault
        faultOffset = offset
    }
}
