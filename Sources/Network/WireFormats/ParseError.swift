/// Why bytes are not what they were taken for. A peer causes these: they are counted and the packet is dropped, nothing traps.
@frozen
public enum ParseError: UInt8, Hashable, Sendable {
    /// The bytes are well formed.
    case none
    /// Fewer bytes than the header, or than it says there are.
    case truncated
    /// An IP version other than that of the parser.
    case badVersion
    /// A header length below the smallest header.
    case badHeaderLength
    /// A total length below the header's.
    case badTotalLength
    /// The one's complement sum is not zero.
    case badChecksum
    /// A length field below the smallest message.
    case badLength
    /// An option whose length is below two, or leads beyond the header.
    case badOptions
}
