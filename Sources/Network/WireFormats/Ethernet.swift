/// The header of an Ethernet II frame, for writing.
public enum EthernetHeader {
    /// Bytes of an untagged header.
    @inlinable @inline(__always)
    public static var byteCount: Int { 14 }

    /// Writes an untagged header of 14 bytes to `target`; `etherType` in host order.
    @inlinable @inline(__always)
    public static func write(to target: UnsafeMutableRawPointer, destination: MACAddress, source: MACAddress, etherType: UInt16) {
        // Bytes 6 and 7 lie in both stores, with the same content.
        target.storeRaw((destination.value &<< 16 | source.value &>> 32).bigEndian, at: 0)
        target.storeRaw((source.value &<< 16 | UInt64(etherType)).bigEndian, at: 6)
    }
}

/// A received Ethernet frame whose header, with one 802.1Q tag at most, is known to be there. The view borrows the bytes.
@frozen
public struct EthernetView {
    public let base: UnsafeRawPointer
    /// Bytes of the frame.
    public let count: Int
    /// Where the payload begins: 14, or 18 behind a tag.
    public let payloadOffset: Int
    /// The payload's type in host order, the inner one where there is a tag. A second tag is not parsed: its own type is then returned.
    public let etherType: UInt16

    /// Nil for a frame that ends within its header.
    @inlinable @inline(__always)
    public init?(_ bytes: UnsafeRawPointer, count: Int) {
        guard count >= 14 else { return nil }
        base = bytes
        self.count = count
        let outer = bytes.bigEndian16(12)
        guard outer == EtherType.vlan else {
            etherType = outer
            payloadOffset = 14
            return
        }
        guard count >= 18 else { return nil }
        etherType = bytes.bigEndian16(16)
        payloadOffset = 18
    }

    @inlinable @inline(__always)
    public var destination: MACAddress { MACAddress(value: base.bigEndian64(0) &>> 16) }

    @inlinable @inline(__always)
    public var source: MACAddress { MACAddress(value: base.bigEndian64(4)) }

    /// The identifier of the 802.1Q tag, 0 to 4095, where there is one. 0 marks a frame that has a priority and belongs to no VLAN.
    @inlinable @inline(__always)
    public var vlanIdentifier: UInt16? { payloadOffset == 18 ? base.bigEndian16(14) & 0x0fff : nil }

    @inlinable @inline(__always)
    public var payload: UnsafeRawPointer { base + payloadOffset }

    /// Bytes behind the header, with what the sender padded.
    @inlinable @inline(__always)
    public var payloadByteCount: Int { count &- payloadOffset }
}
