import CDatapath
import DatapathMemory
import EthernetDevice
import Glibc

/// Memory that a client brought, mapped.
struct MemifRegion {
    let base: UnsafeMutableRawPointer
    let byteCount: Int
}

/// One ring as one of its two ends uses it. Nothing that the peer can write is trusted: positions are the ring's own, an index of the peer's is checked
/// against them, a descriptor is copied out before it is checked, and a frame before it is looked at.
struct MemifRing {
    /// The ring's header; the descriptors stand behind it.
    private let base: UnsafeMutableRawPointer
    let size: Int
    private let isClient: Bool
    private let isTransmit: Bool
    /// What the client's buffers are: its own, one behind the other, whatever its descriptors say by now.
    private let buffers: UnsafeMutableRawPointer?
    private let buffersOffset: UInt32
    private let bufferByteCount: Int
    /// Regions by their index, `Memif.maximumRegions`; the ring does not own them.
    private let regions: UnsafeMutablePointer<MemifRegion>
    /// The next slot. It runs freely.
    private var position: UInt16 = 0
    /// What this end last saw of the peer's index.
    private var seen: UInt16 = 0
    /// Where a server last found a buffer, and how far that was from the one before: clients put them one behind the other.
    private var lastBuffer: UInt = 0
    private var stride: UInt = 0
    /// A client's ring to receive from: the first slot whose buffer was not posted again, at the beginning all of them.
    private var firstUnposted: UInt16 = 0
    /// Signalled, or signalling; owned.
    let event: Int32

    /// A ring in a client's memory, as the server uses it.
    init(server base: UnsafeMutableRawPointer, sizeLog2: Int, isTransmit: Bool, regions: UnsafeMutablePointer<MemifRegion>, event: Int32) {
        self.base = base
        size = 1 << sizeLog2
        isClient = false
        self.isTransmit = isTransmit
        buffers = nil
        buffersOffset = 0
        bufferByteCount = 0
        self.regions = regions
        self.event = event
    }

    /// A ring in memory of this process, which it writes anew.
    init(
        client base: UnsafeMutableRawPointer, sizeLog2: Int, isTransmit: Bool, buffersOffset: Int, bufferByteCount: Int,
        regions: UnsafeMutablePointer<MemifRegion>, event: Int32
    ) {
        self.base = base
        size = 1 << sizeLog2
        isClient = true
        self.isTransmit = isTransmit
        buffers = regions[0].base + buffersOffset
        self.buffersOffset = UInt32(buffersOffset)
        self.bufferByteCount = bufferByteCount
        self.regions = regions
        self.event = event
        firstUnposted = 0 &- UInt16(size)
        demi_store_relaxed_u32(base + Memif.cookieOffset, Memif.cookie)
        for slot in 0..<size { writeDescriptor(slot, byteCount: isTransmit ? 0 : bufferByteCount, isContinued: false) }
    }

    private var ownIndex: UnsafeMutableRawPointer { base + (isClient ? Memif.headOffset : Memif.tailOffset) }
    private var peerIndex: UnsafeMutableRawPointer { base + (isClient ? Memif.tailOffset : Memif.headOffset) }

    /// Slots that can be used now; nil when the peer's index has jumped.
    ///
    /// The peer's index is only read while fewer than `wanted` slots are known of: its line is in the other processor's cache.
    @inline(__always)
    mutating func available(atLeast wanted: Int) -> Int? {
        let known = slots(seen)
        if known >= wanted { return known }
        seen = demi_load_acquire_u16(peerIndex)
        let count = slots(seen)
        return count >= 0 && count <= size ? count : nil
    }

    @inline(__always)
    private func slots(_ peer: UInt16) -> Int {
        isTransmit && isClient ? size &- Int(position &- peer) : Int(peer &- position)
    }

    /// Fetches the buffer of the next slot while the descriptor is still on its way: where it will most likely be. Nothing is read or written there.
    @inline(__always)
    func prefetch() {
        let index = Int(position) & (size &- 1)
        let guess = buffers.map { UInt(bitPattern: $0 + index &* bufferByteCount) } ?? lastBuffer &+ stride
        let descriptor = base + Memif.descriptorsOffset + index &* Memif.descriptorByteCount
        for line in 0..<UInt(2) {
            let address = UnsafeRawPointer(bitPattern: guess &+ line &* 64)
            if isTransmit { demi_prefetch_for_write(address) } else { demi_prefetch(address) }
        }
        if isTransmit { demi_prefetch_for_write(descriptor) } else { demi_prefetch(descriptor) }
    }

    /// A descriptor as it was at one moment, with the memory that it stands for; nil memory when it points to none.
    struct Slot {
        var memory: UnsafeMutableRawPointer?
        var byteCount: Int
        var isContinued: Bool
    }

