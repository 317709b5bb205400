import WireFormats
import XDPDevice

extension XDPConfiguration {
    init(interface: String, options: [String], mistakes: inout [String]) {
        self.init(interface: interface)
        for option in options {
            let (key, value) = DeviceSpecification.option(option)
            switch (key, value) {
            case ("ports", _):
                let ranges = value.split(separator: "+", omittingEmptySubsequences: false).map(XDPConfiguration.range)
                steering.ports += ranges.compactMap(\.self)
                if ranges.contains(nil) || steering.ports.count > XDPSteering.maximumPortRanges {
                    mistakes.append("\"\(option)\" must be ports and ranges of ports joined by plus signs, at most 64, such as ports=80+8000-8999")
                }
            case ("group", _):
                if let address = IPAddress(parsing: value), address.isMulticast {
                    if address.isIPv4 { steering.ipv4Addresses.append(address.ipv4Raw) } else { steering.ipv6Addresses.append(.init(words: address.words)) }
                } else {
                    mistakes.append("\"\(option)\" must be the address of a multicast group, such as group=239.1.2.3")
                }
            case ("shared", "") where option == "shared": steering.sharesAddresses = true
            case ("mode", "native"): mode = .native
            case ("mode", "generic"): mode = .generic
            case ("checksums", "verify"): acceptsPartialChecksums = false
            case ("checksums", "partial"): acceptsPartialChecksums = true
            case ("checksums", "offload"): offloadsChecksums = true
            default:
                mistakes.append("an xdp device has no option \"\(option)\": it has ports=N-N, group=ADDRESS, shared, mode=native or generic, checksums=verify, partial or offload")
            }
        }
    }

    private static func range(_ text: Substring) -> ClosedRange<UInt16>? {
        let ends = text.split(separator: "-", omittingEmptySubsequences: false).map { UInt16($0) }
        guard (1...2).contains(ends.count), let first = ends.first ?? nil, let last = ends.last ?? nil, first > 0, first <= last else { return nil }
        return first...last
    }

    /// As they would be parsed.
    var options: [String] {
        var options: [String] = []
        if !steering.ports.isEmpty {
            let ranges = steering.ports.map { $0.count == 1 ? "\($0.lowerBound)" : "\($0.lowerBound)-\($0.upperBound)" }
            options.append("ports=" + ranges.joined(separator: "+"))
        }
        options += steering.ipv4Addresses.map { "group=\(IPAddress(ipv4Raw: $0))" } + steering.ipv6Addresses.map { "group=\(IPAddress(words: $0.words))" }
        if steering.sharesAddresses { options.append("shared") }
        if mode != .automatic { options.append("mode=\(mode.rawValue)") }
        if let acceptsPartialChecksums { options.append("checksums=" + (acceptsPartialChecksums ? "partial" : "verify")) }
        if offloadsChecksums { options.append("checksums=offload") }
        return options
    }
}
