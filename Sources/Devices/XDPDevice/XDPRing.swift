import CLinuxDevices
import DatapathMemory
import Glibc

/// One ring that an AF_XDP socket shares with the kernel: this side is its producer (fill, transmit) or its consumer (completion, receive).
///
/// Indices count without end. The kernel is trusted: it writes the other index, and what it produces.
struct XDPRing {
    private let producer: UnsafeMutablePointer<UInt32>
    private let consumer: UnsafeMutablePointer<UInt32>
    private let flags: UnsafeMutablePointer<UInt32>
    private let descriptors: UnsafeMutableRawPointer
    private let mask: UInt32
    private let mapping: UnsafeMutableRawPointer
    private let mappingByteCount: Int
    /// This side's index, which the kernel sees when it is published.
    private(set) var index: UInt32 = 0
    /// What this side last saw of the kernel's index.
    private var seen: UInt32 = 0

    /// Maps the ring at `page` of the socket. `entries` is a power of two.
    init(
        _ socket: Int32, page: Int64, offsets: xdp_ring_offset, entries: Int, entryByteCount: Int
    ) throws(DemikernelError) {
        mappingByteCount = Int(offsets.desc) + entries * entryByteCount
        guard let mapping = mmap(nil, mappingByteCount, PROT_READ | PROT_WRITE, MAP_SHARED | Int32(MAP_POPULATE), socket, Int(page)), mapping != MAP_FAILED
        else { throw DemikernelError(errno, .initialize, "the rings of the AF_XDP socket cannot be mapped") }
        self.mapping = mapping
        producer = (mapping + Int(offsets.producer)).assumingMemoryBound(to: UInt32.self)
        consumer = (mapping + Int(offsets.consumer)).assumingMemoryBound(to: UInt32.self)
        flags = (mapping + Int(offsets.flags)).assumingMemoryBound(to: UInt32.self)
        descriptors = mapping + Int(offsets.desc)
        mask = UInt32(entries - 1)
    }

    func unmap() { munmap(mapping, mappingByteCount) }

    /// Whether the kernel wants to be called before it goes on with the ring.
    var needsWakeup: Bool { linux_ring_flags(flags) & UInt32(XDP_RING_NEED_WAKEUP) != 0 }

    // MARK: As producer

    /// Entries that can be written.
    @inline(__always)
    mutating func room(atLeast count: UInt32) -> UInt32 {
        var room = mask &+ 1 &- (index &- seen)
        if room < count {
            seen = linux_ring_load(consumer)
            room = mask &+ 1 &- (index &- seen)
        }
        return room
    }

    /// Writes an address. There is room.
    @inline(__always)
    mutating func produce(address: UInt64) {
        (descriptors + Int(index & mask) * 8).storeBytes(of: address, as: UInt64.self)
        index &+= 1
    }

    /// Writes a descriptor. There is room.
    @inline(__always)
    mutating func produce(_ descriptor: xdp_desc) {
        (descriptors + Int(index & mask) * 16).assumingMemoryBound(to: xdp_desc.self).pointee = descriptor
        index &+= 1
    }

    @inline(__always)
    func publishProduced() { linux_ring_store(producer, index) }

    /// Entries that the kernel has not taken yet.
    var pending: UInt32 { index &- linux_ring_load(consumer) }

    // MARK: As consumer

    /// Entries that can be read, at most `limit`.
    @inline(__always)
    mutating func available(_ limit: UInt32) -> UInt32 {
        var count = seen &- index
        if count < limit {
            seen = linux_ring_load(producer)
            count = seen &- index
        }
        return min(count, limit)
    }

    /// The entry `position` behind the next one, which is available.
    @inline(__always)
    func address(_ position: UInt32) -> UInt64 { (descriptors + Int((index &+ position) & mask) * 8).load(as: UInt64.self) }

    @inline(__always)
    func descriptor(_ position: UInt32) -> xdp_desc {
        (descriptors + Int((index &+ position) & mask) * 16).assumingMemoryBound(to: xdp_desc.self).pointee
    }

    @inline(__always)
    mutating func consume(_ count: UInt32) {
        index &+= count
        linux_ring_store(consumer, index)
    }
}
