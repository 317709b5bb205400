import DatapathMemory
import WireFormats

/// Finds neighbours by address, and the one to forget.
///
/// Buckets of chained slots, hashed with a secret, so that nobody on the link can choose addresses that meet in one.
struct NeighborCache {
    /// Where a neighbour stands that can be forgotten; each chain is oldest first.
    enum Chain: UInt8 {
        /// Known, but never sent to: learnt from its own request. The first to go, so that a flood of requests pushes nobody out but its like.
        case learnt
        /// Not known (yet): incomplete or failed.
        case unresolved
        /// Known and sent to.
        case used
        /// Permanent.
        case none
    }

    /// Chains that a neighbour can be forgotten from.
    static let chainCount = 3

    private let buckets: UnsafeMutablePointer<UInt32>
    private let bucketCount: Int
    private let key: (UInt64, UInt64)
    private let chains: UnsafeMutablePointer<SlotQueue>
    let capacity: Int
    var unresolvedCount = 0
    /// Frames that wait for any neighbour.
    var waitingCount = 0

    init(capacity: Int, key: (UInt64, UInt64)) throws(DemikernelError) {
        self.capacity = capacity
        self.key = key
        bucketCount = 1 << (Int.bitWidth - max(capacity - 1, 1).leadingZeroBitCount)
        buckets = try mapTable(UInt32.self, count: bucketCount)
        chains = .allocate(capacity: NeighborCache.chainCount)
        chains.initialize(repeating: SlotQueue(), count: NeighborCache.chainCount)
    }

    func deallocate() {
        unmapTable(buckets, count: bucketCount)
        chains.deallocate()
    }

    /// The first slot of the bucket of `address`. A multiplication of two words that only the stack knows, folded (Thorup, 2015, section 3).
    @inline(__always)
    func bucket(of address: IPAddress) -> UnsafeMutablePointer<UInt32> {
        let product = (address.words.0 ^ key.0).multipliedFullWidth(by: address.words.1 ^ key.1)
        return buckets + Int(truncatingIfNeeded: product.high ^ product.low) & (bucketCount &- 1)
    }

    @inline(__always)
    subscript(chain: Chain) -> UnsafeMutablePointer<SlotQueue> { chains + Int(chain.rawValue) }
}

typealias NeighborPointer = UnsafeMutablePointer<Neighbor>

extension NetworkStack {
    /// Puts a neighbour at the end of a chain, whichever it was in. O(1).
    func chain(_ slot: UInt32, in chain: NeighborCache.Chain) {
        unchain(slot)
        let neighbor = state.pointee.neighbors[slot]
        neighbor.pointee.chain = chain
        neighbor.pointee.lastUsedWhenChained = neighbor.pointee.lastUsed
        guard chain != .none else { return }
        if chain == .unresolved { state.pointee.neighborCache.unresolvedCount += 1 }
        let ends = state.pointee.neighborCache[chain]
        neighbor.pointee.previous = ends.pointee.last
        neighbor.pointee.next = 0
        if ends.pointee.last == 0 { ends.pointee.first = slot } else { state.pointee.neighbors[ends.pointee.last].pointee.next = slot }
        ends.pointee.last = slot
    }

    /// Takes a neighbour out of its chain. O(1).
    func unchain(_ slot: UInt32) {
        let neighbor = state.pointee.neighbors[slot]
        let chain = neighbor.pointee.chain
        guard chain != .none else { return }
        if chain == .unresolved { state.pointee.neighborCache.unresolvedCount -= 1 }
        let ends = state.pointee.neighborCache[chain]
        let (previous, next) = (neighbor.pointee.previous, neighbor.pointee.next)
        if previous == 0 { ends.pointee.first = next } else { state.pointee.neighbors[previous].pointee.next = next }
        if next == 0 { ends.pointee.last = previous } else { state.pointee.neighbors[next].pointee.previous = previous }
        neighbor.pointee.chain = .none
    }

