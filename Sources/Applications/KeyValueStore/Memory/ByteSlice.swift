import Glibc

/// A borrowed range of bytes: an argument of a request, a key, a value.
///
/// Invariant: `count` bytes from `start` are readable for as long as the slice is in use. Slices into a request live until the
/// command returns; slices into the store live until the entry that they belong to changes.
struct ByteSlice {
    let start: UnsafeRawPointer
    let count: Int

    @inline(__always)
    init(start: UnsafeRawPointer, count: Int) {
        self.start = start
        self.count = count
    }

    init(_ text: StaticString) {
        self.init(start: UnsafeRawPointer(text.utf8Start), count: text.utf8CodeUnitCount)
    }

    @inline(__always)
    subscript(index: Int) -> UInt8 {
        assert(index >= 0 && index < count)
        return start.load(fromByteOffset: index, as: UInt8.self)
    }

    @inline(__always)
    func word(at offset: Int) -> UInt64 { start.loadUnaligned(fromByteOffset: offset, as: UInt64.self) }

    @inline(__always)
    func halfWord(at offset: Int) -> UInt64 { UInt64(start.loadUnaligned(fromByteOffset: offset, as: UInt32.self)) }

    var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: start, count: count) }

    func prefix(_ length: Int) -> ByteSlice { ByteSlice(start: start, count: min(count, length)) }

    @inline(__always)
    func equals(_ other: ByteSlice) -> Bool {
        guard count == other.count else { return false }
        if count >= 8 {
            var offset = 0
            while offset < count - 8 {
                if word(at: offset) != other.word(at: offset) { return false }
                offset += 8
            }
            return word(at: count - 8) == other.word(at: count - 8)
        }
        return shortWord == other.shortWord
    }

    /// The bytes of a slice of at most 8 bytes, the first one lowest, the missing ones zero.
    @inline(__always)
    var shortWord: UInt64 {
        if count >= 8 { return word(at: 0) }
        if count >= 4 {
            return halfWord(at: 0) | halfWord(at: count - 4) &<< UInt64(truncatingIfNeeded: 8 * (count - 4))
        }
        if count == 0 { return 0 }
        let middle = count >> 1
        return UInt64(self[0]) | UInt64(self[middle]) &<< UInt64(truncatingIfNeeded: 8 * middle)
            | UInt64(self[count - 1]) &<< UInt64(truncatingIfNeeded: 8 * (count - 1))
    }

    /// Whether this is `text`, which is lower-case ASCII, in any mixture of cases.
    func matches(_ text: StaticString) -> Bool {
        guard count == text.utf8CodeUnitCount else { return false }
        for index in 0..<count where self[index].lowercasedASCII != text.utf8Start[index] { return false }
        return true
    }

    /// Byte-wise order, the shorter first where one is the prefix of the other.
    func precedes(_ other: ByteSlice) -> Bool {
        let order = memcmp(start, other.start, min(count, other.count))
        return order != 0 ? order < 0 : count < other.count
    }
}

extension UInt8 {
    @inline(__always)
    var lowercasedASCII: UInt8 { self &- 0x41 < 26 ? self | 0x20 : self }

    /// As C's `isspace` in the C locale.
    @inline(__always)
    var isSpace: Bool { self == 0x20 || self &- 0x09 < 5 }
}
