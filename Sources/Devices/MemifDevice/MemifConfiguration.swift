import Glibc

/// How one end of a memif link is made. Both ends need the same identifier and secret, and different roles.
public struct MemifConfiguration: Equatable, Sendable {
    public enum Role: String, Sendable, CaseIterable {
        /// Listens at the socket's path, and uses the memory that a client brings.
        case server
        /// Connects to the path, and makes the memory.
        case client
    }

    public var role: Role
    /// Which of the interfaces behind one socket.
    public var identifier: UInt32 = 0
    /// What both ends have to know, at most 24 bytes; empty for none.
    public var secret: [UInt8] = []
    /// The device's own address, 48 bits; nil: one that is locally administered, and always the same for a path, an identifier and a role.
    public var macAddress: UInt64?
    /// Bytes of the largest payload of a frame.
    public var maximumTransmissionUnit = 1_500
    /// The rings that a client makes have 2 to the power of this many descriptors.
    public var ringSizeLog2 = 10
    /// Bytes of each buffer that a client makes; a longer frame takes several.
    public var bufferByteCount = 2_048

    public init(role: Role) {
        self.role = role
    }

    /// What is wrong with it, with the mend; nil when nothing is.
    var mistake: StaticString? {
        guard secret.count <= Memif.secretByteCount else { return "a memif secret has at most 24 bytes" }
        guard (68...65_535).contains(maximumTransmissionUnit) else { return "the MTU of a memif device is 68 to 65535" }
        guard (1...Memif.maximumRingSizeLog2).contains(ringSizeLog2) else { return "a memif ring has 2 to 16384 descriptors: ringSizeLog2 is 1 to 14" }
        guard (64...65_536).contains(bufferByteCount), bufferByteCount % 64 == 0 else {
            return "a memif buffer has 64 to 65536 bytes, a multiple of 64"
        }
        let buffers = (maximumTransmissionUnit + 14 + bufferByteCount - 1) / bufferByteCount
        guard buffers <= 1 << ringSizeLog2 else { return "a frame of the MTU does not fit into the ring: raise bufferByteCount or ringSizeLog2" }
        return nil
    }
}

/// Counts of one memif device, beside those that every device has.
public struct MemifStatistics: Equatable, Sendable {
    /// Links that came up.
    public var linksUp: UInt64 = 0
    /// Links that ended because the peer said so, or its process ended.
    public var linksDown: UInt64 = 0
    /// Peers dropped in the handshake: a message, a size, a descriptor that cannot be; another version, identifier or secret.
    public var refusedPeers: UInt64 = 0
    /// Links ended because a head or tail jumped by more than the ring.
    public var brokenIndices: UInt64 = 0
    /// Links ended because a descriptor pointed outside of its region, or to none.
    public var brokenDescriptors: UInt64 = 0
    /// Wake-ups written for peers that sleep.
    public var wakeUpsSent: UInt64 = 0

    public init() {}
}

/// Numbers of the protocol, version 2.0.
enum Memif {
    static let version: UInt16 = 0x0200
    static let cookie: UInt32 = 0x3e3_1f20
    static let secretByteCount = 24
    static let nameByteCount = 32
    static let maximumRingSizeLog2 = 14
    /// Regions that a client may bring, and bytes of each.
    static let maximumRegions = 16
    static let maximumRegionByteCount: UInt64 = 1 << 32

    // A ring: the client's index is `head`, the server's `tail`.
    static let cookieOffset = 0
    static let flagsOffset = 4
    static let headOffset = 6
    static let tailOffset = 64
    static let descriptorsOffset = 128
    static let descriptorByteCount = 16
    /// In a ring's flags: the receiver polls, and need not be signalled.
    static let isPolling: UInt16 = 1
    /// In a descriptor's flags: the frame continues in the next one.
    static let isContinued: UInt16 = 1
}
