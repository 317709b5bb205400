/// Whether a time is counted from now or from the Unix epoch.
enum TimeOrigin { case relative, absolute }

enum TimeUnit { case seconds, milliseconds }

extension KeyValueStore {
    mutating func delete(_ request: Request, _ replies: inout ReplyOutput) {
        var removed = 0
        for index in 1..<request.count {
            guard let entry = find(request[index], request) else { continue }
            remove(entry, from: request.database)
            removed += 1
        }
        replies.integer(removed)
    }

    mutating func exists(_ request: Request, _ replies: inout ReplyOutput) {
        var found = 0
        for index in 1..<request.count where read(request[index], request) != nil { found += 1 }
        replies.integer(found)
    }

    mutating func type(_ request: Request, _ replies: inout ReplyOutput) {
        replies.simple(read(request[1], request)?.pointee.kind.name ?? "none")
    }

    mutating func persist(_ request: Request, _ replies: inout ReplyOutput) {
        guard let entry = find(request[1], request), entry.pointee.expirySlot != 0 else { return replies.integer(0) }
        request.database.pointee.expiries.clear(entry, heap: &heap)
        replies.integer(1)
    }

    mutating func timeToLive(_ request: Request, _ unit: TimeUnit, _ replies: inout ReplyOutput) {
        guard let entry = read(request[1], request) else { return replies.integer(-2) }
        guard entry.pointee.expirySlot != 0 else { return replies.integer(-1) }
        let remaining = Int(max(0, request.database.pointee.expiries.time(of: entry) - request.now))
        replies.integer(unit == .milliseconds ? remaining : remaining / 1000 + (remaining % 1000 >= 500 ? 1 : 0))
    }

    /// `EXPIRE key time [NX | XX | GT | LT]` and its three variants.
    mutating func expire(
        _ request: Request, _ origin: TimeOrigin, _ unit: TimeUnit, _ name: StaticString, _ replies: inout ReplyOutput
    ) {
        var (ifNone, ifSome, ifGreater, ifLess) = (false, false, false, false)
        for index in 3..<max(3, request.count) {
            if request[index].matches("nx") {
                ifNone = true
            } else if request[index].matches("xx") {
                ifSome = true
            } else if request[index].matches("gt") {
                ifGreater = true
            } else if request[index].matches("lt") {
                ifLess = true
            } else {
                return replies.error("ERR Unsupported option ", quoting: request[index], "")
            }
        }
        if ifNone && (ifSome || ifGreater || ifLess) {
            return replies.error("ERR NX and XX, GT or LT options at the same time are not compatible")
        }
        if ifGreater && ifLess {
            return replies.error("ERR GT and LT options at the same time are not compatible")
        }
        guard let value = request[2].integer() else { return replies.notAnInteger() }
        guard let time = Self.deadline(value, origin, unit, now: request.now) else {
            return replies.error("ERR invalid expire time in '", quoting: ByteSlice(name), "' command")
        }
        guard let entry = find(request[1], request) else { return replies.integer(0) }
        let current = entry.pointee.expirySlot == 0 ? nil : request.database.pointee.expiries.time(of: entry)
        // A key without a deadline counts as one that expires after all others.
        if (ifNone && current != nil) || (ifSome && current == nil)
            || (ifGreater && time <= current ?? .max) || (ifLess && time >= current ?? .max)
        {
            return replies.integer(0)
        }
        if time <= request.now {
            remove(entry, from: request.database)
        } else {
            request.database.pointee.expiries.set(entry, time: time, heap: &heap)
        }
        replies.integer(1)
    }

    /// The deadline in milliseconds since the Unix epoch, or nil if it cannot be represented.
    static func deadline(_ value: Int64, _ origin: TimeOrigin, _ unit: TimeUnit, now: Int64) -> Int64? {
        let (scaled, overflow) = value.multipliedReportingOverflow(by: unit == .seconds ? 1000 : 1)
        if overflow { return nil }
        if origin == .absolute { return scaled }
        let (time, isLate) = scaled.addingReportingOverflow(now)
        return isLate ? nil : time
    }

    mutating func flush(_ request: Request, isAll: Bool, _ replies: inout ReplyOutput) {
        guard request.count == 1 || (request.count == 2 && (request[1].matches("async") || request[1].matches("sync")))
        else { return replies.syntaxError() }
        if isAll {
            for index in 0..<Self.databaseCount { clear(databases + index) }
        } else {
            clear(request.database)
        }
        replies.ok()
    }

    /// `SCAN cursor [MATCH pattern] [COUNT count] [TYPE type]`
    ///
    /// Visits buckets until `count` keys have been seen or ten times as many buckets.
    mutating func scan(_ request: Request, _ replies: inout ReplyOutput) {
        guard var cursor = request[1].cursor() else { return replies.error("ERR invalid cursor") }
        var wanted = 10
        var pattern: ByteSlice?
        var type: ByteSlice?
        var index = 2
        while index < request.count {
            guard index + 1 < request.count else { return replies.syntaxError() }
            if request[index].matches("count") {
                guard let count = request[index + 1].integer() else { return replies.notAnInteger() }
                guard count >= 1 else { return replies.syntaxError() }
                wanted = Int(count)
            } else if request[index].matches("match") {
                pattern = request[index + 1]
            } else if request[index].matches("type") {
                type = request[index + 1]
            } else {
                return replies.syntaxError()
            }
            index += 2
        }
        var found: [EntryPointer] = []
        var buckets = wanted.multipliedReportingOverflow(by: 10).partialValue
        if buckets < wanted { buckets = .max }
        repeat {
            cursor = request.database.pointee.keys.scan(cursor) { found.append($0) }
            buckets -= 1
        } while cursor != 0 && buckets > 0 && found.count < wanted
        // The head of the reply tells the number of keys, so that they are chosen first.
        found.removeAll { entry in
            if removeIfExpired(entry, request) { return true }
            if let pattern, !pattern.isGlob(matching: entry.key) { return true }
            if let type { return !type.matches(entry.pointee.kind.name) }
            return false
        }
        replies.array(2)
        replies.bulk(cursor)
        replies.array(found.count)
        for entry in found { replies.bulk(entry.key) }
    }
}
