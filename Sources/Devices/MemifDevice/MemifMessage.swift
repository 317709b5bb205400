/// One message of the control channel: 128 bytes, packed and little-endian.
struct MemifMessage {
    enum Kind: UInt16 {
        case acknowledge = 1, hello, initialize, addRegion, addRing, connect, connected, disconnect
    }

    static let byteCount = 128
    private(set) var bytes = [UInt8](repeating: 0, count: MemifMessage.byteCount)

    init(_ kind: Kind) {
        put(kind.rawValue, at: 0)
    }

    /// A message that was received; nil for one of another length.
    init?(_ received: UnsafeRawBufferPointer) {
        guard received.count == MemifMessage.byteCount else { return nil }
        bytes = Array(received)
    }

    /// Nil for a number that is no kind of message.
    var kind: Kind? { Kind(rawValue: value(at: 0)) }

    func value<Value: FixedWidthInteger>(at offset: Int, as type: Value.Type = Value.self) -> Value {
        Value(littleEndian: bytes.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: offset, as: type) })
    }

    mutating func put(_ value: some FixedWidthInteger, at offset: Int) {
        let value = value.littleEndian
        bytes.withUnsafeMutableBytes { $0.storeBytes(of: value, toByteOffset: offset, as: type(of: value)) }
    }

    /// Text, cut to `capacity` and filled up with zeroes.
    mutating func put(_ text: [UInt8], at offset: Int, capacity: Int) {
        for (index, byte) in text.prefix(capacity).enumerated() { bytes[offset + index] = byte }
    }

    func bytes(at offset: Int, count: Int) -> ArraySlice<UInt8> { bytes[offset..<offset + count] }
}

// The payloads, by their places behind the kind.
extension MemifMessage {
    static func hello(name: [UInt8]) -> MemifMessage {
        var message = MemifMessage(.hello)
        message.put(name, at: 2, capacity: Memif.nameByteCount - 1)
        message.put(Memif.version, at: 34)
        message.put(Memif.version, at: 36)
        message.put(UInt16(Memif.maximumRegions - 1), at: 38)
        // The highest index of a ring in either direction: there is one.
        message.put(UInt16(0), at: 40)
        message.put(UInt16(0), at: 42)
        message.put(UInt8(Memif.maximumRingSizeLog2), at: 44)
        return message
    }

    /// Of a hello.
    var versions: ClosedRange<UInt16>? {
        let (least, most): (UInt16, UInt16) = (value(at: 34), value(at: 36))
        return least <= most ? least...most : nil
    }
    var maximumRingSizeLog2: UInt8 { value(at: 44) }

    static func initialize(identifier: UInt32, secret: [UInt8], name: [UInt8]) -> MemifMessage {
        var message = MemifMessage(.initialize)
        message.put(Memif.version, at: 2)
        message.put(identifier, at: 4)
        // Mode 0: Ethernet.
        message.put(UInt8(0), at: 8)
        message.put(secret, at: 9, capacity: Memif.secretByteCount)
        message.put(name, at: 33, capacity: Memif.nameByteCount - 1)
        return message
    }

    /// Of an initialize.
    var version: UInt16 { value(at: 2) }
    var identifier: UInt32 { value(at: 4) }
    var mode: UInt8 { value(at: 8) }
    var secret: ArraySlice<UInt8> { bytes(at: 9, count: Memif.secretByteCount) }

    static func addRegion(index: UInt16, byteCount: UInt64) -> MemifMessage {
        var message = MemifMessage(.addRegion)
        message.put(index, at: 2)
        message.put(byteCount, at: 4)
        return message
    }

    /// Of a region or a ring.
    var regionIndex: UInt16 { value(at: 2) }
    var regionByteCount: UInt64 { value(at: 4) }

    static func addRing(isToServer: Bool, region: UInt16, offset: UInt32, sizeLog2: UInt8) -> MemifMessage {
        var message = MemifMessage(.addRing)
        message.put(UInt16(isToServer ? 1 : 0), at: 2)
        message.put(UInt16(0), at: 4)
        message.put(region, at: 6)
        message.put(offset, at: 8)
        message.put(sizeLog2, at: 12)
        message.put(UInt16(0), at: 13)
        return message
    }

    /// Of a ring.
    var isToServer: Bool { value(at: 2, as: UInt16.self) & 1 != 0 }
    var ringIndex: UInt16 { value(at: 4) }
    var ringRegion: UInt16 { value(at: 6) }
    var ringOffset: UInt32 { value(at: 8) }
    var ringSizeLog2: UInt8 { value(at: 12) }

    static func named(_ kind: Kind, _ name: [UInt8]) -> MemifMessage {
        var message = MemifMessage(kind)
        message.put(name, at: 2, capacity: Memif.nameByteCount - 1)
        return message
    }

    static func disconnect(_ reason: StaticString) -> MemifMessage {
        var message = MemifMessage(.disconnect)
        message.put(Array(UnsafeBufferPointer(start: reason.utf8Start, count: reason.utf8CodeUnitCount)), at: 6, capacity: 95)
        return message
    }
}
