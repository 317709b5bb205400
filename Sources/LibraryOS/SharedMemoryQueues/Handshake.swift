import DatapathMemory
import Glibc
import SharedMemory

/// The client's first message, with the memory's descriptor. In the machine's own byte order, because both ends run on one machine.
struct Hello {
    var magic = Hello.magic
    var version = Hello.version
    var ringByteCount: UInt32
    var maximumUnitSize: UInt32

    /// "DEMIMEM" and a zero.
    static let magic: UInt64 = 0x004d_454d_494d_4544
    static let version: UInt32 = 1

    init(ringByteCount: Int, maximumUnitSize: Int) {
        self.ringByteCount = UInt32(clamping: ringByteCount)
        self.maximumUnitSize = UInt32(clamping: maximumUnitSize)
    }
}

/// The server's answer: the connection stands, or an errno.
struct Answer {
    var magic = Hello.magic
    var version = Hello.version
    var error: Int32
    /// The largest unit in either direction: what both sides take, and the rings hold.
    var maximumUnitSize: UInt32
    /// The largest ring that the server takes, for the client's message.
    var maximumRingByteCount: UInt32

    init(error: Int32, maximumUnitSize: Int, maximumRingByteCount: Int) {
        self.error = error
        self.maximumUnitSize = UInt32(clamping: maximumUnitSize)
        self.maximumRingByteCount = UInt32(clamping: maximumRingByteCount)
    }
}

/// What the server makes of a client's first message.
enum HelloOutcome {
    case agreed(SharedConnection)
    /// The client is told, and dropped.
    case refused(errno: Int32)
    /// Nothing that a client of this protocol says.
    case malformed
}

enum Handshake {
    /// Checks a client's message and maps its memory; all descriptors are closed afterwards. Everything in it may be a lie.
    static func judge(_ bytes: UnsafeRawBufferPointer, _ descriptors: [Int32], limits: HandshakeLimits) -> HelloOutcome {
        defer { for descriptor in descriptors { close(descriptor) } }
        guard bytes.count == MemoryLayout<Hello>.size, descriptors.count == 1 else { return .malformed }
        let hello = bytes.loadUnaligned(as: Hello.self)
        guard hello.magic == Hello.magic else { return .malformed }
        guard hello.version == Hello.version else { return .refused(errno: EPROTONOSUPPORT) }
        let ringByteCount = Int(hello.ringByteCount)
        guard ringByteCount.nonzeroBitCount == 1, ringByteCount >= HandshakeLimits.leastRingByteCount else { return .malformed }
        guard ringByteCount <= limits.ringByteCount else { return .refused(errno: EMSGSIZE) }
        let maximumUnitSize = min(Int(hello.maximumUnitSize), limits.maximumUnitSize, RingLayout.largestUnit(ringByteCount: ringByteCount))
        do throws(DemikernelError) {
            let memory = try SealedMemory(received: descriptors[0], byteCount: RingLayout.totalByteCount(ringByteCount: ringByteCount))
            return .agreed(try SharedConnection(memory, ringByteCount: ringByteCount, maximumUnitSize: maximumUnitSize, isClient: false))
        } catch {
            return error.errno == EPROTO ? .malformed : .refused(errno: error.errno)
        }
    }

    /// The limit of a server's answer; nil with the errno when there is no connection.
    static func read(_ bytes: UnsafeRawBufferPointer, _ descriptors: [Int32], ringByteCount: Int) -> (maximumUnitSize: Int, errno: Int32) {
        for descriptor in descriptors { close(descriptor) }
        guard bytes.count == MemoryLayout<Answer>.size else { return (0, EPROTO) }
        let answer = bytes.loadUnaligned(as: Answer.self)
        guard answer.magic == Hello.magic, answer.error >= 0 else { return (0, EPROTO) }
        guard answer.error == 0 else { return (0, answer.error) }
        guard answer.version == Hello.version, Int(answer.maximumUnitSize) <= RingLayout.largestUnit(ringByteCount: ringByteCount) else { return (0, EPROTO) }
        return (Int(answer.maximumUnitSize), 0)
    }

    static func message(_ error: Int32) -> StaticString {
        switch error {
        case EMSGSIZE: "the server takes smaller rings only: lower Limits.sharedRingByteCount, or raise it at the server"
        case EPROTONOSUPPORT: "the server speaks another version of the protocol: use the same version at both ends"
        case EPROTO: "what listens at this path does not speak the protocol of catmem"
        case ECONNRESET: "the server ended before it answered: start it again"
        case ETIMEDOUT: "the server did not answer within Limits.handshakeTimeout: is it stopped, or busy?"
        case ENOMEM: "the server has no room for the mapping"
        default: ""
        }
    }
}

/// What a server allows a client.
struct HandshakeLimits {
    let ringByteCount: Int
    let maximumUnitSize: Int

    static let leastRingByteCount = 1 << 16
}
