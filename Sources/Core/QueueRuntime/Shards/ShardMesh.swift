import CDatapath
import DatapathMemory
import Glibc

/// What connects the shards of one program, one runtime on one thread each: a ring from every shard to every other one, in each of several lanes.
///
/// Made before the threads, and shared by them; each joins it once with its runtime (`Runtime.join`). Two kinds of messages that wait for each other, such as
/// requests and their replies, go in lanes of their own: so a full lane of requests never keeps a reply from being taken.
///
/// A ring holds 256 messages. A message of up to 240 bytes is copied into it; a larger one is lent and copied once, by the shard that pops it.
///
/// Costs for N shards and L lanes: N × N × L rings of some 68 KiB, and one kernel descriptor a shard.
public final class ShardMesh: Sendable {
    /// How many shards.
    public let shardCount: Int
    /// How many lanes from each shard to each other one.
    public let laneCount: Int
    // Rings are reached from two threads each, through acquiring and releasing words; the flags through atomics. The pointers never change.
    nonisolated(unsafe) private let rings: UnsafeMutablePointer<ShardRing>
    /// A line of `linesByteCount` for each shard: whether its thread sleeps or is about to; whether it has joined.
    nonisolated(unsafe) private let lines: UnsafeMutableRawPointer
    /// Each shard's kernel descriptor, readable when one that slept was given something.
    private let descriptors: [Int32]

    private static let lineByteCount = 64
    private static let hasJoinedOffset = 4

    /// The most shards of a mesh, and the most lanes.
    public static let maximumShards = 64
    public static let maximumLanes = 4

    /// - Throws: `EINVAL` outside 1 to 64 shards and 1 to 4 lanes, `EMFILE` when no descriptor is left.
    public init(shardCount: Int, laneCount: Int = 1) throws(DemikernelError) {
        guard (1...ShardMesh.maximumShards).contains(shardCount), (1...ShardMesh.maximumLanes).contains(laneCount) else {
            throw DemikernelError(EINVAL, .initialize, "a mesh has 1 to 64 shards and 1 to 4 lanes")
        }
        var descriptors: [Int32] = []
        for _ in 0..<shardCount {
            let descriptor = eventfd(0, Int32(EFD_CLOEXEC | EFD_NONBLOCK))
            guard descriptor >= 0 else {
                let error = errno
                for descriptor in descriptors { close(descriptor) }
                throw DemikernelError(error, .initialize, "no descriptor is left for the shards' wake-ups: raise the limit with ulimit -n")
            }
            descriptors.append(descriptor)
        }
        self.shardCount = shardCount
        self.laneCount = laneCount
        self.descriptors = descriptors
        rings = .allocate(capacity: shardCount * shardCount * laneCount)
        for index in 0..<shardCount * shardCount * laneCount { (rings + index).initialize(to: ShardRing()) }
        lines = .allocate(byteCount: shardCount * ShardMesh.lineByteCount, alignment: ShardMesh.lineByteCount)
        lines.initializeMemory(as: UInt8.self, repeating: 0, count: shardCount * ShardMesh.lineByteCount)
    }

    deinit {
        // Every runtime that joined held the mesh, so no thread uses it any more.
        for index in 0..<shardCount * shardCount * laneCount { rings[index].deallocate() }
        rings.deallocate()
        lines.deallocate()
        for descriptor in descriptors { close(descriptor) }
    }

    func ring(from: Int, to: Int, lane: Int) -> ShardRing {
        precondition(
            (0..<shardCount).contains(from) && (0..<shardCount).contains(to) && (0..<laneCount).contains(lane), "no such shard or lane in the mesh")
        return rings[(from * shardCount + to) * laneCount + lane]
    }

    // MARK: Joining and leaving

    /// Whether the caller is the first to join as this shard.
    func takePlace(_ shard: Int) -> Bool {
        demi_exchange_u32(line(shard) + ShardMesh.hasJoinedOffset, 1) == 0
    }

    /// Says that a shard will never join, because its runtime could not be made: what waits for it ends. Nothing happens if it has joined: then the end of its
    /// runtime says so.
    public func leave(_ shard: Int) {
        if takePlace(shard) { end(shard) }
    }

    /// The shard neither sends nor receives any more.
    func end(_ shard: Int) {
        for peer in 0..<shardCount where peer != shard {
            for lane in 0..<laneCount {
                ring(from: shard, to: peer, lane: lane).endProducer()
                ring(from: peer, to: shard, lane: lane).endConsumer()
            }
            wake(peer)
        }
    }

    // MARK: Sleep

    private func line(_ shard: Int) -> UnsafeMutableRawPointer { lines + shard * ShardMesh.lineByteCount }

    /// Wakes a shard's thread if it sleeps or is about to. What it is to see was stored before.
    @inline(__always)
    func wake(_ shard: Int) {
        demi_fence()
        if demi_load_relaxed_u32(line(shard)) != 0 { signal(shard) }
    }

    @inline(never)
    private func signal(_ shard: Int) {
        if demi_exchange_u32(line(shard), 0) != 0 { makeReadable(shard) }
    }

    /// The descriptor that a shard sleeps on.
    func descriptor(of shard: Int) -> Int32 { descriptors[shard] }

    func makeReadable(_ shard: Int) {
        var one: UInt64 = 1
        _ = write(descriptors[shard], &one, 8)
    }

    /// From here on whoever gives the shard something makes its descriptor readable. What came before is for the caller to look for, behind this call.
    func armWakeUp(_ shard: Int) {
        // What a wake-up has left that came too late for its sleep.
        var value: UInt64 = 0
        _ = read(descriptors[shard], &value, 8)
        demi_store_release_u32(line(shard), 1)
        demi_fence()
    }

    func disarmWakeUp(_ shard: Int) {
        demi_store_release_u32(line(shard), 0)
    }
}
