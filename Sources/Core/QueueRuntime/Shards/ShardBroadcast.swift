import DatapathMemory

/// One shard's way to give all others a copy of the same bytes, in a lane of the mesh that has no queues. For the poll of a library OS or a device: nothing
/// waits, and what a full ring does not take is dropped.
///
/// It wakes shards that sleep, as long as their runtimes have joined the mesh. It belongs to the shard's thread.
public struct ShardBroadcast: ~Copyable {
    private let mesh: ShardMesh
    private let shard: Int
    private let senders: UnsafeMutablePointer<ShardSender>
    private let receivers: UnsafeMutablePointer<ShardReceiver>
    /// Copies that a full ring, or a heap without a block for them, did not take.
    public private(set) var dropCount: UInt64 = 0

    public init(_ mesh: ShardMesh, shard: Int, lane: Int) {
        self.mesh = mesh
        self.shard = shard
        senders = .allocate(capacity: mesh.shardCount)
        receivers = .allocate(capacity: mesh.shardCount)
        for peer in 0..<mesh.shardCount {
            (senders + peer).initialize(to: ShardSender(mesh.ring(from: shard, to: peer, lane: lane)))
            (receivers + peer).initialize(to: ShardReceiver(mesh.ring(from: peer, to: shard, lane: lane)))
        }
    }

    deinit {
        for peer in 0..<mesh.shardCount where senders[peer].hasReturns { senders[peer].takeReturns() }
        senders.deallocate()
        receivers.deallocate()
    }

    /// Gives every other shard a copy of an array, which stays the caller's.
    public mutating func send(copyOf array: UnsafeMutablePointer<SegmentDescriptor>, _ heap: DatapathHeap) {
        for peer in 0..<mesh.shardCount where peer != shard {
            if senders[peer].hasReturns { senders[peer].takeReturns() }
            let byteCount = array.arrayByteCount
            guard !senders[peer].ring.isConsumerGone, senders[peer].hasRoom(),
                let copy = UnsafeMutablePointer<SegmentDescriptor>.makeSegment(heap, byteCount: byteCount, priority: .datagram)
            else {
                dropCount &+= 1
                continue
            }
            array.copyArray(to: copy.segmentAddress)
            senders[peer].send(copy)
            mesh.wake(peer)
        }
    }

    /// The next copy of another shard's, which is the caller's; nil for none, or when the heap has no block for it now.
    public mutating func receive(_ heap: DatapathHeap) -> UnsafeMutablePointer<SegmentDescriptor>? {
        for peer in 0..<mesh.shardCount where peer != shard {
            guard receivers[peer].hasMessage(), case .message(let array, let wasLent) = receivers[peer].receive(heap) else { continue }
            if wasLent { mesh.wake(peer) }
            return array
        }
        return nil
    }
}
