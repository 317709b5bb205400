/// The sizes of block that the heap hands out: powers of two from 64 bytes up, and one block that fills a whole superblock.
///
/// A block of up to 4096 bytes crosses no 4096-byte boundary, so that it can be one AF_XDP chunk.
public enum SizeClass {
    /// Bytes in a superblock; a superblock starts at a multiple of this, which is how an interior pointer finds its header.
    public static let superblockByteCount = 256 * 1024
    /// log2 of the smallest block.
    @usableFromInline static let smallestShift = 6
    /// The classes: 64, 128, … 131072, and the whole-superblock block.
    public static let count = 13
    /// The largest block: what a superblock holds beside its first 4096 bytes.
    public static let largestByteCount = superblockByteCount - 4096

    /// The class of the smallest block that holds `byteCount` bytes; `byteCount` is at most `largestByteCount`.
    @inlinable
    public static func containing(_ byteCount: Int) -> Int {
        containing(unchecked: max(byteCount, 1))
    }

    /// As `containing`, for at least 1 byte: the highest bit of what a smaller block would not hold.
    @inlinable
    static func containing(unchecked byteCount: Int) -> Int {
        63 &- ((byteCount &- 1) | 63).leadingZeroBitCount &- (smallestShift &- 1)
    }

    /// Bytes in one block of the class.
    @inlinable
    public static func byteCount(of sizeClass: Int) -> Int {
        sizeClass == count - 1 ? largestByteCount : 64 << sizeClass
    }
}
