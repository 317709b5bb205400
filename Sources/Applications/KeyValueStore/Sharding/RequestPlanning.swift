extension KeyValueStore {
    /// As `process(input:client:replies:now:)`, for a store that has a part of the keys.
    ///
    /// Requests for the keys of this shard, and about none, are executed; requests for the keys of others are put into `gather`, which is empty before. From
    /// then on replies wait in it. The caller hands its batches over (`Gather.handOver`), gathers the replies, and gets them in order from `finish`.
    ///
    /// A request about keys of several shards is split. Each shard executes its part at a time of its own: such a request is not atomic, as that of an unsharded
    /// store is.
    /// - Returns: `.outputFull` also when the gather has enough; `.close` counts once the gather is finished.
    public mutating func process(
        input: UnsafeRawBufferPointer, client: inout ClientState, replies: inout ReplyOutput, now: UInt64, router: ShardRouter, gather: Gather
    ) -> ProcessOutcome {
        precondition(client.scan.offset <= input.count, "the input must begin with the bytes left over from the last call")
        let milliseconds = Int64(now / 1_000_000)
        if statistics.startTime == 0 { statistics.startTime = milliseconds }
        replies.usesRESP3 = client.protocolVersion == 3
        var position = 0
        while position < input.count {
            switch parser.parse(input.baseAddress! + position, available: input.count - position, scan: &client.scan) {
            case .request(let length):
                position += length
                guard parser.count > 0 else { continue }
                let request = Request(arguments: parser.arguments, count: parser.count, database: databases + client.database, now: milliseconds)
                let isWithinLimit = plan(request, &client, &replies, router, gather)
                if client.wantsClose || replies.isRefused || !isWithinLimit {
                    return ProcessOutcome(consumed: position, next: .close)
                }
                if replies.isFull || gather.isFull || gather.parts[router.shard].count >= replies.highWaterMark {
                    return ProcessOutcome(consumed: position, next: .outputFull)
                }
            case .incomplete(let minimumTotal):
                return ProcessOutcome(consumed: position, next: .needMore(minimumTotal: minimumTotal))
            case .violation(let violation):
                if gather.isEmpty {
                    violation.write(to: &replies)
                } else {
                    _ = inTurn(gather, router, client.protocolVersion == 3) { _, output in violation.write(to: &output) }
                }
                return ProcessOutcome(consumed: position, next: .close)
            }
        }
        return ProcessOutcome(consumed: position, next: .needMore(minimumTotal: 1))
    }

    /// Executes a request, or puts it into the gather. False when its reply is larger than may wait.
    private mutating func plan(
        _ request: Request, _ client: inout ClientState, _ replies: inout ReplyOutput, _ router: ShardRouter, _ gather: Gather
    ) -> Bool {
        let isRESP3 = client.protocolVersion == 3
        switch route(request, router) {
        case .here:
            if gather.isEmpty {
                execute(request, &client, &replies)
                return true
            }
            let isWithinLimit = inTurn(gather, router, isRESP3) { store, output in store.execute(request, &client, &output) }
            replies.usesRESP3 = client.protocolVersion == 3
            return isWithinLimit
        case .shard(let shard):
            gather.append(.command, to: shard, database: client.database, usesRESP3: isRESP3) { $0.append(request) }
            gather.add(.single(shard: shard), usesRESP3: isRESP3)
            return true
        case .scan(let shard, let cursor):
            let isWithinLimit = ask(shard, .command, client, router, gather, request.now) { $0.append(request, replacingFirst: cursor) }
            gather.add(.scan(shard: shard), usesRESP3: isRESP3)
            return isWithinLimit
        case .keys(let stride, let combine):
            return split(request, stride, combine, client, router, gather)
        case .all(let combine):
            let everyone = UInt64.max >> UInt64(64 - router.shardCount)
            for shard in router.shardsWithOwnLast {
                guard ask(shard, .command, client, router, gather, request.now, { $0.append(request) }) else { return false }
            }
            gather.add(combine == .sum ? .sum(of: everyone) : .acknowledgement(of: everyone), usesRESP3: isRESP3)
            return true
        case .information(let sections):
            for shard in router.shardsWithOwnLast {
                guard ask(shard, .summary, client, router, gather, request.now, { _ in }) else { return false }
            }
            gather.add(.information(sections), usesRESP3: isRESP3)
            return true
        }
    }

    /// Executes what replies when its turn has come.
    private mutating func inTurn(
        _ gather: Gather, _ router: ShardRouter, _ usesRESP3: Bool, _ body: (inout KeyValueStore, inout ReplyOutput) -> Void
    ) -> Bool {
        let part = gather.parts + router.shard
        let start = part.pointee.count
        part.pointee.append(word: 0)
        var output = part.makeOutput(usesRESP3: usesRESP3)
        body(&self, &output)
        if output.isRefused { return false }
        part.finish(output)
        part.pointee.set(word: UInt32(part.pointee.count - start - 4), at: start)
        gather.add(.single(shard: router.shard), usesRESP3: usesRESP3)
        return true
    }

    /// Adds a request to a shard's batch. This shard's own are executed at once, which ends what the present request's arguments are valid for.
    private mutating func ask(
        _ shard: Int, _ kind: BatchedRequest.Kind, _ client: borrowing ClientState, _ router: ShardRouter, _ gather: Gather, _ milliseconds: Int64,
        _ write: (UnsafeMutablePointer<GrowingBytes>) -> Void
    ) -> Bool {
        let isRESP3 = client.protocolVersion == 3
        guard shard == router.shard else {
            gather.append(kind, to: shard, database: client.database, usesRESP3: isRESP3, write)
            return true
        }
        let batch = UnsafeMutablePointer<GrowingBytes>.allocate(capacity: 1)
        batch.initialize(to: GrowingBytes())
        defer {
            batch.deinitialize(count: 1)
            batch.deallocate()
        }
        BatchedRequest.append(kind, to: batch, database: client.database, usesRESP3: isRESP3, write)
        return answer(batch.pointee.bytes, into: gather.parts + shard, now: UInt64(milliseconds) * 1_000_000)
    }

    /// Splits a request about several keys.
    private mutating func split(
        _ request: Request, _ stride: Int, _ combine: Routing.Combine, _ client: borrowing ClientState, _ router: ShardRouter, _ gather: Gather
    ) -> Bool {
        let start = gather.keyShards.count
        var involved: UInt64 = 0
        var counts = [Int](repeating: 0, count: router.shardCount)
        for index in Swift.stride(from: 1, to: request.count, by: stride) {
            let shard = router.shard(of: request[index])
            gather.keyShards.append(UInt8(shard))
            counts[shard] += stride
            involved |= 1 << UInt64(shard)
        }
        let keyCount = gather.keyShards.count - start
        for shard in router.shardsWithOwnLast where counts[shard] > 0 {
            let isWithinLimit = ask(shard, .command, client, router, gather, request.now) { batch in
                batch.append(arrayOf: 1 + counts[shard])
                batch.append(argument: request[0])
                for key in 0..<keyCount where Int(gather.keyShards[start + key]) == shard {
                    for offset in 0..<stride { batch.append(argument: request[1 + key * stride + offset]) }
                }
            }
            guard isWithinLimit else { return false }
        }
        let isRESP3 = client.protocolVersion == 3
        switch combine {
        case .sum: gather.add(.sum(of: involved), usesRESP3: isRESP3)
        case .acknowledgement: gather.add(.acknowledgement(of: involved), usesRESP3: isRESP3)
        case .values: gather.add(.values(of: involved, start: start, count: keyCount), usesRESP3: isRESP3)
        }
        return true
    }
}

