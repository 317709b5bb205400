/// Says which shard of a server has a key. The same on all of them, so that they need no common table.
public struct ShardRouter: Sendable {
    /// This shard, and how many there are.
    public let shard: Int
    public let shardCount: Int
    private let hash: KeyedHash

    /// - Parameter seed: the same for all shards; unpredictable where clients are not trusted, so that nobody can choose keys of one shard.
    public init(shard: Int, of shardCount: Int, seed: UInt64) {
        precondition(shardCount >= 1 && shardCount <= 64 && (0..<shardCount).contains(shard), "a server has 1 to 64 shards")
        self.shard = shard
        self.shardCount = shardCount
        var random = RandomSource(seed: seed)
        hash = KeyedHash(random: &random)
    }

    /// All shards, this one behind the others.
    var shardsWithOwnLast: [Int] { (0..<shardCount).filter { $0 != shard } + [shard] }

    /// The shard of a key, in any database.
    @inline(__always)
    func shard(of key: ByteSlice) -> Int { Int((UInt64(hash(key)) * UInt64(shardCount)) >> 32) }
}
