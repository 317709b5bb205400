import QueueRuntime
import WireFormats

/// Addresses in the stack's form.
extension SocketAddress {
    @inline(__always)
    init(_ endpoint: Endpoint) {
        self.init(family: .ipv4, bytes: (UInt64(endpoint.address.ipv4Raw), 0), port: endpoint.port)
    }

    /// Meaningful for IPv4 addresses.
    @inline(__always)
    var endpoint: Endpoint { Endpoint(address: IPAddress(ipv4Raw: UInt32(truncatingIfNeeded: bytes.0)), port: port) }
}
