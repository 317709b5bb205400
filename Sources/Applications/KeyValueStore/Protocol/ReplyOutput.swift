import Glibc

/// Where the engine writes replies: a cursor into raw memory that the caller lends, and a call for more when it is used up.
///
/// A small reply costs a bounds check and a few stores. The caller reads `written` after each `process` to learn how much of
/// the current room holds reply bytes; the output may be kept for several calls and connections, or made anew for each.
public struct ReplyOutput: ~Copyable {
    /// Called when the room is used up. `written` bytes at its start are final. Returns the next room, of which `capacity` (in: the
    /// bytes that are known to follow; out: the size of the room) must be at least `ReplyOutput.minimumRoom`, or nil to refuse:
    /// then further reply bytes are discarded and `process` ends with `.close`.
    public typealias Refill =
        @convention(c) (
            _ context: UnsafeMutableRawPointer?, _ written: Int, _ capacity: UnsafeMutablePointer<Int>
        ) -> UnsafeMutableRawPointer?

    /// The smallest room in bytes that `init` and `Refill` may provide; every reply but the bytes of a value fits into it.
    public static let minimumRoom = 256

    /// Bytes written to the current room.
    public var written: Int { cursor - start }
    /// Bytes written to all rooms.
    public var totalWritten: Int { finished + written }
    /// Whether the high-water mark has been reached; `process` stops after the request that does so.
    @inline(__always)
    public var isFull: Bool { totalWritten >= highWaterMark }
    /// Whether `Refill` has refused.
    public private(set) var isRefused = false

    /// Total bytes after which `isFull` turns true.
    public var highWaterMark: Int

    var usesRESP3 = false
    private var start: UnsafeMutableRawPointer
    private var cursor: UnsafeMutableRawPointer
    private var end: UnsafeMutableRawPointer
    private var finished = 0
    private let context: UnsafeMutableRawPointer?
    private let refill: Refill
    /// Where discarded bytes go after a refusal.
    private var discard: UnsafeMutableRawPointer?

    /// Writes to `room`, at least `minimumRoom` bytes that stay valid until they are replaced by `refill` or the output is gone.
    public init(
        room: UnsafeMutableRawBufferPointer, highWaterMark: Int, context: UnsafeMutableRawPointer?,
        refill: @escaping Refill
    ) {
        precondition(room.count >= Self.minimumRoom, "a reply output needs room for a small reply")
        start = room.baseAddress!
        cursor = start
        end = start + room.count
        self.highWaterMark = highWaterMark
        self.context = context
        self.refill = refill
    }

    deinit { free(discard) }

    /// Returns a place for `count` contiguous bytes, at most `minimumRoom`; `advance` says how many were used.
    @inline(__always)
    mutating func reserve(_ count: Int) -> UnsafeMutableRawPointer {
        assert(count <= Self.minimumRoom)
        if end - cursor < count { nextRoom(for: count) }
        return cursor
    }

    @inline(__always)
    mutating func advance(_ count: Int) { cursor += count }

    /// Writes any number of bytes, across rooms if need be.
    @inline(__always)
    mutating func append(_ slice: ByteSlice) {
        if end - cursor >= slice.count {
            memcpy(cursor, slice.start, slice.count)
            cursor += slice.count
        } else {
            appendAcrossRooms(slice)
        }
    }

    @inline(never)
    private mutating func appendAcrossRooms(_ slice: ByteSlice) {
        var offset = 0
        while true {
            let piece = min(slice.count - offset, end - cursor)
            memcpy(cursor, slice.start + offset, piece)
            cursor += piece
            offset += piece
            if offset == slice.count || isRefused { return }
            nextRoom(for: slice.count - offset)
        }
    }

    @inline(never)
    private mutating func nextRoom(for count: Int) {
        if !isRefused {
            finished += written
            var capacity = count
            if let room = refill(context, written, &capacity) {
                precondition(capacity >= Self.minimumRoom, "a reply output needs room for a small reply")
                start = room
                cursor = room
                end = room + capacity
                return
            }
            isRefused = true
            discard = malloc(Self.minimumRoom)
            guard let discard else { fatalError("the key-value store is out of memory") }
            start = discard
            end = discard + Self.minimumRoom
        }
        cursor = start
    }
}
