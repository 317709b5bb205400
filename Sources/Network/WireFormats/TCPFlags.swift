/// The control bits of a TCP header (RFC 9293 section 3.1), as they lie in its octet 13.
@frozen
public struct TCPFlags: OptionSet, Hashable, Sendable {
    public let rawValue: UInt8

    @inlinable @inline(__always)
    public init(rawValue: UInt8) { self.rawValue = rawValue }

    @inlinable @inline(__always) public static var fin: TCPFlags { TCPFlags(rawValue: 1) }
    @inlinable @inline(__always) public static var syn: TCPFlags { TCPFlags(rawValue: 2) }
    @inlinable @inline(__always) public static var rst: TCPFlags { TCPFlags(rawValue: 4) }
    @inlinable @inline(__always) public static var psh: TCPFlags { TCPFlags(rawValue: 8) }
    @inlinable @inline(__always) public static var ack: TCPFlags { TCPFlags(rawValue: 16) }
    @inlinable @inline(__always) public static var urg: TCPFlags { TCPFlags(rawValue: 32) }
    /// ECN echo (RFC 3168 section 6.1).
    @inlinable @inline(__always) public static var ece: TCPFlags { TCPFlags(rawValue: 64) }
    /// Congestion window reduced (RFC 3168 section 6.1).
    @inlinable @inline(__always) public static var cwr: TCPFlags { TCPFlags(rawValue: 128) }
}

extension TCPFlags: CustomStringConvertible {
    /// The names of the bits that are set, as in `SYN|ACK`; `-` for none.
    public var description: String {
        let names: [(TCPFlags, String)] = [
            (.fin, "FIN"), (.syn, "SYN"), (.rst, "RST"), (.psh, "PSH"), (.ack, "ACK"), (.urg, "URG"), (.ece, "ECE"), (.cwr, "CWR"),
        ]
        let set = names.filter { contains($0.0) }.map(\.1)
        return set.isEmpty ? "-" : set.joined(separator: "|")
    }
}
