import Glibc

/// What the payload of an entry is.
enum ValueKind: UInt8 {
    /// A member of a set: no payload. Or a member of a sorted set: a skip-list node.
    case member
    case string
    case list
    case set
    case hash
    case sortedSet

    /// As `TYPE` and `SCAN … TYPE` spell it.
    var name: StaticString {
        switch self {
        case .member: "none"
        case .string: "string"
        case .list: "list"
        case .set: "set"
        case .hash: "hash"
        case .sortedSet: "zset"
        }
    }
}

/// The head of a block that holds one key of a hash table; the bytes of the key follow it.
struct Entry {
    var next: UnsafeMutablePointer<Entry>?
    /// A pointer to the value, of the type that `kind` tells.
    var payload: UnsafeMutableRawPointer?
    let hash: UInt32
    let keyCount: UInt32
    /// Where the expiry heap holds this key, counted from 1; 0 for a key that does not expire.
    var expirySlot: UInt32
    var kind: ValueKind

    static let keyOffset = MemoryLayout<Entry>.stride
}

typealias EntryPointer = UnsafeMutablePointer<Entry>

extension UnsafeMutablePointer where Pointee == Entry {
    static func make(_ key: ByteSlice, hash: UInt32, heap: inout Heap) -> EntryPointer {
        let block = heap.allocate(Entry.keyOffset + key.count)
        let entry = block.bindMemory(to: Entry.self, capacity: 1)
        entry.initialize(
            to: Entry(next: nil, payload: nil, hash: hash, keyCount: UInt32(key.count), expirySlot: 0, kind: .member))
        memcpy(block + Entry.keyOffset, key.start, key.count)
        return entry
    }

    /// Frees the block; the payload is somebody else's.
    func release(heap: inout Heap) { heap.release(self, Entry.keyOffset + Int(pointee.keyCount)) }

    @inline(__always)
    var key: ByteSlice { ByteSlice(start: UnsafeRawPointer(self) + Entry.keyOffset, count: Int(pointee.keyCount)) }

    /// The payload of a `.string` or of a field of a hash. Writing it does not free the former one.
    @inline(__always)
    var string: ByteString {
        get { ByteString(block: pointee.payload!) }
        nonmutating set { pointee.payload = newValue.block }
    }

    var list: UnsafeMutablePointer<List> { pointee.payload!.assumingMemoryBound(to: List.self) }
    /// The payload of a `.set` or a `.hash`.
    var table: UnsafeMutablePointer<HashTable> { pointee.payload!.assumingMemoryBound(to: HashTable.self) }
    var sortedSet: UnsafeMutablePointer<SortedSet> { pointee.payload!.assumingMemoryBound(to: SortedSet.self) }
}
