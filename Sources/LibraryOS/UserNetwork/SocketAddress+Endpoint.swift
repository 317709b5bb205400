import QueueRuntime
import WireFormats

/// Addresses in the stack's form.
extension SocketAddress {
    @inline(__always)
    init(_ endpoint: Endpoint) {
        if endpoint.address.isIPv4 {
            self.init(family: .ipv4, bytes: (UInt64(endpoint.address.ipv4Raw), 0), port: endpoint.port)
        } else {
            self.init(family: .ipv6, bytes: endpoint.address.words, port: endpoint.port)
        }
    }

    /// As a socket of `family` tells it: IPv4 addresses are IPv4-mapped ones to an IPv6 socket (RFC 3493, section 3.7).
    @inline(__always)
    init(_ endpoint: Endpoint, as family: AddressFamily) {
        if family == .ipv4 {
            self.init(endpoint)
        } else {
            // The stack's own form.
            self.init(family: .ipv6, bytes: endpoint.address.words, port: endpoint.port)
        }
    }

    @inline(__always)
    var endpoint: Endpoint {
        family == .ipv4
            ? Endpoint(address: IPAddress(ipv4Raw: UInt32(truncatingIfNeeded: bytes.0)), port: port) : Endpoint(address: IPAddress(words: bytes), port: port)
    }
}
