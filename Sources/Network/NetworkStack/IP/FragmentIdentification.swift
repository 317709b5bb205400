import WireFormats

/// The identifications of packets that are or may become fragments: for each pair of hosts and protocol a count from a place that nobody can foretell.
///
/// Counters are shared by the pairs that a keyed hash puts together, so that the table has a fixed size; sharing one only makes gaps.
//= RFC 7739 section 5.3
//# F(): a hash function that takes a source address, a destination address and a secret; counter[G()]: an array of counters, chosen by another hash
struct FragmentIdentification {
    private let counters: UnsafeMutablePointer<UInt32>
    private let secret: SipHashKey
    private static let counterCount = 1_024

    init(secret: SipHashKey, random: inout StackRandom) {
        self.secret = secret
        counters = .allocate(capacity: FragmentIdentification.counterCount)
        for index in 0..<FragmentIdentification.counterCount { (counters + index).initialize(to: UInt32(truncatingIfNeeded: random.next())) }
    }

    func deallocate() {
        counters.deallocate()
    }

    /// The next one from `source` to `destination`; of IPv4 the lower 16 bits count, which come again after 65,536 packets.
    //= RFC 8200 section 4.5
    //# The Identification must be different than that of any other fragmented packet sent recently with the same Source Address and Destination Address.
    func next(from source: IPAddress, to destination: IPAddress, protocolNumber: UInt8) -> UInt32 {
        var hash = SipHash(secret)
        hash.combine(source.words.0)
        hash.combine(source.words.1)
        hash.combine(destination.words.0)
        hash.combine(destination.words.1)
        hash.combine(UInt64(protocolNumber))
        let value = hash.finish()
        let counter = counters + Int(truncatingIfNeeded: value &>> 32 & UInt64(FragmentIdentification.counterCount - 1))
        if !DeliberateBug.isPresent(.identificationRepeated) { counter.pointee &+= 1 }
        return UInt32(truncatingIfNeeded: value) &+ counter.pointee
    }
}

extension NetworkStack {
    /// The identification of the next packet that is, or may become, a fragment.
    func nextIdentification(from source: IPAddress, to destination: IPAddress, protocolNumber: UInt8) -> UInt32 {
        state.pointee.fragmentIdentification.next(from: source, to: destination, protocolNumber: protocolNumber)
    }
}
