extension KeyValueStore {
    mutating func hashSet(_ request: Request, _ replies: inout ReplyOutput) {
        guard request.count % 2 == 0 else { return replies.wrongArity("hset") }
        guard let entry = collection(.hash, at: request[1], request, &replies) else { return }
        let table = entry.table
        var added = 0
        for index in stride(from: 2, to: request.count, by: 2) {
            let fieldHash = hash(request[index])
            if let field = table.pointee.find(request[index], hash: fieldHash, heap: &heap) {
                field.string.assign(request[index + 1], heap: &heap)
            } else {
                let field = table.pointee.insert(request[index], hash: fieldHash, heap: &heap)
                field.string = ByteString(request[index + 1], heap: &heap)
                added += 1
            }
        }
        replies.integer(added)
    }

    mutating func hashGet(_ request: Request, _ replies: inout ReplyOutput) {
        guard let entry = read(request[1], request) else { return replies.null() }
        guard replies.check(entry, is: .hash) else { return }
        guard let field = entry.table.pointee.find(request[2], hash: hash(request[2]), heap: &heap) else {
            return replies.null()
        }
        replies.bulk(field.string.slice)
    }

    mutating func hashGetAll(_ request: Request, _ replies: inout ReplyOutput) {
        guard let entry = read(request[1], request) else { return replies.map(0) }
        guard replies.check(entry, is: .hash) else { return }
        replies.map(entry.table.pointee.count)
        var walk = HashTable.Walk()
        while let field = entry.table.pointee.next(&walk) {
            replies.bulk(field.key)
            replies.bulk(field.string.slice)
        }
    }

    mutating func hashCount(_ request: Request, _ replies: inout ReplyOutput) {
        guard let entry = read(request[1], request) else { return replies.integer(0) }
        guard replies.check(entry, is: .hash) else { return }
        replies.integer(entry.table.pointee.count)
    }
}
