/// The input as decisions, read from its front. Behind the end every number is zero.
struct InputReader {
    private let bytes: UnsafeRawBufferPointer
    private var position = 0

    init(_ bytes: UnsafeRawBufferPointer) { self.bytes = bytes }

    var isAtEnd: Bool { position >= bytes.count }

    mutating func byte() -> UInt8 {
        guard position < bytes.count else { return 0 }
        defer { position += 1 }
        return bytes[position]
    }

    mutating func number16() -> UInt16 { UInt16(byte()) << 8 | UInt16(byte()) }

    mutating func number32() -> UInt32 { UInt32(number16()) << 16 | UInt32(number16()) }

    /// A byte that says how many follow, then these.
    mutating func run() -> [UInt8] { run(Int(byte())) }

    mutating func run(_ count: Int) -> [UInt8] {
        let end = min(position + count, bytes.count)
        defer { position = end }
        return Array(bytes[position..<end])
    }

    /// A size: up to 127 as it is, above in steps of 64 up to 8 KiB.
    mutating func size() -> Int {
        let value = Int(byte())
        return value < 128 ? value : (value - 127) * 64
    }

    /// A distance: 0 for most, or small, large or any.
    mutating func distance(_ mode: UInt8) -> Int {
        switch mode & 3 {
        case 0: 0
        case 1: Int(Int8(bitPattern: byte()))
        case 2: Int(Int16(bitPattern: number16()))
        default: Int(Int32(bitPattern: number32()))
        }
    }
}
