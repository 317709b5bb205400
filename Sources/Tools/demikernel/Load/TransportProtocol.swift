import ArgumentParser

/// The transport protocol under a server or a load.
enum TransportProtocol: String, CaseIterable, ExpressibleByArgument, Sendable {
    case tcp
    case udp
}