    /// Forgets a neighbour to make room for another one.
    ///
    /// Those that nobody has sent to go first; then those not resolved, where they are more than half, so that asking for addresses that do not exist
    /// pushes nobody out that does (RFC 6583, section 6.1); then the one that was sent to longest ago. Its place in the chain tells, by second chance:
    /// one that was used since it was put there goes to the end instead. Amortised O(1): each second chance was paid for by a frame.
    /// - Parameter isLearning: only one that nobody has sent to may go.
    /// - Returns: whether there is room now.
    func evictNeighbor(isLearning: Bool) -> Bool {
        let learnt = state.pointee.neighborCache[.learnt].pointee.first
        if learnt != 0 {
            forgetNeighbor(learnt)
            return true
        }
        if isLearning { return false }
        let unresolved = state.pointee.neighborCache[.unresolved].pointee.first
        if unresolved != 0, state.pointee.neighborCache.unresolvedCount > state.pointee.neighborCache.capacity / 2 {
            forgetNeighbor(unresolved)
            return true
        }
        while true {
            let used = state.pointee.neighborCache[.used].pointee.first
            guard used != 0 else { break }
            let neighbor = state.pointee.neighbors[used]
            guard neighbor.pointee.lastUsed > neighbor.pointee.lastUsedWhenChained else {
                forgetNeighbor(used)
                return true
            }
            chain(used, in: .used)
        }
        guard unresolved != 0 else { return false }
        forgetNeighbor(unresolved)
        return true
    }

    /// Frees a neighbour's slot; the frames that wait for it are dropped.
    func forgetNeighbor(_ slot: UInt32) {
        let neighbor = state.pointee.neighbors[slot]
        state.pointee.timers.cancel(neighbor.pointee.timer)
        // Nobody has asked for the slot of one that was only learnt.
        if neighbor.pointee.chain != .learnt { raiseNeighborEpoch() }
        unchain(slot)
        var link = state.pointee.neighborCache.bucket(of: neighbor.pointee.address)
        while link.pointee != slot { link = nextInBucket(of: link.pointee) }
        link.pointee = neighbor.pointee.nextInBucket
        while let frame = takeWaiting(slot) { drop(frame, .neighborQueueFull) }
        state.pointee.neighbors.free(slot)
    }

    /// Where a neighbour's link to the next one of its bucket lies.
    @inline(__always)
    private func nextInBucket(of slot: UInt32) -> UnsafeMutablePointer<UInt32> {
        let offset = MemoryLayout<Neighbor>.offset(of: \.nextInBucket).unsafelyUnwrapped
        return (UnsafeMutableRawPointer(state.pointee.neighbors[slot]) + offset).assumingMemoryBound(to: UInt32.self)
    }

    /// Says that a slot or a hardware address that somebody has copied may no longer hold.
    @inline(__always)
    func raiseNeighborEpoch() {
        state.pointee.neighborEpoch &+= 1
        // 0 is the epoch of who has copied nothing.
        if state.pointee.neighborEpoch == 0 { state.pointee.neighborEpoch = 1 }
    }

    /// The slot of a known address; 0 for none. O(1).
    @inline(__always)
    func findNeighbor(_ address: IPAddress) -> UInt32 {
        var slot = state.pointee.neighborCache.bucket(of: address).pointee
        while slot != 0 {
            let neighbor = state.pointee.neighbors[slot]
            if neighbor.pointee.address == address { return slot }
            slot = neighbor.pointee.nextInBucket
        }
        return 0
    }

    /// A new neighbour, in no chain yet; 0 when there is no room.
    func addNeighbor(_ address: IPAddress, isLearning: Bool) -> UInt32 {
        guard state.pointee.neighbors.liveCount < state.pointee.neighbors.capacity || evictNeighbor(isLearning: isLearning) else { return 0 }
        let slot = state.pointee.neighbors.take()
        let neighbor = state.pointee.neighbors[slot]
        neighbor.pointee.address = address
        let bucket = state.pointee.neighborCache.bucket(of: address)
        neighbor.pointee.nextInBucket = bucket.pointee
        bucket.pointee = slot
        return slot
    }
}
