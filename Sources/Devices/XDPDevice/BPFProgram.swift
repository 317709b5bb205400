/// eBPF instructions under construction (RFC 9669), with labels for jumps ahead.
struct BPFProgram {
    /// A place in the program, which jumps can name before it is placed.
    struct Label {
        fileprivate let index: Int
    }

    enum Register: UInt64 {
        case r0, r1, r2, r3, r4, r5, r6, r7, r8
    }

    enum Size: UInt64 {
        case word = 0x00, half = 0x08, byte = 0x10, doubleWord = 0x18
    }

    private(set) var instructions: [UInt64] = []
    private var places: [Int?] = []
    private var jumps: [(instruction: Int, label: Int)] = []

    mutating func makeLabel() -> Label {
        places.append(nil)
        return Label(index: places.count - 1)
    }

    mutating func place(_ label: Label) { places[label.index] = instructions.count }

    /// Whether a jump names the label: code that nothing reaches is refused by the kernel.
    func isUsed(_ label: Label) -> Bool { jumps.contains { $0.label == label.index } }

    /// The program with its jumps resolved. Every label that a jump names has been placed.
    func assembled() -> [UInt64] {
        var result = instructions
        for (instruction, label) in jumps {
            guard let place = places[label] else { preconditionFailure("a jump goes to a label that was not placed") }
            let offset = place - instruction - 1
            precondition(offset >= 0 && offset < 1 << 15, "a jump is longer than 32767 instructions")
            result[instruction] |= UInt64(UInt16(offset)) << 16
        }
        return result
    }

    // MARK: Instructions

    mutating func move(_ target: Register, _ source: Register) { emit(0xbf, target, source) }
    mutating func move(_ target: Register, _ value: Int32) { emit(0xb7, target, immediate: value) }
    mutating func add(_ target: Register, _ value: Int32) { emit(0x07, target, immediate: value) }
    mutating func and(_ target: Register, _ value: Int32) { emit(0x57, target, immediate: value) }

    /// target = size bytes at source + offset.
    mutating func load(_ size: Size, _ target: Register, _ source: Register, _ offset: Int16) { emit(0x61 | size.rawValue, target, source, offset: offset) }

    /// Two instructions wide.
    mutating func loadImmediate(_ target: Register, _ value: UInt64) {
        emit(0x18, target, immediate: Int32(truncatingIfNeeded: value))
        instructions.append((value >> 32) << 32)
    }

    /// target = the map of a descriptor.
    mutating func loadMap(_ target: Register, descriptor: Int32) {
        instructions.append(0x18 | target.rawValue << 8 | 1 << 12 | UInt64(UInt32(bitPattern: descriptor)) << 32)
        instructions.append(0)
    }

    /// Reverses the lower two bytes of a big-endian half word.
    mutating func fromBigEndian16(_ target: Register) { emit(0xdc, target, immediate: 16) }

    mutating func jump(to label: Label) { emitJump(0x05, .r0, .r0, 0, label) }
    mutating func jump(to label: Label, if left: Register, isAbove right: Register) { emitJump(0x2d, left, right, 0, label) }
    mutating func jump(to label: Label, if left: Register, equals right: Register) { emitJump(0x1d, left, right, 0, label) }
    mutating func jump(to label: Label, if left: Register, differsFrom right: Register) { emitJump(0x5d, left, right, 0, label) }
    /// Compares the lower 32 bits.
    mutating func jump(to label: Label, if left: Register, equals value: UInt32) { emitJump(0x16, left, .r0, Int32(bitPattern: value), label) }
    mutating func jump(to label: Label, if left: Register, differsFrom value: UInt32) { emitJump(0x56, left, .r0, Int32(bitPattern: value), label) }
    mutating func jump(to label: Label, if left: Register, isBelow value: UInt32) { emitJump(0xa6, left, .r0, Int32(bitPattern: value), label) }
    mutating func jump(to label: Label, if left: Register, isAtMost value: UInt32) { emitJump(0xb6, left, .r0, Int32(bitPattern: value), label) }

    mutating func call(_ helper: Int32) { emit(0x85, .r0, immediate: helper) }
    mutating func exit() { emit(0x95, .r0) }

    private mutating func emit(_ code: UInt64, _ target: Register, _ source: Register = .r0, offset: Int16 = 0, immediate: Int32 = 0) {
        instructions.append(
            code | target.rawValue << 8 | source.rawValue << 12 | UInt64(UInt16(bitPattern: offset)) << 16 | UInt64(UInt32(bitPattern: immediate)) << 32)
    }

    private mutating func emitJump(_ code: UInt64, _ left: Register, _ right: Register, _ immediate: Int32, _ label: Label) {
        jumps.append((instructions.count, label.index))
        emit(code, left, right, immediate: immediate)
    }
}
