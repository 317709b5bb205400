import CDatapath
import DatapathMemory

/// Messages from one thread to another: a bounded ring with one producer and one consumer, and a second one by which lent arrays go home.
///
/// A small message is copied into its slot. A larger one lends its array: the consumer, which may read what the array leads to but never touches a
/// count, copies the bytes into a block of its own heap and sends the pointer back; only the producer's thread releases it.
///
/// A plain handle on memory that the mesh owns. Each word has one writer, on a cache line of its own; positions only grow, and wrap around.
struct ShardRing {
    private let memory: UnsafeMutableRawPointer

    /// Messages that a ring holds, and arrays that may be lent at once.
    static let slotCount: UInt32 = 256
    static let slotByteCount = 256
    /// Bytes of a message that is copied into its slot.
    static let inlineByteCount = slotByteCount - slotHeaderByteCount

    // A slot: the message's bytes, four bytes of padding, the lent array or nil, then the bytes that are copied.
    private static let slotHeaderByteCount = 16
    private static let arrayOffset = 8

    // The words of the producer, then those of the consumer.
    private static let tailOffset = 0
    private static let homeHeadOffset = 4
    private static let isProducerGoneOffset = 8
    private static let headOffset = 64
    private static let homeTailOffset = 68
    private static let isConsumerGoneOffset = 72
    /// Set by the producer, taken by the consumer.
    private static let awaitsRoomOffset = 128
    private static let slotsOffset = 192
    private static let homesOffset = slotsOffset + Int(slotCount) * slotByteCount
    private static let byteCount = homesOffset + Int(slotCount) * 8

    init() {
        memory = .allocate(byteCount: ShardRing.byteCount, alignment: 64)
        memory.initializeMemory(as: UInt8.self, repeating: 0, count: ShardRing.byteCount)
    }

    /// Ends the ring, when neither thread uses it any more: arrays that are still lent are released for their owner.
    func deallocate() {
        var sender = ShardSender(self)
        sender.reclaimAll()
        memory.deallocate()
    }

    private func slot(_ position: UInt32) -> UnsafeMutableRawPointer {
        memory + (ShardRing.slotsOffset + Int(position & (ShardRing.slotCount - 1)) * ShardRing.slotByteCount)
    }

    private func home(_ position: UInt32) -> UnsafeMutablePointer<UnsafeMutablePointer<SegmentDescriptor>> {
        (memory + (ShardRing.homesOffset + Int(position & (ShardRing.slotCount - 1)) * 8)).assumingMemoryBound(
            to: UnsafeMutablePointer<SegmentDescriptor>.self)
    }

    // MARK: Words

    var tail: UInt32 { demi_load_acquire_u32(memory + ShardRing.tailOffset) }
    var head: UInt32 { demi_load_acquire_u32(memory + ShardRing.headOffset) }
    var homeTail: UInt32 { demi_load_acquire_u32(memory + ShardRing.homeTailOffset) }
    var homeHead: UInt32 { demi_load_acquire_u32(memory + ShardRing.homeHeadOffset) }
    /// Nothing will be added to the ring.
    var isProducerGone: Bool { demi_load_acquire_u32(memory + ShardRing.isProducerGoneOffset) != 0 }
    /// The consumer does not touch the ring any more, nor what was lent through it.
    var isConsumerGone: Bool { demi_load_acquire_u32(memory + ShardRing.isConsumerGoneOffset) != 0 }

    fileprivate func setTail(_ value: UInt32) { demi_store_release_u32(memory + ShardRing.tailOffset, value) }
    fileprivate func setHead(_ value: UInt32) { demi_store_release_u32(memory + ShardRing.headOffset, value) }
    fileprivate func setHomeTail(_ value: UInt32) { demi_store_release_u32(memory + ShardRing.homeTailOffset, value) }
    fileprivate func setHomeHead(_ value: UInt32) { demi_store_release_u32(memory + ShardRing.homeHeadOffset, value) }

    func endProducer() { demi_store_release_u32(memory + ShardRing.isProducerGoneOffset, 1) }
    func endConsumer() { demi_store_release_u32(memory + ShardRing.isConsumerGoneOffset, 1) }

    /// The producer asks to be woken when there is room.
    func awaitRoom() { demi_store_release_u32(memory + ShardRing.awaitsRoomOffset, 1) }
    /// For the consumer, behind a fence: whether the producer has to be woken.
    func takeAwaitsRoom() -> Bool {
        demi_load_relaxed_u32(memory + ShardRing.awaitsRoomOffset) != 0 && demi_exchange_u32(memory + ShardRing.awaitsRoomOffset, 0) != 0
    }

    // MARK: Slots

    fileprivate func write(_ position: UInt32, byteCount: Int, _ lent: UnsafeMutablePointer<SegmentDescriptor>?) -> UnsafeMutableRawPointer {
        let slot = slot(position)
        slot.storeBytes(of: UInt32(truncatingIfNeeded: byteCount), as: UInt32.self)
        slot.storeBytes(of: lent, toByteOffset: ShardRing.arrayOffset, as: UnsafeMutablePointer<SegmentDescriptor>?.self)
        return slot + ShardRing.slotHeaderByteCount
    }

