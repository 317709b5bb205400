/// The program by which the kernel chooses the queue of a TAP interface for a frame (TUNSETSTEERINGEBPF; Documentation/bpf/instruction-set).
///
/// A flow of TCP or UDP, which is its addresses and ports, always has the same queue. The kernel's own choice is none to build on: it hashes the flow label
/// of IPv6, which changes when a segment is sent again. Everything else, fragments among it, has queue 0.
struct QueueSteering {
    /// Eight bytes each: operation, registers, offset, constant.
    private(set) var instructions: [UInt64] = []
    /// Jumps to the last two instructions, which choose queue 0.
    private var jumpsToOther: [Int] = []

    // Operations: loads from the frame in the CPU's order, of words, half words and bytes; moves, arithmetic of 32 bits; jumps; the end.
    private static let loadWord: UInt64 = 0x20
    private static let loadHalf: UInt64 = 0x28
    private static let loadByte: UInt64 = 0x30
    private static let loadWordIndirect: UInt64 = 0x40
    private static let moveRegister: UInt64 = 0xbf
    private static let moveConstant: UInt64 = 0xb7
    private static let and: UInt64 = 0x54
    private static let shiftLeft: UInt64 = 0x64
    private static let shiftRight: UInt64 = 0x74
    private static let multiply: UInt64 = 0x24
    private static let modulo: UInt64 = 0x94
    private static let xorRegister: UInt64 = 0xac
    private static let jump: UInt64 = 0x05
    private static let jumpIfEqual: UInt64 = 0x15
    private static let jumpIfNotEqual: UInt64 = 0x55
    private static let exit: UInt64 = 0x95

    // Register 0 takes what is loaded; 6 to 9 survive loads, and 6 has to hold the frame.
    private static let hash: UInt64 = 7
    private static let length: UInt64 = 8

    init(queueCount: Int) {
        add(Self.moveRegister, to: 6, from: 1)
        add(Self.loadHalf, 12)
        let toIPv4 = addJump(Self.jumpIfEqual, 0x0800)
        let toIPv6 = addJump(Self.jumpIfEqual, 0x86dd)
        jumpsToOther.append(addJump(Self.jump, 0))

        land(toIPv4)
        // A fragment: an offset, or more to come.
        add(Self.loadHalf, 20)
        add(Self.and, 0x3fff)
        jumpsToOther.append(addJump(Self.jumpIfNotEqual, 0))
        addTransportCheck(at: 23)
        addAddresses(from: 26, count: 2)
        add(Self.loadByte, 14)
        add(Self.and, 15)
        add(Self.shiftLeft, 2)
        add(Self.moveRegister, to: Self.length, from: 0)
        add(Self.loadWordIndirect, 14, from: Self.length)
        let toMixing = addJump(Self.jump, 0)

        land(toIPv6)
        addTransportCheck(at: 20)
        addAddresses(from: 22, count: 8)
        add(Self.loadWord, 54)

        land(toMixing)
        // In the manner of MurmurHash3 (Appleby). A product carries bits upwards alone: its upper half is folded onto the lower one, so that each bit, also of the
        // peer's port, which is uppermost, reaches the half that the remainder is taken of.
        add(Self.multiply, 0xcc9e_2d51)
        add(Self.xorRegister, to: 0, from: Self.hash)
        addFold(15)
        add(Self.multiply, 0x85eb_ca6b)
        addFold(13)
        add(Self.multiply, 0xc2b2_ae35)
        add(Self.shiftRight, 16)
        add(Self.modulo, UInt32(queueCount))
        add(Self.exit)
        for jump in jumpsToOther { land(jump) }
        add(Self.moveConstant, 0)
        add(Self.exit)
    }

    private mutating func add(_ operation: UInt64, _ constant: UInt32 = 0, to destination: UInt64 = 0, from source: UInt64 = 0) {
        instructions.append(operation | destination << 8 | source << 12 | UInt64(constant) << 32)
    }

    /// Adds the upper bits of register 0 to its lower ones.
    private mutating func addFold(_ bits: UInt32) {
        add(Self.moveRegister, to: Self.length, from: 0)
        add(Self.shiftRight, bits, to: Self.length)
        add(Self.xorRegister, to: 0, from: Self.length)
    }

    /// A jump on register 0, which `land` gives its target.
    private mutating func addJump(_ operation: UInt64, _ constant: UInt32) -> Int {
        add(operation, constant)
        return instructions.count - 1
    }

    /// Here is the target of a jump.
    private mutating func land(_ jump: Int) {
        instructions[jump] |= UInt64(instructions.count - jump - 1) << 16
    }

    /// Goes on for TCP and UDP.
    private mutating func addTransportCheck(at offset: UInt32) {
        add(Self.loadByte, offset)
        let isTCP = addJump(Self.jumpIfEqual, 6)
        jumpsToOther.append(addJump(Self.jumpIfNotEqual, 17))
        land(isTCP)
    }

    /// Register 7 becomes all words of both addresses together.
    private mutating func addAddresses(from offset: UInt32, count: UInt32) {
        add(Self.moveConstant, 0, to: Self.hash)
        for index in 0..<count {
            add(Self.loadWord, offset + 4 * index)
            add(Self.xorRegister, to: Self.hash, from: 0)
        }
    }
}
