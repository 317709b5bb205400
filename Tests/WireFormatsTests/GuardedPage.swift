import Glibc

/// A page of memory with an inaccessible one behind it: bytes placed at its end cannot be read beyond without a crash.
final class GuardedPage {
    private let base: UnsafeMutableRawPointer
    static let byteCount = 4096

    init() {
        base = mmap(nil, 2 * GuardedPage.byteCount, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)!
        precondition(base != MAP_FAILED && mprotect(base + GuardedPage.byteCount, GuardedPage.byteCount, PROT_NONE) == 0)
    }

    deinit { munmap(base, 2 * GuardedPage.byteCount) }

    /// The last `count` bytes of the page.
    func last(_ count: Int) -> UnsafeMutableRawPointer { base + (GuardedPage.byteCount - count) }

    /// Puts `bytes` at the end of the page and returns where they begin.
    func place(_ bytes: some Collection<UInt8>) -> UnsafeMutableRawPointer {
        let target = last(bytes.count)
        for (offset, byte) in bytes.enumerated() { target.storeBytes(of: byte, toByteOffset: offset, as: UInt8.self) }
        return target
    }
}

/// The `count` bytes from `pointer` on.
func bytes(_ pointer: UnsafeRawPointer, _ count: Int) -> [UInt8] { Array(UnsafeRawBufferPointer(start: pointer, count: count)) }

/// What `write` puts into `count` bytes, which hold 0xee before and must not be exceeded.
func written(_ count: Int, _ write: (UnsafeMutableRawPointer) -> Void) -> [UInt8] {
    let page = GuardedPage()
    let target = page.last(count)
    target.initializeMemory(as: UInt8.self, repeating: 0xee, count: count)
    write(target)
    return bytes(target, count)
}

/// SplitMix64: the same numbers for the same seed.
struct SeededGenerator: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var mixed = state
        mixed = (mixed ^ mixed >> 30) &* 0xbf58_476d_1ce4_e5b9
        mixed = (mixed ^ mixed >> 27) &* 0x94d0_49bb_1331_11eb
        return mixed ^ mixed >> 31
    }
}

extension Array<UInt8> {
    /// Bytes written as hexadecimal digits, spaces ignored.
    init(hexadecimal text: String) {
        let digits = text.filter { !$0.isWhitespace }.map { UInt8($0.hexDigitValue!) }
        self = stride(from: 0, to: digits.count, by: 2).map { digits[$0] << 4 | digits[$0 + 1] }
    }

    /// Big-endian 16 bits.
    func number16(_ offset: Int) -> UInt16 { UInt16(self[offset]) << 8 | UInt16(self[offset + 1]) }

    /// Big-endian 32 bits.
    func number32(_ offset: Int) -> UInt32 { UInt32(number16(offset)) << 16 | UInt32(number16(offset + 2)) }

    static func bigEndian(_ value: some FixedWidthInteger) -> [UInt8] { Swift.withUnsafeBytes(of: value.bigEndian) { Array($0) } }
}

/// RFC 1071 section 1 word for word: pairs of octets, big-endian, end-around carry after every addition. Returns the complement of the sum.
func naiveChecksum(_ bytes: some Sequence<UInt8>) -> UInt16 {
    var sum: UInt32 = 0
    var high: UInt8?
    for byte in bytes {
        guard let first = high else {
            high = byte
            continue
        }
        sum += UInt32(first) << 8 | UInt32(byte)
        sum = (sum & 0xffff) + (sum >> 16)
        high = nil
    }
    if let high {
        sum += UInt32(high) << 8
        sum = (sum & 0xffff) + (sum >> 16)
    }
    return ~UInt16(sum)
}
