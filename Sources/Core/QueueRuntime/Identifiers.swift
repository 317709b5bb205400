/// Names a queue: a socket, a log, an in-memory queue. Positive, 31 bits: the slot in the low 20, a generation above, so that a closed
/// descriptor does not name the next queue in its slot. A slot's descriptors repeat after 2,047 uses, and slots are used in turn.
@frozen
public struct QueueDescriptor: RawRepresentable, Hashable, Sendable, CustomStringConvertible {
    public let rawValue: Int32

    @inlinable
    public init(rawValue: Int32) {
        self.rawValue = rawValue
    }

    @inlinable
    init(slot: UInt32, generation: UInt32) {
        rawValue = Int32(truncatingIfNeeded: generation << QueueDescriptor.slotBits | slot)
    }

    @usableFromInline static let slotBits: UInt32 = 20
    /// Generations run from 1 to 2047, so that no descriptor is 0.
    @usableFromInline static let maximumGeneration: UInt32 = 2047

    /// A small number, below `Limits.maximumQueues`, that no other open queue has: an index for the program's own table of connections.
    @inlinable
    public var slot: Int { Int(rawValue) & (1 << 20 - 1) }

    @inlinable
    var generation: UInt32 { UInt32(bitPattern: rawValue) >> QueueDescriptor.slotBits }

    public var description: String { "qd \(rawValue)" }
}

/// Names one pending or completed operation until it is redeemed: the slot in the low 20 bits, a 44-bit generation above.
@frozen
public struct QueueToken: RawRepresentable, Hashable, Sendable, CustomStringConvertible {
    public let rawValue: UInt64

    @inlinable
    public init(rawValue: UInt64) {
        self.rawValue = rawValue
    }

    @inlinable
    init(slot: UInt32, generation: UInt64) {
        rawValue = generation << QueueToken.slotBits | UInt64(slot)
    }

    @usableFromInline static let slotBits: UInt64 = 20
    @usableFromInline static let slotMask: UInt64 = 1 << 20 - 1

    public var description: String { "token \(rawValue)" }
}
