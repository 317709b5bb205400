import WireFormats

/// What paths were found to take, where that is less than the link does: a table of a fixed size, in which one destination may take another's place.
struct PathMTUTable {
    private struct Entry {
        var destination = IPAddress(ipv4Raw: 0)
        var byteCount = 0
        var expires: UInt64 = 0
    }

    private let entries: UnsafeMutablePointer<Entry>
    private static let entryCount = 256

    init() {
        entries = .allocate(capacity: PathMTUTable.entryCount)
        entries.initialize(repeating: Entry(), count: PathMTUTable.entryCount)
    }

    func deallocate() {
        entries.deallocate()
    }

    private func entry(for destination: IPAddress) -> UnsafeMutablePointer<Entry> {
        let hash = (destination.words.0 ^ destination.words.1 &* 0x9e37_79b9_7f4a_7c15) &* 0xbf58_476d_1ce4_e5b9
        return entries + Int(truncatingIfNeeded: hash &>> 56)
    }

    /// Bytes of the largest packet to `destination`, and until when that is believed; nil when it is not known to be less than the link's.
    func path(to destination: IPAddress, now: UInt64) -> (byteCount: Int, expires: UInt64)? {
        let entry = entry(for: destination)
        guard entry.pointee.destination == destination, now < entry.pointee.expires else { return nil }
        return (entry.pointee.byteCount, entry.pointee.expires)
    }

    //= RFC 1191 section 6.3
    //# An estimate of the PMTU may be too low: the timeout value suggested for trying a larger one is 10 minutes.
    mutating func set(_ byteCount: Int, to destination: IPAddress, now: UInt64) {
        entry(for: destination).pointee = Entry(destination: destination, byteCount: byteCount, expires: now &+ PathMTUTable.lifetime)
    }

    /// How long a smaller MTU is believed.
    static let lifetime: UInt64 = 600_000_000_000
}

/// The sizes that paths have, for routers that do not tell theirs.
enum PathMTU {
    //= RFC 1191 section 3
    //# A host MUST never reduce its estimate of the Path MTU below 68 octets.
    static let smallest = 68
    static let smallestIPv6 = 1_280

    /// The next smaller plausible size.
    //= RFC 1191 section 7.1
    //# Plateaus: 65535, 32000, 17914, 8166, 4352, 2002, 1492, 1006, 508, 296, 68
    static func plateau(below byteCount: Int) -> Int {
        // And 1,280, which IPv6 and its tunnels have made one.
        let plateaus: InlineArray<11, Int> = [32_000, 17_914, 8_166, 4_352, 2_002, 1_492, 1_280, 1_006, 508, 296, smallest]
        for index in plateaus.indices where plateaus[index] < byteCount { return plateaus[index] }
        return smallest
    }
}
