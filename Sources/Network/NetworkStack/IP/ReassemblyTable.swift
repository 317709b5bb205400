import DatapathMemory
import EthernetDevice
import TaskScheduler
import WireFormats

/// What the fragments of one datagram have in common.
struct FragmentKey: Equatable {
    let source: IPAddress
    let destination: IPAddress
    let identification: UInt32
    //= RFC 791 section 3.2
    //# The internet identification field is used together with the source and destination address, and the protocol fields, to identify datagram fragments
    //# for reassembly.
    /// 0 over IPv6, where the fragments of one packet may name several (RFC 8200, section 4.5).
    let protocolNumber: UInt8

    @inline(__always)
    static func == (left: FragmentKey, right: FragmentKey) -> Bool {
        left.identification == right.identification && left.protocolNumber == right.protocolNumber && left.source == right.source
            && left.destination == right.destination
    }

    var isIPv6: Bool { !source.isIPv4 }
}

/// One fragment that has arrived: where its bytes belong and where they lie in its frame, which is whole and ends with them.
struct FragmentPiece {
    let frame: Frame
    /// Of the first byte in the datagram, a multiple of 8.
    let offset: Int
    /// Bytes of the frame in front of the fragment's.
    let payloadOffset: Int

    var byteCount: Int { frame.segmentByteCount &- payloadOffset }
    var end: Int { offset &+ byteCount }
    var payload: UnsafeMutableRawPointer { frame.segmentAddress + payloadOffset }

    /// A piece as `keep` has written it down.
    init(kept frame: Frame) {
        self.frame = frame
        offset = Int(frame.pointee.operation &>> 16) &* 8
        payloadOffset = Int(frame.pointee.operation & 0xffff)
    }

    init(_ frame: Frame, offset: Int, payloadOffset: Int) {
        self.frame = frame
        self.offset = offset
        self.payloadOffset = payloadOffset
    }

    /// Writes both numbers into the word that an array in no queue has no use for: the first one has 13 bits, the second one is within a frame.
    func keep() { frame.pointee.operation = UInt32(truncatingIfNeeded: offset &>> 3) &<< 16 | UInt32(truncatingIfNeeded: payloadOffset) & 0xffff }
}

/// A datagram of which some fragments have come: they stand in order, chained through their first descriptors, and none overlaps another.
struct PartialDatagram: SlabElement {
    var key = FragmentKey(source: .unspecifiedIPv4, destination: .unspecifiedIPv4, identification: 0, protocolNumber: 0)
    var first: Frame?
    var last: Frame?
    var pieceCount = 0
    /// Bytes of the datagram that have come; they are all of it when they are as many as `endOffset` says.
    var receivedByteCount = 0
    /// Where the datagram ends; 0 until its last fragment has come.
    var endOffset = 0
    /// Bytes of the blocks that the pieces keep from others.
    var pinnedByteCount = 0
    /// Whether its fragments contradict each other: nothing is kept of it, and what else comes of it is dropped until its time is over.
    var isAbandoned = false
    /// A bit for each ECN codepoint that a fragment has had.
    var codepoints: UInt8 = 0
    var expires: UInt64 = 0
    /// Others of the same bucket, and of the same family in the order in which they began.
    var nextInBucket: UInt32 = 0
    var older: UInt32 = 0
    var newer: UInt32 = 0
    var nextFree: UInt32 = 0

    init() {}

    /// The datagram's beginning, if it has come.
    var beginning: FragmentPiece? {
        guard let first, case let piece = FragmentPiece(kept: first), piece.offset == 0 else { return nil }
        return piece
    }
}

/// The datagrams of both families that are being put together.
///
/// A bucket has the datagrams of sources, so that one walk finds a datagram and counts those of its source; which sources share a bucket nobody can
/// foretell.
struct ReassemblyTable {
    static let bucketCount = 256
    //= RFC 1122 section 3.3.2
    //# The reassembly timeout value SHOULD be a fixed value, not set from the remaining TTL.
    static let ipv4Lifetime: UInt64 = 30_000_000_000
    //= RFC 8200 section 4.5
    //# If insufficient fragments are received to complete reassembly of a packet within 60 seconds of the reception of the first-arriving fragment of that
    //# packet, reassembly of that packet must be abandoned and all the fragments that have been received for that packet must be discarded.
    static let ipv6Lifetime: UInt64 = 60_000_000_000

