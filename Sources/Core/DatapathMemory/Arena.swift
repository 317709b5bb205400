import Glibc

/// One contiguous, superblock-aligned mapping, registered whole with every device.
struct Arena {
    let base: UnsafeMutableRawPointer
    let byteCount: Int
    let pages: PageKind
    /// What each device returned for this arena (rkey, UMEM offset, IOVA), indexed by device.
    var registrations: [UInt64] = []

    var superblockCount: Int { byteCount / SizeClass.superblockByteCount }

    init(byteCount: Int, commitsAtStart: Bool, usesHugePages: Bool) throws(DemikernelError) {
        // No more than a processor's address space, so that rounding up cannot overflow.
        guard byteCount <= 1 << 47 else { throw Arena.unmappable }
        let unit = usesHugePages ? 2 << 20 : SizeClass.superblockByteCount
        let size = (byteCount + unit - 1) / unit * unit
        let protection = PROT_READ | PROT_WRITE
        let flags = MAP_PRIVATE | MAP_ANONYMOUS
        if usesHugePages {
            let huge = mmap(nil, size, protection, flags | Int32(MAP_HUGETLB) | (commitsAtStart ? Int32(MAP_POPULATE) : 0), -1, 0)
            if let huge, huge != MAP_FAILED {
                self.init(base: huge, byteCount: size, pages: .huge)
                return
            }
        }
        // Reserve with slack, then give back what sticks out on both sides of the aligned part.
        let alignment = 2 << 20
        // What is committed at once is also asked for in earnest: the kernel refuses it if it cannot have that much, where it would end the
        // process later.
        let reservation = commitsAtStart ? 0 : Int32(MAP_NORESERVE)
        guard let raw = mmap(nil, size + alignment, protection, flags | reservation, -1, 0), raw != MAP_FAILED else { throw Arena.unmappable }
        let aligned = UnsafeMutableRawPointer(bitPattern: (UInt(bitPattern: raw) + UInt(alignment - 1)) & ~UInt(alignment - 1))!
        let before = aligned - raw
        if before > 0 { munmap(raw, before) }
        if alignment - before > 0 { munmap(aligned + size, alignment - before) }
        if commitsAtStart {
            _ = madvise(aligned, size, MADV_HUGEPAGE)
            if madvise(aligned, size, 23 /* MADV_POPULATE_WRITE, Linux 5.14: glibc 2.34 and older lack the name */) != 0 {
                for offset in stride(from: 0, to: size, by: 4096) { aligned.storeBytes(of: 0, toByteOffset: offset, as: UInt8.self) }
            }
        }
        self.init(base: aligned, byteCount: size, pages: .ordinary)
    }

    private static var unmappable: DemikernelError {
        DemikernelError(ENOMEM, .allocate, "the arena could not be mapped: configure a smaller one")
    }

    private init(base: UnsafeMutableRawPointer, byteCount: Int, pages: PageKind) {
        self.base = base
        self.byteCount = byteCount
        self.pages = pages
    }

    func contains(_ pointer: UnsafeRawPointer) -> Bool {
        UInt(bitPattern: pointer) &- UInt(bitPattern: base) < UInt(byteCount)
    }

    func unmap() {
        munmap(base, byteCount)
    }
}
