/// One numbered database: the keys, and the deadlines of those that expire.
struct Database: ~Copyable {
    var keys: HashTable
    var expiries = ExpiryHeap()

    init(heap: inout Heap) { keys = HashTable(heap: &heap) }

    consuming func destroy(heap: inout Heap) {
        keys.destroy(heap: &heap) { entry, heap in entry.destroyValue(heap: &heap) }
        expiries.destroy(heap: &heap)
    }
}

extension UnsafeMutablePointer where Pointee == Entry {
    /// Frees what the payload points to. O(n) in the elements of a collection.
    func destroyValue(heap: inout Heap) {
        switch pointee.kind {
        case .member: return
        case .string: return string.destroy(heap: &heap)
        case .list: heap.unbox(list).destroy(heap: &heap)
        case .set: heap.unbox(table).destroy(heap: &heap) { _, _ in }
        case .hash: heap.unbox(table).destroy(heap: &heap) { field, heap in field.string.destroy(heap: &heap) }
        case .sortedSet: heap.unbox(sortedSet).destroy(heap: &heap)
        }
    }

    /// Gives a new key an empty collection of `kind`.
    fileprivate func makeCollection(_ kind: ValueKind, heap: inout Heap) {
        pointee.kind = kind
        switch kind {
        case .list:
            pointee.payload = UnsafeMutableRawPointer(heap.box(List()))
        case .set, .hash:
            let table = HashTable(heap: &heap)
            pointee.payload = UnsafeMutableRawPointer(heap.box(table))
        case .sortedSet:
            let set = SortedSet(heap: &heap)
            pointee.payload = UnsafeMutableRawPointer(heap.box(set))
        case .member, .string:
            preconditionFailure("not a collection")
        }
    }
}

// MARK: - Keys

extension KeyValueStore {
    /// The entry of `key` unless it is missing or has expired; an expired one is removed.
    @inline(__always)
    mutating func find(_ key: ByteSlice, _ request: Request) -> EntryPointer? {
        find(key, hash: hash(key), request)
    }

    @inline(__always)
    private mutating func find(_ key: ByteSlice, hash: UInt32, _ request: Request) -> EntryPointer? {
        guard let entry = request.database.pointee.keys.find(key, hash: hash, heap: &heap) else { return nil }
        if entry.pointee.expirySlot != 0 && removeIfExpired(entry, request) { return nil }
        return entry
    }

    /// As `find`, counted as a hit or a miss.
    @inline(__always)
    mutating func read(_ key: ByteSlice, _ request: Request) -> EntryPointer? {
        let entry = find(key, request)
        if entry != nil { statistics.keyspaceHits &+= 1 } else { statistics.keyspaceMisses &+= 1 }
        return entry
    }

    @inline(never)
    mutating func removeIfExpired(_ entry: EntryPointer, _ request: Request) -> Bool {
        guard entry.pointee.expirySlot != 0,
            request.database.pointee.expiries.time(of: entry) < request.now
        else { return false }
        remove(entry, from: request.database)
        statistics.expiredKeys += 1
        return true
    }

    /// Removes a key with its value.
    mutating func remove(_ entry: EntryPointer, from database: UnsafeMutablePointer<Database>) {
        database.pointee.expiries.clear(entry, heap: &heap)
        entry.destroyValue(heap: &heap)
        database.pointee.keys.remove(entry, heap: &heap)
    }

    /// Sets `key` to a string, whatever it was before.
    @inline(__always)
    mutating func assign(_ value: ByteSlice, to key: ByteSlice, keepsExpiry: Bool = false, _ request: Request) -> EntryPointer {
        let keyHash = hash(key)
        if let entry = find(key, hash: keyHash, request) {
            if entry.pointee.kind == .string {
                entry.string.assign(value, heap: &heap)
            } else {
                entry.destroyValue(heap: &heap)
                entry.pointee.kind = .string
                entry.string = ByteString(value, heap: &heap)
            }
            if entry.pointee.expirySlot != 0 && !keepsExpiry {
                request.database.pointee.expiries.clear(entry, heap: &heap)
            }
            return entry
        }
        let entry = request.database.pointee.keys.insert(key, hash: keyHash, heap: &heap)
        entry.pointee.kind = .string
        entry.string = ByteString(value, heap: &heap)
        return entry
    }

    /// The collection at `key`, made if there is none; nil, with the error written, if the key holds another kind of value.
    @inline(__always)
    mutating func collection(
        _ kind: ValueKind, at key: ByteSlice, _ request: Request, _ replies: inout ReplyOutput
    ) -> EntryPointer? {
        let keyHash = hash(key)
        if let entry = find(key, hash: keyHash, request) { return replies.check(entry, is: kind) ? entry : nil }
        let entry = request.database.pointee.keys.insert(key, hash: keyHash, heap: &heap)
        entry.makeCollection(kind, heap: &heap)
        return entry
    }

    /// Empties a database. O(n).
    mutating func clear(_ database: UnsafeMutablePointer<Database>) {
        database.move().destroy(heap: &heap)
        database.initialize(to: Database(heap: &heap))
    }
}