    var datagrams: Slab<PartialDatagram>
    private let buckets: UnsafeMutablePointer<UInt32>
    private let secret: SipHashKey
    /// Of each family the datagrams in the order in which they began, which is that in which their time is over.
    private var ipv4 = SlotQueue()
    private var ipv6 = SlotQueue()
    var pinnedByteCount = 0
    var timer = TimerIdentifier.none
    var timerDeadline = UInt64.max

    init(capacity: Int, secret: SipHashKey) throws(DemikernelError) {
        datagrams = try Slab(capacity: capacity)
        buckets = .allocate(capacity: ReassemblyTable.bucketCount)
        buckets.initialize(repeating: 0, count: ReassemblyTable.bucketCount)
        self.secret = secret
    }

    func deallocate() {
        datagrams.deallocate()
        buckets.deallocate()
    }

    private func bucket(_ key: FragmentKey) -> UnsafeMutablePointer<UInt32> {
        var hash = SipHash(secret)
        hash.combine(key.source.words.0)
        hash.combine(key.source.words.1)
        return buckets + Int(truncatingIfNeeded: hash.finish() & UInt64(ReassemblyTable.bucketCount - 1))
    }

    /// The datagram with this key, how many its source has, and the oldest of those; 0 for none. O(datagrams of the bucket's sources).
    func find(_ key: FragmentKey) -> (slot: UInt32, count: Int, oldest: UInt32) {
        var slot = bucket(key).pointee
        var (count, oldest): (Int, UInt32) = (0, 0)
        while slot != 0 {
            let datagram = datagrams[slot]
            if datagram.pointee.key == key { return (slot, count, oldest) }
            if datagram.pointee.key.source == key.source { (count, oldest) = (count + 1, slot) }
            slot = datagram.pointee.nextInBucket
        }
        return (0, count, oldest)
    }

    /// A new datagram; 0 when there is no slot.
    mutating func add(_ key: FragmentKey, now: UInt64) -> UInt32 {
        let slot = datagrams.take()
        guard slot != 0 else { return 0 }
        let bucket = bucket(key)
        let datagram = datagrams[slot]
        datagram.pointee.key = key
        datagram.pointee.expires = now &+ (key.isIPv6 ? ReassemblyTable.ipv6Lifetime : ReassemblyTable.ipv4Lifetime)
        datagram.pointee.nextInBucket = bucket.pointee
        bucket.pointee = slot
        var queue = key.isIPv6 ? ipv6 : ipv4
        datagram.pointee.older = queue.last
        if queue.last != 0 { datagrams[queue.last].pointee.newer = slot } else { queue.first = slot }
        queue.last = slot
        if key.isIPv6 { ipv6 = queue } else { ipv4 = queue }
        return slot
    }

    /// Takes a datagram that has no pieces out. O(datagrams of the bucket's sources).
    mutating func remove(_ slot: UInt32) {
        let datagram = datagrams[slot]
        var link = bucket(datagram.pointee.key)
        while link.pointee != slot { link = nextLink(link.pointee) }
        link.pointee = datagram.pointee.nextInBucket
        var queue = datagram.pointee.key.isIPv6 ? ipv6 : ipv4
        let (older, newer) = (datagram.pointee.older, datagram.pointee.newer)
        if older != 0 { datagrams[older].pointee.newer = newer } else { queue.first = newer }
        if newer != 0 { datagrams[newer].pointee.older = older } else { queue.last = older }
        if datagram.pointee.key.isIPv6 { ipv6 = queue } else { ipv4 = queue }
        datagrams.free(slot)
    }

    private func nextLink(_ slot: UInt32) -> UnsafeMutablePointer<UInt32> {
        // A slot never moves.
        UnsafeMutableRawPointer(datagrams[slot]).advanced(by: MemoryLayout<PartialDatagram>.offset(of: \.nextInBucket).unsafelyUnwrapped)
            .assumingMemoryBound(to: UInt32.self)
    }

    /// The datagram whose time is over first; 0 for none.
    func firstToExpire(otherThan slot: UInt32 = 0) -> UInt32 {
        let first = ipv4.first == slot && slot != 0 ? datagrams[slot].pointee.newer : ipv4.first
        let second = ipv6.first == slot && slot != 0 ? datagrams[slot].pointee.newer : ipv6.first
        guard first != 0, second != 0 else { return max(first, second) }
        return datagrams[first].pointee.expires <= datagrams[second].pointee.expires ? first : second
    }
}
