import CDatapath
import DatapathMemory
import Glibc

/// A file of memory that two processes map: sealed against shrinking, so that no access to it can meet a missing page (SIGBUS).
///
/// A plain handle on a descriptor and a size; `close` gives the descriptor back, and mappings outlive it.
public struct SealedMemory {
    public let file: Int32
    public let byteCount: Int

    /// A new file of zeroes, sealed against every change of its size.
    /// - Throws: `EMFILE`, `ENOMEM`.
    public init(name: StaticString, byteCount: Int) throws(DemikernelError) {
        let file = demi_memory_file(UnsafeRawPointer(name.utf8Start).assumingMemoryBound(to: CChar.self))
        guard file >= 0 else {
            throw DemikernelError(errno, .initialize, "no file of memory can be made: raise the limit of descriptors with ulimit -n")
        }
        guard ftruncate(file, byteCount) == 0, demi_add_seals(file, Int32(DEMI_SEAL_SHRINK | DEMI_SEAL_GROW | DEMI_SEAL_SEAL)) == 0 else {
            let error = errno
            Glibc.close(file)
            throw DemikernelError(error, .initialize, "a file of memory cannot be sized and sealed")
        }
        self.file = file
        self.byteCount = byteCount
    }

    /// A file that a peer has sent, which is checked before it is mapped. The caller keeps the descriptor when this throws.
    /// - Parameter byteCount: the size that it must have at least.
    /// - Throws: `EPROTO` when it is no file of memory, is not sealed against shrinking, cannot be written, or is smaller.
    public init(received file: Int32, byteCount: Int) throws(DemikernelError) {
        let seals = demi_seals(file)
        guard seals >= 0, seals & Int32(DEMI_SEAL_SHRINK) != 0 else {
            throw DemikernelError(EPROTO, .initialize, "the peer's memory is not sealed against shrinking")
        }
        var status = stat()
        guard fstat(file, &status) == 0, status.st_size >= byteCount else {
            throw DemikernelError(EPROTO, .initialize, "the peer's memory is smaller than it says")
        }
        self.file = file
        self.byteCount = byteCount
    }

    /// Maps the whole file for reading and writing; `munmap` ends the mapping.
    /// - Throws: `ENOMEM`; `EPROTO` when the file forbids writing.
    public func map() throws(DemikernelError) -> UnsafeMutableRawPointer {
        let mapping = mmap(nil, byteCount, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0)
        guard let mapping, mapping != MAP_FAILED else { throw SealedMemory.unmapped(errno) }
        return mapping
    }

    /// Maps parts of the file one behind the other into one reserved range.
    /// - Parameter parts: offset and size of each, multiples of the page size.
    /// - Throws: as `map()`.
    public func map(parts: [(offset: Int, byteCount: Int)]) throws(DemikernelError) -> UnsafeMutableRawPointer {
        let total = parts.reduce(0) { $0 + $1.byteCount }
        let reserved = mmap(nil, total, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | Int32(MAP_NORESERVE), -1, 0)
        guard let reserved, reserved != MAP_FAILED else { throw SealedMemory.unmapped(errno) }
        var place = reserved
        for part in parts {
            let mapping = mmap(place, part.byteCount, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, file, part.offset)
            guard mapping == place else {
                let error = errno
                munmap(reserved, total)
                throw SealedMemory.unmapped(error)
            }
            place += part.byteCount
        }
        return reserved
    }

    private static func unmapped(_ error: Int32) -> DemikernelError {
        error == ENOMEM
            ? DemikernelError(ENOMEM, .initialize, "shared memory cannot be mapped: close connections, or raise vm.max_map_count")
            : DemikernelError(EPROTO, .initialize, "the shared memory cannot be mapped for writing")
    }

    public func close() {
        Glibc.close(file)
    }
}
