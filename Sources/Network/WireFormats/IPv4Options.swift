/// The options of a received IPv4 header (RFC 791 section 3.1): 0 to 40 bytes that end with the header.
@frozen
public struct IPv4Options {
    public let base: UnsafeRawPointer
    public let count: Int

    @inlinable @inline(__always)
    public init(base: UnsafeRawPointer, count: Int) {
        self.base = base
        self.count = count
    }

    /// What a walk over the options finds.
    @frozen
    public struct Summary: Hashable, Sendable {
        /// `badOptions` for a length below two or one that leads beyond the header, else `none`.
        public var error: ParseError = .none
        /// Where in the options the fault lies: the pointer of an ICMP parameter problem is 20 more.
        public var errorOffset: UInt8 = 0
        /// Whether the sender wants to choose the route: option 131 (loose) or 137 (strict).
        public var hasSourceRoute = false

        @inlinable
        init() {}
    }

    @inlinable @inline(__always)
    public var isEmpty: Bool { count == 0 }

    /// Their checksum's part. Not inlined: options are rare.
    @usableFromInline @inline(never)
    func sum() -> UInt64 { InternetChecksum.sum(base, count: count) }

    /// Walks over the options up to the end of the list, the end of the header or the first fault.
    //= RFC 791 section 3.1
    //# The options may appear or not in datagrams. They must be implemented by all IP modules.
    public func summary() -> Summary {
        var summary = Summary()
        var offset = 0
        while offset < count {
            let type = base.byte(offset)
            if type == OptionType.endOfList { break }
            if type == OptionType.noOperation {
                offset += 1
                continue
            }
            // Two bytes at least, type and length, and all of them inside.
            let length = offset + 1 < count ? Int(base.byte(offset + 1)) : 0
            guard length >= 2, length <= count - offset else {
                summary.error = .badOptions
                summary.errorOffset = UInt8(truncatingIfNeeded: offset)
                break
            }
            //= RFC 1122 section 3.2.1.8
            //# The IP and transport layers MUST each interpret those IP options that they understand and silently ignore the others.
            //= RFC 1122 section 3.2.1.8
            //# The Stream Identifier option is obsolete; it SHOULD NOT be sent, and it MUST be silently ignored if received.
            if type == OptionType.looseSourceRoute || type == OptionType.strictSourceRoute { summary.hasSourceRoute = true }
            offset += length
        }
        return summary
    }

    /// The option types that the walk knows.
    public enum OptionType {
        @inlinable public static var endOfList: UInt8 { 0 }
        @inlinable public static var noOperation: UInt8 { 1 }
        @inlinable public static var looseSourceRoute: UInt8 { 131 }
        @inlinable public static var strictSourceRoute: UInt8 { 137 }
    }
}
