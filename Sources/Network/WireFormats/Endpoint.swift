/// An address and a port: one end of a UDP or TCP flow.
@frozen
public struct Endpoint: Hashable, Sendable {
    public var address: IPAddress
    /// In host order.
    public var port: UInt16

    @inlinable @inline(__always)
    public init(address: IPAddress, port: UInt16) {
        self.address = address
        self.port = port
    }

    @inlinable @inline(__always)
    public static func == (left: Endpoint, right: Endpoint) -> Bool {
        left.address == right.address && left.port == right.port
    }
}

extension Endpoint: CustomStringConvertible {
    /// `10.0.0.1:7` or `[fe80::1]:7`.
    public var description: String { address.isIPv4 ? "\(address):\(port)" : "[\(address)]:\(port)" }
}
