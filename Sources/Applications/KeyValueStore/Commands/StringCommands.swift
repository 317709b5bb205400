extension KeyValueStore {
    @inline(__always)
    mutating func get(_ request: Request, _ replies: inout ReplyOutput) {
        _ = reply(string: request[1], request, &replies)
    }

    /// Replies with the string at `key` or null. False after an error.
    @inline(__always)
    private mutating func reply(string key: ByteSlice, _ request: Request, _ replies: inout ReplyOutput) -> Bool {
        guard let entry = read(key, request) else {
            replies.null()
            return true
        }
        guard replies.check(entry, is: .string) else { return false }
        replies.bulk(entry.string.slice)
        return true
    }

    @inline(__always)
    mutating func set(_ request: Request, _ replies: inout ReplyOutput) {
        guard request.count == 3 else { return setWithOptions(request, &replies) }
        _ = assign(request[2], to: request[1], request)
        replies.ok()
    }

    /// `SET key value [NX | XX] [GET] [EX s | PX ms | EXAT time | PXAT time | KEEPTTL]`
    @inline(never)
    private mutating func setWithOptions(_ request: Request, _ replies: inout ReplyOutput) {
        enum Condition { case none, missing, present }
        var condition = Condition.none
        var returnsOld = false
        var keepsExpiry = false
        var deadline: (text: ByteSlice, origin: TimeOrigin, unit: TimeUnit)?
        var index = 3
        while index < request.count {
            let option = request[index]
            let following = index + 1 < request.count ? request[index + 1] : nil
            index += 1
            if option.matches("nx"), condition != .present {
                condition = .missing
            } else if option.matches("xx"), condition != .missing {
                condition = .present
            } else if option.matches("get") {
                returnsOld = true
            } else if option.matches("keepttl"), deadline == nil {
                keepsExpiry = true
            } else if let following, deadline == nil, !keepsExpiry, let (origin, unit) = Self.deadlineOption(option) {
                deadline = (following, origin, unit)
                index += 1
            } else {
                return replies.syntaxError()
            }
        }
        var time: Int64?
        if let deadline {
            guard let value = deadline.text.integer() else { return replies.notAnInteger() }
            guard value > 0, let absolute = Self.deadline(value, deadline.origin, deadline.unit, now: request.now) else {
                return replies.error("ERR invalid expire time in 'set' command")
            }
            time = absolute
        }
        if returnsOld, !reply(string: request[1], request, &replies) { return }
        if condition != .none {
            let isPresent = find(request[1], request) != nil
            if isPresent != (condition == .present) {
                if !returnsOld { replies.null() }
                return
            }
        }
        let entry = assign(request[2], to: request[1], keepsExpiry: keepsExpiry, request)
        if let time { request.database.pointee.expiries.set(entry, time: time, heap: &heap) }
        if !returnsOld { replies.ok() }
    }

    private static func deadlineOption(_ option: ByteSlice) -> (TimeOrigin, TimeUnit)? {
        if option.matches("ex") { return (.relative, .seconds) }
        if option.matches("px") { return (.relative, .milliseconds) }
        if option.matches("exat") { return (.absolute, .seconds) }
        if option.matches("pxat") { return (.absolute, .milliseconds) }
        return nil
    }

    @inline(__always)
    mutating func increment(_ request: Request, by amount: Int64, _ replies: inout ReplyOutput) {
        let key = request[1]
        let entry = find(key, request)
        var old: Int64 = 0
        if let entry {
            guard replies.check(entry, is: .string) else { return }
            guard let value = entry.string.slice.integer() else { return replies.notAnInteger() }
            old = value
        }
        let (new, overflow) = old.addingReportingOverflow(amount)
        if overflow { return replies.error("ERR increment or decrement would overflow") }
        withUnsafeTemporaryAllocation(byteCount: NumberText.capacity, alignment: 8) { text in
            let count = NumberText.write(new, to: text.baseAddress!)
            let slice = ByteSlice(start: UnsafeRawPointer(text.baseAddress!), count: count)
            if let entry {
                entry.string.assign(slice, heap: &heap)
            } else {
                _ = assign(slice, to: key, request)
            }
        }
        replies.integer(Int(new))
    }

    mutating func incrementBy(_ request: Request, _ replies: inout ReplyOutput) {
        guard let amount = request[2].integer() else { return replies.notAnInteger() }
        increment(request, by: amount, &replies)
    }

    mutating func decrementBy(_ request: Request, _ replies: inout ReplyOutput) {
        guard let amount = request[2].integer() else { return replies.notAnInteger() }
        if amount == .min { return replies.error("ERR decrement would overflow") }
        increment(request, by: -amount, &replies)
    }

    mutating func append(_ request: Request, _ replies: inout ReplyOutput) {
        guard let entry = find(request[1], request) else {
            return replies.integer(assign(request[2], to: request[1], request).string.count)
        }
        guard replies.check(entry, is: .string) else { return }
        if entry.string.count + request[2].count > parser.maximumBulkLength {
            return replies.error("ERR string exceeds maximum allowed size (proto-max-bulk-len)")
        }
        entry.string.append(request[2], heap: &heap)
        replies.integer(entry.string.count)
    }

    mutating func stringLength(_ request: Request, _ replies: inout ReplyOutput) {
        guard let entry = read(request[1], request) else { return replies.integer(0) }
        guard replies.check(entry, is: .string) else { return }
        replies.integer(entry.string.count)
    }

    mutating func getAndDelete(_ request: Request, _ replies: inout ReplyOutput) {
        guard reply(string: request[1], request, &replies) else { return }
        if let entry = find(request[1], request) { remove(entry, from: request.database) }
    }

    mutating func multipleGet(_ request: Request, _ replies: inout ReplyOutput) {
        replies.array(request.count - 1)
        for index in 1..<request.count {
            if let entry = read(request[index], request), entry.pointee.kind == .string {
                replies.bulk(entry.string.slice)
            } else {
                replies.null()
            }
        }
    }

    mutating func multipleSet(_ request: Request, _ replies: inout ReplyOutput) {
        guard request.count % 2 == 1 else { return replies.wrongArity("mset") }
        for index in stride(from: 1, to: request.count, by: 2) {
            _ = assign(request[index + 1], to: request[index], request)
        }
        replies.ok()
    }
}