    /// The slot `ahead` of the next one.
    @inline(__always)
    mutating func slot(_ ahead: Int) -> Slot {
        let index = Int(position &+ UInt16(truncatingIfNeeded: ahead)) & (size &- 1)
        let descriptor = base + Memif.descriptorsOffset + index &* Memif.descriptorByteCount
        let first = demi_load_relaxed_u64(descriptor)
        let isContinued = UInt16(truncatingIfNeeded: first) & Memif.isContinued != 0
        let byteCount = Int(first &>> 32)
        if let buffers {
            let room = isTransmit ? bufferByteCount : byteCount
            return Slot(memory: room <= bufferByteCount ? buffers + index &* bufferByteCount : nil, byteCount: room, isContinued: isContinued)
        }
        let region = Int(UInt16(truncatingIfNeeded: first &>> 16))
        let offset = Int(UInt32(truncatingIfNeeded: demi_load_relaxed_u64(descriptor + 8)))
        guard region < Memif.maximumRegions, offset &+ byteCount <= regions[region].byteCount else {
            return Slot(memory: nil, byteCount: byteCount, isContinued: isContinued)
        }
        let memory = regions[region].base + offset
        let distance = UInt(bitPattern: memory) &- lastBuffer
        // A slot may be asked for again.
        if distance != 0 { (lastBuffer, stride) = (UInt(bitPattern: memory), distance) }
        return Slot(memory: memory, byteCount: byteCount, isContinued: isContinued)
    }

    /// Says how much of a slot was filled.
    @inline(__always)
    func fill(_ ahead: Int, byteCount: Int, isContinued: Bool) {
        let index = Int(position &+ UInt16(truncatingIfNeeded: ahead)) & (size &- 1)
        if isClient { return writeDescriptor(index, byteCount: byteCount, isContinued: isContinued) }
        // The buffer's place is the client's to say.
        let descriptor = base + Memif.descriptorsOffset + index &* Memif.descriptorByteCount
        demi_store_relaxed_u32(descriptor + 4, UInt32(truncatingIfNeeded: byteCount))
        demi_store_release_u16(descriptor, isContinued ? Memif.isContinued : 0)
    }

    private func writeDescriptor(_ index: Int, byteCount: Int, isContinued: Bool) {
        let descriptor = base + Memif.descriptorsOffset + index &* Memif.descriptorByteCount
        demi_store_relaxed_u32(descriptor, isContinued ? UInt32(Memif.isContinued) : 0)
        demi_store_relaxed_u32(descriptor + 4, UInt32(truncatingIfNeeded: byteCount))
        demi_store_relaxed_u32(descriptor + 8, buffersOffset &+ UInt32(truncatingIfNeeded: index &* bufferByteCount))
        demi_store_relaxed_u32(descriptor + 12, 0)
    }

    /// Goes on by `count` slots, which the peer sees at `publish`.
    @inline(__always)
    mutating func advance(_ count: Int) {
        position &+= UInt16(truncatingIfNeeded: count)
    }

    /// Tells the peer of the slots that were filled, or emptied. A client's first one posts all buffers of the ring that it receives from.
    ///
    /// Later on it posts a quarter of them together: each time, the descriptors' lines are taken from the peer, which needs them for what it sends next.
    @inline(__always)
    mutating func publish() {
        guard isClient, !isTransmit else { return demi_store_release_u16(ownIndex, position) }
        if Int(position &- firstUnposted) >= size &>> 2 { post() }
    }

    /// A client's ring to receive from: posts the buffers that were emptied.
    mutating func post() {
        while firstUnposted != position {
            writeDescriptor(Int(firstUnposted) & (size &- 1), byteCount: bufferByteCount, isContinued: false)
            firstUnposted &+= 1
        }
        demi_store_release_u16(ownIndex, position &+ UInt16(truncatingIfNeeded: size))
    }

    /// Whether a client has emptied buffers that its peer cannot use yet: to be posted when there is time.
    @inline(__always)
    var hasUnposted: Bool { isClient && !isTransmit && firstUnposted != position }

    /// Whether the receiver sleeps, to be asked after `publish`.
    @inline(__always)
    func wantsSignal() -> Bool {
        demi_fence()
        return demi_load_relaxed_u16(base + Memif.flagsOffset) & Memif.isPolling == 0
    }

    /// Says whether this end polls, or wants to be signalled.
    func setPolling(_ polls: Bool) {
        demi_store_release_u16(base + Memif.flagsOffset, polls ? Memif.isPolling : 0)
        demi_fence()
    }

    /// Wakes the peer. The descriptor is shared with it, and so is the mode in which a write to it could block: it is only written to while there is room.
    func signal() {
        var room = pollfd(fd: event, events: Int16(POLLOUT), revents: 0)
        guard poll(&room, 1, 0) > 0, room.revents & Int16(POLLOUT) != 0 else { return }
        var one: UInt64 = 1
        _ = write(event, &one, 8)
    }
}
