// Loads and stores of big-endian ("network order", RFC 1700) numbers at any alignment. The caller has checked that the bytes are there.

extension UnsafeRawPointer {
    @inlinable @inline(__always)
    func byte(_ offset: Int) -> UInt8 { load(fromByteOffset: offset, as: UInt8.self) }

    @inlinable @inline(__always)
    func bigEndian16(_ offset: Int) -> UInt16 { UInt16(bigEndian: loadUnaligned(fromByteOffset: offset, as: UInt16.self)) }

    @inlinable @inline(__always)
    func bigEndian32(_ offset: Int) -> UInt32 { UInt32(bigEndian: loadUnaligned(fromByteOffset: offset, as: UInt32.self)) }

    @inlinable @inline(__always)
    func bigEndian64(_ offset: Int) -> UInt64 { UInt64(bigEndian: loadUnaligned(fromByteOffset: offset, as: UInt64.self)) }

    /// As it lies in memory, without a change of byte order.
    @inlinable @inline(__always)
    func raw16(_ offset: Int) -> UInt16 { loadUnaligned(fromByteOffset: offset, as: UInt16.self) }

    @inlinable @inline(__always)
    func raw32(_ offset: Int) -> UInt32 { loadUnaligned(fromByteOffset: offset, as: UInt32.self) }

    @inlinable @inline(__always)
    func raw64(_ offset: Int) -> UInt64 { loadUnaligned(fromByteOffset: offset, as: UInt64.self) }
}

extension UnsafeMutableRawPointer {
    /// Stores `value` as it is in the register, at any alignment.
    @inlinable @inline(__always)
    func storeRaw<Value: FixedWidthInteger & BitwiseCopyable>(_ value: Value, at offset: Int) {
        storeBytes(of: value, toByteOffset: offset, as: Value.self)
    }
}