// MARK: - Where a request goes

/// Who has to execute a request.
enum Routing {
    /// How the replies of several shards become one.
    enum Combine { case sum, acknowledgement, values }

    case here
    case shard(Int)
    case keys(stride: Int, Combine)
    case all(Combine)
    case scan(Int, cursor: UInt64)
    case information(InformationSections)
}

extension KeyValueStore {
    /// What is wrong with a request is told here, whatever its keys are.
    private func route(_ request: Request, _ router: ShardRouter) -> Routing {
        guard let command = checkedCommand(request) else { return .here }
        switch command {
        case .mget: return route(request, 1, .values, router)
        case .mset: return request.count % 2 == 1 ? route(request, 2, .acknowledgement, router) : .here
        case .delete, .unlink, .exists: return route(request, 1, .sum, router)
        case .dbsize: return .all(.sum)
        case .flushall, .flushdb: return .all(.acknowledgement)
        case .scan:
            guard let cursor = request[1].cursor() else { return .here }
            // A cursor tells the shard by its remainder; a store's own cursors have no more than 32 bits.
            return .scan(Int(cursor % UInt64(router.shardCount)), cursor: cursor / UInt64(router.shardCount))
        case .info: return .information(InformationSections(request))
        case .config: return request[1].matches("set") || request[1].matches("resetstat") ? .all(.acknowledgement) : .here
        default:
            guard commandTable[Int(command.rawValue)].keys == .first else { return .here }
            let shard = router.shard(of: request[1])
            return shard == router.shard ? .here : .shard(shard)
        }
    }

    /// A request whose keys all have one shard goes there whole.
    private func route(_ request: Request, _ stride: Int, _ combine: Routing.Combine, _ router: ShardRouter) -> Routing {
        let first = router.shard(of: request[1])
        for index in Swift.stride(from: 1 + stride, to: request.count, by: stride) where router.shard(of: request[index]) != first {
            return .keys(stride: stride, combine)
        }
        return first == router.shard ? .here : .shard(first)
    }
}

// MARK: - Writing requests

extension UnsafeMutablePointer<GrowingBytes> {
    fileprivate func append(_ text: ByteSlice) { pointee.append(text.bytes) }

    private func append(_ type: UInt8, _ count: Int) {
        let room = pointee.reserve(NumberText.capacity + 3)
        room.storeBytes(of: type, as: UInt8.self)
        let digits = NumberText.write(Int64(count), to: room + 1)
        room.storeBytes(of: 0x0A0D, toByteOffset: digits + 1, as: UInt16.self)
        pointee.extend(digits + 3)
    }

    fileprivate func append(arrayOf count: Int) { append(UInt8(ascii: "*"), count) }

    fileprivate func append(argument: ByteSlice) {
        append(UInt8(ascii: "$"), argument.count)
        append(argument)
        append(ByteSlice("\r\n"))
    }

    /// The request as an array of bulk strings.
    fileprivate func append(_ request: Request) {
        append(arrayOf: request.count)
        for index in 0..<request.count { append(argument: request[index]) }
    }

    /// The same with another first argument.
    fileprivate func append(_ request: Request, replacingFirst number: UInt64) {
        append(arrayOf: request.count)
        append(argument: request[0])
        var text = String(number)
        text.withUTF8 { append(argument: ByteSlice(start: UnsafeRawPointer($0.baseAddress!), count: $0.count)) }
        for index in 2..<max(2, request.count) { append(argument: request[index]) }
    }
}
