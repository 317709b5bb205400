/// An Address Resolution Protocol packet for IPv4 over Ethernet (RFC 826), by value.
@frozen
public struct ARPPacket: Hashable, Sendable {
    /// 1 asks, 2 answers; any other number is kept as received.
    public var operation: UInt16
    public var senderHardware: MACAddress
    public var senderProtocol: IPAddress
    public var targetHardware: MACAddress
    public var targetProtocol: IPAddress

    @inlinable @inline(__always) public static var byteCount: Int { 28 }
    @inlinable @inline(__always) public static var request: UInt16 { 1 }
    @inlinable @inline(__always) public static var reply: UInt16 { 2 }

    @inlinable
    public init(
        operation: UInt16, senderHardware: MACAddress, senderProtocol: IPAddress, targetHardware: MACAddress, targetProtocol: IPAddress
    ) {
        self.operation = operation
        self.senderHardware = senderHardware
        self.senderProtocol = senderProtocol
        self.targetHardware = targetHardware
        self.targetProtocol = targetProtocol
    }

    /// Nil for fewer than 28 bytes, and for another hardware, another protocol or other address sizes. Bytes behind the packet are ignored: a short
    /// frame is padded.
    @inlinable
    public init?(parsing bytes: UnsafeRawPointer, count: Int) {
        //= RFC 826 section Packet Reception
        //# ?Do I have the hardware type in ar$hrd? Yes: [optionally check the hardware length ar$hln] ?Do I speak the protocol in ar$pro? Yes: [optionally
        //# check the protocol length ar$pln]
        // Hardware type 1, protocol 0x0800, six bytes of hardware address, four of protocol address: what RFC 826, "Packet Reception", asks first.
        guard count >= 28, bytes.bigEndian64(0) &>> 16 == 0x0001_0800_0604 else { return nil }
        operation = bytes.bigEndian16(6)
        senderHardware = MACAddress(value: bytes.bigEndian64(6))
        senderProtocol = IPAddress(ipv4Raw: bytes.raw32(14))
        targetHardware = MACAddress(value: bytes.bigEndian64(16))
        targetProtocol = IPAddress(ipv4Raw: bytes.raw32(24))
    }

    /// Writes 28 bytes to `target`. The protocol addresses must be IPv4.
    @inlinable
    public func write(to target: UnsafeMutableRawPointer) {
        target.storeRaw((0x0001_0800_0604_0000 | UInt64(operation)).bigEndian, at: 0)
        senderHardware.store(to: target + 8)
        target.storeRaw(senderProtocol.ipv4Raw, at: 14)
        targetHardware.store(to: target + 18)
        target.storeRaw(targetProtocol.ipv4Raw, at: 24)
    }
}