    fileprivate func read(_ position: UInt32) -> (byteCount: Int, lent: UnsafeMutablePointer<SegmentDescriptor>?, bytes: UnsafeRawPointer) {
        let slot = slot(position)
        return (
            Int(slot.load(as: UInt32.self)), slot.load(fromByteOffset: ShardRing.arrayOffset, as: UnsafeMutablePointer<SegmentDescriptor>?.self),
            UnsafeRawPointer(slot + ShardRing.slotHeaderByteCount)
        )
    }

    fileprivate func sendHome(_ position: UInt32, _ array: UnsafeMutablePointer<SegmentDescriptor>) { home(position).pointee = array }
    fileprivate func takeHome(_ position: UInt32) -> UnsafeMutablePointer<SegmentDescriptor> { home(position).pointee }
}

/// The producer's end of a ring, for its thread alone.
struct ShardSender {
    let ring: ShardRing
    private var tail: UInt32
    /// The consumer's position as it was seen last.
    private var head: UInt32
    private var homeHead: UInt32
    /// Arrays that have not come home.
    private(set) var lentCount: UInt32

    init(_ ring: ShardRing) {
        self.ring = ring
        tail = ring.tail
        head = ring.head
        homeHead = ring.homeHead
        lentCount = 0
    }

    /// Whether a message can be sent now.
    mutating func hasRoom() -> Bool {
        if tail &- head == ShardRing.slotCount { head = ring.head }
        // So that the way home never overflows.
        if lentCount == ShardRing.slotCount { takeReturns() }
        return tail &- head < ShardRing.slotCount && lentCount < ShardRing.slotCount
    }

    /// Sends a message and takes over its array; `hasRoom` was true.
    mutating func send(_ array: UnsafeMutablePointer<SegmentDescriptor>) {
        let byteCount = array.arrayByteCount
        if byteCount <= ShardRing.inlineByteCount {
            array.copyArray(to: ring.write(tail, byteCount: byteCount, nil))
            array.releaseArray()
        } else {
            _ = ring.write(tail, byteCount: byteCount, array)
            lentCount &+= 1
        }
        tail &+= 1
        ring.setTail(tail)
    }

    /// Whether arrays can be released: some have come home, or the consumer is gone.
    var hasReturns: Bool { lentCount > 0 && (ring.homeTail != homeHead || ring.isConsumerGone) }

    /// Releases what `hasReturns` tells of.
    mutating func takeReturns() {
        if ring.isConsumerGone { reclaimAll() } else { reclaim() }
    }

    /// Releases the arrays that have come home.
    private mutating func reclaim() {
        let end = ring.homeTail
        guard end != homeHead else { return }
        while homeHead != end {
            ring.takeHome(homeHead).releaseArray()
            homeHead &+= 1
            lentCount &-= 1
        }
        ring.setHomeHead(homeHead)
    }

    /// Releases every array that is lent; the consumer is gone.
    mutating func reclaimAll() {
        let end = ring.homeTail
        while homeHead != end {
            ring.takeHome(homeHead).releaseArray()
            homeHead &+= 1
        }
        ring.setHomeHead(homeHead)
        var position = ring.head
        while position != tail {
            ring.read(position).lent?.releaseArray()
            // Once only, should the ring be looked through again at its end.
            _ = ring.write(position, byteCount: 0, nil)
            position &+= 1
        }
        lentCount = 0
    }
}

/// The consumer's end of a ring, for its thread alone.
struct ShardReceiver {
    let ring: ShardRing
    private var head: UInt32
    private var tail: UInt32
    private var homeTail: UInt32

    init(_ ring: ShardRing) {
        self.ring = ring
        head = ring.head
        tail = ring.tail
        homeTail = ring.homeTail
    }

    enum Outcome {
        case message(UnsafeMutablePointer<SegmentDescriptor>, wasLent: Bool)
        case empty
        /// The heap has no block for the next message, which stays.
        case outOfMemory
    }

    /// Whether a message waits.
    mutating func hasMessage() -> Bool {
        if head == tail { tail = ring.tail }
        return head != tail
    }

    /// The next message, in a block of `heap`, as an array of one segment that the caller owns.
    mutating func receive(_ heap: DatapathHeap) -> Outcome {
        guard hasMessage() else { return .empty }
        let message = ring.read(head)
        guard let array = UnsafeMutablePointer<SegmentDescriptor>.makeSegment(heap, byteCount: message.byteCount, priority: .application) else {
            return .outOfMemory
        }
        if let lent = message.lent {
            lent.copyArray(to: array.segmentAddress)
            ring.sendHome(homeTail, lent)
            homeTail &+= 1
            ring.setHomeTail(homeTail)
        } else {
            array.segmentAddress.copyMemory(from: message.bytes, byteCount: message.byteCount)
        }
        head &+= 1
        ring.setHead(head)
        return .message(array, wasLent: message.lent != nil)
    }
}
