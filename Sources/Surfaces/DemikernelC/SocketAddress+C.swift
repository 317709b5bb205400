import Glibc
import QueueRuntime

/// Addresses in the form of C.
extension SocketAddress {
    /// Reads a `sockaddr_in` or `sockaddr_in6` of `size` bytes.
    /// - Returns: nil for an address that is too short, with `EINVAL`, and of another family, with `EAFNOSUPPORT`.
    static func read(_ address: UnsafePointer<sockaddr>?, _ size: socklen_t) -> (SocketAddress?, Int32, StaticString) {
        guard let address else { return (nil, EINVAL, CurrentRuntime.nullPointer) }
        let raw = UnsafeRawPointer(address)
        guard size >= 2 else { return (nil, EINVAL, tooShort) }
        switch Int32(raw.loadUnaligned(as: sa_family_t.self)) {
        case AF_INET:
            guard size >= MemoryLayout<sockaddr_in>.size else { return (nil, EINVAL, tooShort) }
            let port = UInt16(bigEndian: raw.loadUnaligned(fromByteOffset: 2, as: UInt16.self))
            return (SocketAddress(family: .ipv4, bytes: (UInt64(raw.loadUnaligned(fromByteOffset: 4, as: UInt32.self)), 0), port: port), 0, "")
        case AF_INET6:
            guard size >= MemoryLayout<sockaddr_in6>.size else { return (nil, EINVAL, tooShort) }
            let port = UInt16(bigEndian: raw.loadUnaligned(fromByteOffset: 2, as: UInt16.self))
            let words = (raw.loadUnaligned(fromByteOffset: 8, as: UInt64.self), raw.loadUnaligned(fromByteOffset: 16, as: UInt64.self))
            return (SocketAddress(family: .ipv6, bytes: words, port: port, scope: raw.loadUnaligned(fromByteOffset: 24, as: UInt32.self)), 0, "")
        default:
            return (nil, EAFNOSUPPORT, "an address is of AF_INET or AF_INET6")
        }
    }

    private static let tooShort: StaticString = "the address is shorter than one of its family"

    /// The 16 bytes that `sockaddr_in` has, as they lie in memory; of an IPv6 address family and port.
    @inline(__always)
    var shortForm: (UInt64, UInt64) {
        let family = self.family == .ipv4 ? UInt64(AF_INET) : UInt64(AF_INET6)
        let address = self.family == .ipv4 ? bytes.0 << 32 : 0
        return (family | UInt64(port.bigEndian) << 16 | address, 0)
    }

    /// Writes a `sockaddr_in` or `sockaddr_in6`, and its size to `size`, which says what room there is.
    /// - Returns: false, and nothing is written, where it does not fit.
    func write(to address: UnsafeMutablePointer<sockaddr>, _ size: UnsafeMutablePointer<socklen_t>) -> Bool {
        let raw = UnsafeMutableRawPointer(address)
        let room = UnsafeMutableRawPointer(size)
        let needed = socklen_t(family == .ipv4 ? MemoryLayout<sockaddr_in>.size : MemoryLayout<sockaddr_in6>.size)
        guard room.loadUnaligned(as: socklen_t.self) >= needed else { return false }
        room.storeBytes(of: needed, as: socklen_t.self)
        if family == .ipv4 {
            raw.storeBytes(of: shortForm.0, as: UInt64.self)
            raw.storeBytes(of: shortForm.1, toByteOffset: 8, as: UInt64.self)
        } else {
            // The flow label, which has no place here, is 0.
            raw.storeBytes(of: shortForm.0, as: UInt64.self)
            raw.storeBytes(of: bytes.0, toByteOffset: 8, as: UInt64.self)
            raw.storeBytes(of: bytes.1, toByteOffset: 16, as: UInt64.self)
            raw.storeBytes(of: scope, toByteOffset: 24, as: UInt32.self)
        }
        return true
    }
}
