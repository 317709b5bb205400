import DatapathMemory
import WireFormats

/// How many half-open connections each source has, so that one that floods takes no more than its share of them.
///
/// Sources are counted by a keyed hash of their IPv4 address, or of the /64 prefix of their IPv6 address, since a host may have all addresses of one.
/// Two that meet in one place share what one may have: that costs them a cookie, no connection.
struct HalfOpenSources {
    private let counts: UnsafeMutablePointer<UInt16>
    private let secret: SipHashKey

    private static let placeCount = 4_096

    init(_ secret: SipHashKey) throws(DemikernelError) {
        self.secret = secret
        counts = try mapTable(UInt16.self, count: HalfOpenSources.placeCount)
    }

    func deallocate() {
        unmapTable(counts, count: HalfOpenSources.placeCount)
    }

    /// The number of the address's source, to be changed by whoever begins or ends one. At most `NetworkLimits.maximumHalfOpenPerSource`.
    subscript(address: IPAddress) -> UnsafeMutablePointer<UInt16> {
        var hash = SipHash(secret)
        hash.combine(address.words.0)
        if address.isIPv4 { hash.combine(address.words.1) }
        return counts + Int(truncatingIfNeeded: hash.finish() & UInt64(HalfOpenSources.placeCount - 1))
    }
}
