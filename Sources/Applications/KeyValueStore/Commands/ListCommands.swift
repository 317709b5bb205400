extension KeyValueStore {
    mutating func push(_ request: Request, at end: List.End, _ replies: inout ReplyOutput) {
        guard let entry = collection(.list, at: request[1], request, &replies) else { return }
        for index in 2..<request.count { entry.list.pointee.push(request[index], at: end, heap: &heap) }
        replies.integer(entry.list.pointee.count)
    }

    /// `LPOP key [count]`, `RPOP key [count]`
    mutating func pop(_ request: Request, at end: List.End, _ name: StaticString, _ replies: inout ReplyOutput) {
        guard request.count <= 3 else { return replies.wrongArity(name) }
        var wanted: Int?
        if request.count == 3 {
            guard let count = request[2].integer(), count >= 0 else { return replies.mustBePositive() }
            wanted = Int(count)
        }
        guard let entry = find(request[1], request) else {
            return wanted == nil ? replies.null() : replies.nullArray()
        }
        guard replies.check(entry, is: .list) else { return }
        let list = entry.list
        if let wanted { replies.array(min(wanted, list.pointee.count)) }
        for _ in 0..<min(wanted ?? 1, list.pointee.count) {
            replies.bulk(list.pointee.peek(at: end))
            list.pointee.pop(at: end, heap: &heap)
        }
        if list.pointee.count == 0 { remove(entry, from: request.database) }
    }

    mutating func listRange(_ request: Request, _ replies: inout ReplyOutput) {
        guard let start = request[2].integer(), let stop = request[3].integer() else { return replies.notAnInteger() }
        guard let entry = read(request[1], request) else { return replies.array(0) }
        guard replies.check(entry, is: .list) else { return }
        let range = Self.range(from: start, through: stop, count: entry.list.pointee.count)
        replies.array(range.count)
        entry.list.pointee.forEach(from: range.lowerBound, count: range.count) { replies.bulk($0) }
    }

    mutating func listLength(_ request: Request, _ replies: inout ReplyOutput) {
        guard let entry = read(request[1], request) else { return replies.integer(0) }
        guard replies.check(entry, is: .list) else { return }
        replies.integer(entry.list.pointee.count)
    }

    /// The indices that Redis means by `start` and `stop`, negative ones counted from the end.
    static func range(from start: Int64, through stop: Int64, count: Int) -> Range<Int> {
        let lower = max(0, start < 0 ? Int64(count) &+ start : start)
        let upper = min(Int64(count) - 1, stop < 0 ? Int64(count) &+ stop : stop)
        return lower <= upper ? Int(lower)..<Int(upper) + 1 : 0..<0
    }
}

extension ReplyOutput {
    mutating func mustBePositive() { error("ERR value is out of range, must be positive") }
}
