import CDatapath
import DatapathMemory

/// The end of a ring that takes units out. A header is read once, into a register, and checked; a unit is copied out before anybody looks at it.
struct RingConsumer {
    /// The ring's bytes, mapped twice, one behind the other.
    private let data: UnsafeMutableRawPointer
    private let control: UnsafeMutableRawPointer
    private let byteCount: Int
    /// A longer unit breaks the ring.
    var maximumUnitSize: Int
    /// Bytes ever taken out, and how many of them the producer was told of.
    private var position = 0
    private var published = 0

    enum Next {
        case nothing
        case unit(byteCount: Int)
        /// The producer will send no more.
        case end
        /// A header that cannot be.
        case broken
    }

    init(data: UnsafeMutableRawPointer, control: UnsafeMutableRawPointer, byteCount: Int, maximumUnitSize: Int) {
        self.data = data
        self.control = control
        self.byteCount = byteCount
        self.maximumUnitSize = maximumUnitSize
    }

    @inline(__always)
    private var place: UnsafeMutableRawPointer { data + (position & (byteCount &- 1)) }

    /// What stands at the front of the ring.
    @inline(__always)
    var next: Next {
        let header = demi_load_acquire_u32(place)
        if header == 0 { return .nothing }
        let length = Int(header ^ RingLayout.isWhole)
        if length <= maximumUnitSize { return .unit(byteCount: length) }
        return header == RingLayout.isWhole | RingLayout.isEnd ? .end : .broken
    }

    /// Copies the unit at the front out and takes it off the ring.
    /// - Returns: whether the producer waits for room and has to be woken.
    @inline(__always)
    mutating func take(_ unitByteCount: Int, to destination: UnsafeMutableRawPointer) -> Bool {
        destination.copyMemory(from: place + RingLayout.headerByteCount, byteCount: unitByteCount)
        position &+= RingLayout.recordByteCount(unitByteCount)
        return position &- published >= byteCount >> 2 ? publish() : false
    }

    @inline(never)
    private mutating func publish() -> Bool {
        published = position
        demi_store_fenced_u64(control + RingLayout.consumedOffset, UInt64(position))
        return demi_load_relaxed_u32(control + RingLayout.producerWaitsOffset) != 0
            && demi_exchange_u32(control + RingLayout.producerWaitsOffset, 0) != 0
    }

    /// Asks to be woken by the next unit, or not any more.
    func setSleeps(_ sleeps: Bool) { demi_store_fenced_u32(control + RingLayout.isSleepingOffset, sleeps ? 1 : 0) }

    /// Says that nothing will be taken any more.
    func close() { demi_store_fenced_u32(control + RingLayout.isClosedOffset, 1) }
}
