extension KeyValueStore {
    mutating func setAdd(_ request: Request, _ replies: inout ReplyOutput) {
        guard let entry = collection(.set, at: request[1], request, &replies) else { return }
        let table = entry.table
        var added = 0
        for index in 2..<request.count {
            let memberHash = hash(request[index])
            if table.pointee.find(request[index], hash: memberHash, heap: &heap) != nil { continue }
            _ = table.pointee.insert(request[index], hash: memberHash, heap: &heap)
            added += 1
        }
        replies.integer(added)
    }

    /// `SPOP key [count]`
    mutating func setPop(_ request: Request, _ replies: inout ReplyOutput) {
        guard request.count <= 3 else { return replies.syntaxError() }
        var wanted: Int?
        if request.count == 3 {
            guard let count = request[2].integer(), count >= 0 else { return replies.mustBePositive() }
            wanted = Int(count)
        }
        guard let entry = find(request[1], request) else { return wanted == nil ? replies.null() : replies.set(0) }
        guard replies.check(entry, is: .set) else { return }
        let table = entry.table
        let count = min(wanted ?? 1, table.pointee.count)
        if wanted != nil { replies.set(count) }
        for _ in 0..<count {
            let member = table.pointee.randomEntry(&random)
            replies.bulk(member.key)
            table.pointee.remove(member, heap: &heap)
        }
        if table.pointee.count == 0 { remove(entry, from: request.database) }
    }

    mutating func setCount(_ request: Request, _ replies: inout ReplyOutput) {
        guard let entry = read(request[1], request) else { return replies.integer(0) }
        guard replies.check(entry, is: .set) else { return }
        replies.integer(entry.table.pointee.count)
    }

    mutating func setMembers(_ request: Request, _ replies: inout ReplyOutput) {
        guard let entry = read(request[1], request) else { return replies.set(0) }
        guard replies.check(entry, is: .set) else { return }
        replies.set(entry.table.pointee.count)
        var walk = HashTable.Walk()
        while let member = entry.table.pointee.next(&walk) { replies.bulk(member.key) }
    }
}
