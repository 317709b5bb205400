/// Finds a command by its name in any mixture of cases: one multiplication and, as a rule, one probe.
///
/// Made from `commandTable` once per store. A name is packed into two words, so names are at most 16 bytes long.
struct CommandDispatch: ~Copyable {
    struct Slot {
        var name: PackedName
        var command: Command
        var arity: Int16
        var deniesOutOfMemory: Bool
    }

    private let slots: UnsafeMutablePointer<Slot>
    private static let slotBits = 8
    private static let mask = 1 << slotBits - 1

    init() {
        slots = .allocate(capacity: Self.mask + 1)
        let empty = Slot(name: PackedName.none, command: .ping, arity: 0, deniesOutOfMemory: false)
        slots.initialize(repeating: empty, count: Self.mask + 1)
        for (index, row) in commandTable.enumerated() {
            precondition(Int(row.command.rawValue) == index, "the command table is in the order of the commands")
            let name = PackedName(ByteSlice(row.name))
            var slot = name.hash >> (64 - UInt64(Self.slotBits))
            while slots[Int(slot)].name != .none { slot = (slot + 1) & UInt64(Self.mask) }
            slots[Int(slot)] = Slot(
                name: name, command: row.command, arity: Int16(row.arity),
                deniesOutOfMemory: row.flags.contains(.denyOutOfMemory))
        }
    }

    deinit { slots.deallocate() }

    @inline(__always)
    func find(_ text: ByteSlice) -> Slot? {
        let name = PackedName(text)
        var slot = name.hash >> (64 - UInt64(Self.slotBits))
        while true {
            let candidate = slots[Int(truncatingIfNeeded: slot)]
            if candidate.name == name { return name == .none ? nil : candidate }
            if candidate.name == .none { return nil }
            slot = (slot + 1) & UInt64(Self.mask)
        }
    }
}

/// Up to 16 bytes in lower case; names with a zero byte, empty ones and longer ones are `none` or equal no command.
struct PackedName: Equatable {
    private let low: UInt64
    private let high: UInt64

    static let none = PackedName(ByteSlice(""))

    @inline(__always)
    init(_ text: ByteSlice) {
        if text.count <= 8 {
            low = Self.lowercased(text.shortWord)
            high = 0
        } else if text.count <= 16 {
            low = Self.lowercased(text.word(at: 0))
            high = Self.lowercased(ByteSlice(start: text.start + 8, count: text.count - 8).shortWord)
        } else {
            low = 0
            high = 0
        }
    }

    @inline(__always)
    var hash: UInt64 { (low ^ high &* 31) &* 0x9E37_79B9_7F4A_7C15 }

    @inline(__always)
    static func == (left: PackedName, right: PackedName) -> Bool {
        (left.low ^ right.low) | (left.high ^ right.high) == 0
    }

    /// Sets bit 5 in the bytes from A to Z, eight at a time.
    @inline(__always)
    private static func lowercased(_ word: UInt64) -> UInt64 {
        let ones: UInt64 = 0x0101_0101_0101_0101
        let sevenBits = word & (0x7F &* ones)
        let fromA = sevenBits &+ (0x80 - 0x41) &* ones
        let beyondZ = sevenBits &+ (0x80 - 0x5B) &* ones
        let isUppercase = (fromA ^ beyondZ) & ~word & (0x80 &* ones)
        return word | isUppercase >> 2
    }
}
