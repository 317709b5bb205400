import CDatapath
import DatapathMemory

/// The end of a ring that puts units in. It trusts nothing that the peer can write: positions are its own, and what the peer says of its progress is
/// checked.
struct RingProducer {
    /// The ring's bytes, mapped twice, one behind the other: a record is contiguous wherever it starts.
    private let data: UnsafeMutableRawPointer
    private let control: UnsafeMutableRawPointer
    private let byteCount: Int
    /// Bytes ever put in, and ever taken out as far as is known.
    private var position = 0
    private var consumed = 0

    @inline(__always)
    private var place: UnsafeMutableRawPointer { data + (position & (byteCount &- 1)) }

    enum Room {
        case enough, full
        /// The peer says that it took what was never put in, or less than before.
        case broken
    }

    init(data: UnsafeMutableRawPointer, control: UnsafeMutableRawPointer, byteCount: Int) {
        self.data = data
        self.control = control
        self.byteCount = byteCount
    }

    /// Whether a unit fits now, with a header behind it.
    @inline(__always)
    mutating func room(for unitByteCount: Int) -> Room {
        let needed = RingLayout.recordByteCount(unitByteCount) &+ RingLayout.headerByteCount
        if position &- consumed &+ needed <= byteCount { return .enough }
        return askForRoom(needed)
    }

    @inline(never)
    private mutating func askForRoom(_ needed: Int) -> Room {
        let said = demi_load_acquire_u64(control + RingLayout.consumedOffset)
        let advance = said &- UInt64(consumed)
        guard advance <= UInt64(position - consumed) else { return .broken }
        consumed += Int(advance)
        return position - consumed + needed <= byteCount ? .enough : .full
    }

    /// Puts a unit in, for which there is room.
    /// - Returns: what the consumer says of itself: 0 when it polls.
    @inline(__always)
    mutating func put(_ array: UnsafeMutablePointer<SegmentDescriptor>, _ unitByteCount: Int) -> UInt64 {
        let header = place
        let unit = header + RingLayout.headerByteCount
        if array.arraySegmentCount == 1 {
            unit.copyMemory(from: array.segmentAddress, byteCount: unitByteCount)
        } else {
            array.copyArray(to: unit)
        }
        position &+= RingLayout.recordByteCount(unitByteCount)
        demi_store_relaxed_u32(place, 0)
        // After this store the consumer's words are read: either it sees the record before it sleeps, or it is seen to sleep.
        demi_store_fenced_u32(header, RingLayout.isWhole | UInt32(truncatingIfNeeded: unitByteCount))
        return demi_load_relaxed_u64(control + RingLayout.isSleepingOffset)
    }

    /// Says that nothing will follow. There is always room for that.
    func end() {
        demi_store_fenced_u32(place, RingLayout.isWhole | RingLayout.isEnd)
    }

    /// Takes the consumer's word that it sleeps.
    /// - Returns: whether it has to be woken.
    func takeSleep() -> Bool { demi_exchange_u32(control + RingLayout.isSleepingOffset, 0) != 0 }

    var isConsumerClosed: Bool { demi_load_relaxed_u32(control + RingLayout.isClosedOffset) != 0 }

    /// Asks to be woken when there is room.
    func setWaits(_ waits: Bool) { demi_store_fenced_u32(control + RingLayout.producerWaitsOffset, waits ? 1 : 0) }
}
