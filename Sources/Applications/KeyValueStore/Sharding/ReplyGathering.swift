extension KeyValueStore {
    /// Writes the replies of a gather, all of whose parts are there, in the order of their requests. It is empty afterwards.
    /// - Parameter now: nanoseconds since the Unix epoch.
    /// - Returns: false when a part is missing or refused, so that the connection cannot be served any more.
    public func finish(_ gather: Gather, replies: inout ReplyOutput, now: UInt64, router: ShardRouter) -> Bool {
        defer { gather.removeAll() }
        guard gather.awaited == 0, !gather.isRefused else { return false }
        let usesRESP3 = replies.usesRESP3
        defer { replies.usesRESP3 = usesRESP3 }
        var parts = GatheredParts(gather, router.shardCount)
        for (combination, usesRESP3) in gather.combinations {
            replies.usesRESP3 = usesRESP3
            switch combination {
            case .single(let shard):
                replies.append(parts.next(of: shard))
            case .sum(let shards):
                parts.sum(shards, &replies)
            case .acknowledgement(let shards):
                let first = parts.next(of: shards.trailingZeroBitCount)
                let rest = parts.firstError(in: shards & (shards &- 1))
                replies.append(first.isError ? first : rest ?? first)
            case .values(let shards, let start, let count):
                parts.values(shards, gather.keyShards[start..<start + count], &replies)
            case .scan(let shard):
                parts.scan(shard, router, &replies)
            case .information(let sections):
                replies.verbatim(parts.summary().text(sections, now: Int64(now / 1_000_000)))
            }
        }
        return !replies.isRefused
    }
}

/// The replies of all shards to one gather, read in order.
private struct GatheredParts {
    private let parts: UnsafeMutablePointer<GrowingBytes>
    private let shardCount: Int
    private var positions: [Int]

    init(_ gather: Gather, _ shardCount: Int) {
        parts = gather.parts
        self.shardCount = shardCount
        positions = Array(repeating: 0, count: shardCount)
    }

    /// The next reply of a shard. Shards are parts of one program, so that their framing is right.
    mutating func next(of shard: Int) -> ByteSlice {
        let bytes = parts[shard].bytes
        let position = positions[shard]
        precondition(position + 4 <= bytes.count, "a shard has answered fewer requests than it was asked")
        let count = Int(bytes.loadUnaligned(fromByteOffset: position, as: UInt32.self))
        precondition(position + 4 + count <= bytes.count, "a shard's reply is cut short")
        positions[shard] = position + 4 + count
        return ByteSlice(start: bytes.baseAddress! + position + 4, count: count)
    }

    /// Takes the next reply of each shard.
    mutating func firstError(in shards: UInt64) -> ByteSlice? {
        var error: ByteSlice?
        for shard in 0..<shardCount where shards & 1 << UInt64(shard) != 0 {
            let reply = next(of: shard)
            if reply.isError, error == nil { error = reply }
        }
        return error
    }

    mutating func sum(_ shards: UInt64, _ replies: inout ReplyOutput) {
        var total: Int64 = 0
        var error: ByteSlice?
        for shard in 0..<shardCount where shards & 1 << UInt64(shard) != 0 {
            let reply = next(of: shard)
            // A number: a colon, its digits, and the end of the line.
            if reply.count > 3, !reply.isError, let number = ByteSlice(start: reply.start + 1, count: reply.count - 3).integer() {
                total += number
            } else if error == nil {
                error = reply
            }
        }
        if let error { replies.append(error) } else { replies.integer(Int(total)) }
    }

    /// Puts the values of `MGET`s together, in the order of the keys.
    mutating func values(_ shards: UInt64, _ keyShards: ArraySlice<UInt8>, _ replies: inout ReplyOutput) {
        var rests = [ByteSlice](repeating: ByteSlice(""), count: shardCount)
        for shard in 0..<shardCount where shards & 1 << UInt64(shard) != 0 {
            rests[shard] = next(of: shard)
            _ = rests[shard].takeLine()
        }
        replies.array(keyShards.count)
        for shard in keyShards { replies.append(rests[Int(shard)].takeValue()) }
    }

    /// A scan's reply, with a cursor that tells the shard; where a shard has no more keys, the next one begins.
    mutating func scan(_ shard: Int, _ router: ShardRouter, _ replies: inout ReplyOutput) {
        var rest = next(of: shard)
        if rest.isError { return replies.append(rest) }
        _ = rest.takeLine()
        _ = rest.takeLine()
        let line = rest.takeLine()
        let cursor = ByteSlice(start: line.start, count: line.count - 2).cursor() ?? 0
        let shardCount = UInt64(router.shardCount)
        replies.array(2)
        if cursor != 0 {
            replies.bulk(cursor &* shardCount &+ UInt64(shard))
        } else {
            replies.bulk(shard + 1 < router.shardCount ? UInt64(shard + 1) : 0)
        }
        replies.append(rest)
    }

    mutating func summary() -> StoreSummary {
        var total = StoreSummary()
        for shard in 0..<shardCount {
            let reply = next(of: shard)
            precondition(reply.count == MemoryLayout<StoreSummary>.size, "a shard's summary has its size")
            total.add(reply.start.loadUnaligned(as: StoreSummary.self))
        }
        return total
    }
}

extension ByteSlice {
    fileprivate var isError: Bool { count > 0 && self[0] == UInt8(ascii: "-") }

    /// Takes the first line, its end included.
    fileprivate mutating func takeLine() -> ByteSlice {
        var end = 0
        while end + 1 < count, self[end] != UInt8(ascii: "\r") { end += 1 }
        return takeFirst(min(end + 2, count))
    }

    /// Takes a bulk string or a null.
    fileprivate mutating func takeValue() -> ByteSlice {
        let whole = self
        let line = takeLine()
        guard line.count > 3, line[0] == UInt8(ascii: "$"), let length = ByteSlice(start: line.start + 1, count: line.count - 3).integer(),
            length >= 0
        else {
            return line
        }
        _ = takeFirst(Int(length) + 2)
        return whole.prefix(line.count + Int(length) + 2)
    }

    private mutating func takeFirst(_ byteCount: Int) -> ByteSlice {
        precondition(byteCount <= count, "a shard's reply is cut short")
        let first = prefix(byteCount)
        self = ByteSlice(start: start + byteCount, count: count - byteCount)
        return first
    }
}
