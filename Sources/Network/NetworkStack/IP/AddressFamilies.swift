import WireFormats

/// Which packets a local address of a socket takes: :: is every address of both families, unless the socket is for IPv6 only.
extension NetworkStack {
    /// 1 for IPv4, 2 for IPv6, 3 for both.
    @inline(__always)
    private static func families(_ local: IPAddress, isIPv6Only: Bool) -> UInt8 {
        local.isIPv4 ? 1 : local.isUnspecified && !isIPv6Only ? 3 : 2
    }

    /// Whether a socket that is bound to `local` can talk to `remote`.
    @inline(__always)
    static func isOfFamily(_ remote: IPAddress, of local: IPAddress, isIPv6Only: Bool) -> Bool {
        families(local, isIPv6Only: isIPv6Only) & (remote.isIPv4 ? 1 : 2) != 0
    }

    /// Whether two sockets that are bound to these addresses would take the same packets.
    static func overlaps(_ first: IPAddress, _ firstIsIPv6Only: Bool, _ second: IPAddress, _ secondIsIPv6Only: Bool) -> Bool {
        if first == second { return true }
        guard first.isUnspecified || second.isUnspecified else { return false }
        return families(first, isIPv6Only: firstIsIPv6Only) & families(second, isIPv6Only: secondIsIPv6Only) != 0
    }

    /// Whether a socket that is bound to all addresses takes what comes to `destination`.
    @inline(__always)
    static func isWildcard(_ local: IPAddress, isIPv6Only: Bool, for destination: IPAddress) -> Bool {
        local.isUnspecified && isOfFamily(destination, of: local, isIPv6Only: isIPv6Only)
    }
}
