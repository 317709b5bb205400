import DatapathMemory
import Glibc
import QueueRuntime

/// Addresses in the form of C.
extension SocketAddress {
    /// Reads a `sockaddr_in`, `sockaddr_in6` or `sockaddr_un` of `size` bytes.
    /// - Returns: nil for an address that is too short or no path, with `EINVAL`, and of another family, with `EAFNOSUPPORT`; as `init(path:)`.
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
        case AF_UNIX:
            return readPath(raw, Int(size))
        default:
            return (nil, EAFNOSUPPORT, "an address is of AF_INET, AF_INET6 or AF_UNIX")
        }
    }

    /// Where the path begins in a `sockaddr_un`, and how much room it has (unix(7)).
    private static let pathOffset = 2, pathRoom = 108

    /// A path ends with the address, or at a NUL before.
    @inline(never)
    private static func readPath(_ raw: UnsafeRawPointer, _ size: Int) -> (SocketAddress?, Int32, StaticString) {
        let bytes = UnsafeRawBufferPointer(start: raw + pathOffset, count: min(size - pathOffset, pathRoom)).prefix { $0 != 0 }
        guard !bytes.isEmpty else { return (nil, EINVAL, "a path has at least one character: abstract and unnamed addresses are not found by others") }
        guard let path = String(validating: bytes, as: UTF8.self) else { return (nil, EINVAL, "a path is text in UTF-8") }
        do throws(DemikernelError) {
            return (try SocketAddress(path: path), 0, "")
        } catch {
            return (nil, error.errno, error.message)
        }
    }

    private static let tooShort: StaticString = "the address is shorter than one of its family"

    /// The 16 bytes that `sockaddr_in` has, as they lie in memory; of an IPv6 address family and port, of a path the family.
    @inline(__always)
    var shortForm: (UInt64, UInt64) {
        if self.family == .path { return (UInt64(AF_UNIX), 0) }
        let family = self.family == .ipv4 ? UInt64(AF_INET) : UInt64(AF_INET6)
        let address = self.family == .ipv4 ? bytes.0 << 32 : 0
        return (family | UInt64(port.bigEndian) << 16 | address, 0)
    }

    /// Writes a `sockaddr_in`, `sockaddr_in6` or `sockaddr_un`, and its size to `size`, which says what room there is.
    /// - Returns: false, and nothing is written, where it does not fit.
    func write(to address: UnsafeMutablePointer<sockaddr>, _ size: UnsafeMutablePointer<socklen_t>) -> Bool {
        let raw = UnsafeMutableRawPointer(address)
        let room = UnsafeMutableRawPointer(size)
        if family == .path { return write(path: path ?? "", to: raw, room) }
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

    /// A path with the NUL behind it, which belongs to the size; the unnamed address is its family alone (unix(7)).
    private func write(path: String, to raw: UnsafeMutableRawPointer, _ room: UnsafeMutableRawPointer) -> Bool {
        let needed = SocketAddress.pathOffset + (path.isEmpty ? 0 : path.utf8.count + 1)
        guard Int(room.loadUnaligned(as: socklen_t.self)) >= needed else { return false }
        room.storeBytes(of: socklen_t(needed), as: socklen_t.self)
        raw.storeBytes(of: sa_family_t(AF_UNIX), as: sa_family_t.self)
        if path.isEmpty { return true }
        path.withCString { (raw + SocketAddress.pathOffset).copyMemory(from: $0, byteCount: path.utf8.count + 1) }
        return true
    }
}
