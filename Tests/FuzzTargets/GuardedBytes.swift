import Glibc

/// Calls `body` with a copy of `bytes` that ends where its memory does: one byte read too far is a fault.
func withGuardedBytes<Result>(
    _ bytes: UnsafeRawBufferPointer, _ body: (UnsafeRawPointer) throws(FuzzFailure) -> Result
) throws(FuzzFailure) -> Result {
    let pageByteCount = 4_096
    let usable = (bytes.count + pageByteCount - 1) / pageByteCount * pageByteCount
    guard let mapping = mmap(nil, usable + pageByteCount, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), mapping != MAP_FAILED else {
        fatalError("no memory for the input")
    }
    defer { munmap(mapping, usable + pageByteCount) }
    precondition(mprotect(mapping + usable, pageByteCount, PROT_NONE) == 0, "the guard page cannot be protected")
    let start = mapping + usable - bytes.count
    if let source = bytes.baseAddress { start.copyMemory(from: source, byteCount: bytes.count) }
    return try body(start)
}

/// The bytes as numbers that are read one by one, for references that look at nothing else.
extension UnsafeRawBufferPointer {
    func number16(_ offset: Int) -> UInt16 { UInt16(self[offset]) << 8 | UInt16(self[offset + 1]) }

    func number32(_ offset: Int) -> UInt32 { UInt32(number16(offset)) << 16 | UInt32(number16(offset + 2)) }

    func number48(_ offset: Int) -> UInt64 { UInt64(number16(offset)) << 32 | UInt64(number32(offset + 2)) }

    func part(_ range: Range<Int>) -> UnsafeRawBufferPointer { UnsafeRawBufferPointer(rebasing: self[range]) }
}

/// The sum of RFC 1071, word by word in host order, folded; with a checksum that is right it is 0xffff.
func referenceSum(_ parts: UnsafeRawBufferPointer..., adding extra: UInt32 = 0) -> UInt16 {
    var sum = UInt64(extra)
    for part in parts {
        var offset = 0
        while offset + 1 < part.count {
            sum += UInt64(part.number16(offset))
            offset += 2
        }
        if offset < part.count { sum += UInt64(part[offset]) << 8 }
    }
    while sum > 0xffff { sum = (sum & 0xffff) + sum >> 16 }
    return UInt16(sum)
}
