import CLinuxDevices
import DatapathMemory
import Glibc

/// An AF_XDP socket on one receive queue of an interface, with its four rings (Documentation/networking/af_xdp.rst).
struct XDPSocket {
    let descriptor: Int32
    var receive: XDPRing
    var transmit: XDPRing
    var fill: XDPRing
    var completion: XDPRing
    /// Whether what stands in front of a frame may tell the kernel what to do with it.
    private var hasMetadata = false

    /// The memory that all sockets of a device share: one region, registered with the first of them.
    struct Memory {
        let base: UnsafeMutableRawPointer
        let byteCount: Int
        let chunkByteCount: Int
        /// Whether the kernel is to look in front of frames for what it shall do with them. It then takes no descriptor that fills a chunk, nor, in zero
        /// copy, one at the beginning of a page.
        let hasMetadata: Bool
    }

    /// Entries of each ring; powers of two.
    struct Sizes {
        /// Of the fill ring and of the completion ring.
        var fill: Int
        var transmit: Int
        /// Twice the fill ring, so that nothing that was filled is without a place when it comes.
        var receive: Int { fill * 2 }
    }

    /// Which wishes the kernel has granted to a socket.
    struct Grant {
        var isZeroCopy = false
        var gathers = false
        /// It completes the checksums of frames, or has the device do so.
        var completesChecksums = false
    }

    static func make() throws(DemikernelError) -> Int32 {
        let descriptor = socket(AF_XDP, Int32(SOCK_RAW.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else {
            throw DemikernelError(
                errno, .initialize,
                errno == EAFNOSUPPORT
                    ? "the kernel was built without AF_XDP (CONFIG_XDP_SOCKETS): use tap instead of xdp"
                    : "AF_XDP needs root (CAP_NET_RAW, CAP_NET_ADMIN and CAP_BPF): run it with sudo, or use tap")
        }
        return descriptor
    }

    /// Registers the memory (first socket), makes the rings and maps them. The descriptor stays the caller's when this throws.
    init(_ descriptor: Int32, memory: Memory?, sizes: Sizes) throws(DemikernelError) {
        if let memory {
            var region = linux_xdp_memory()
            region.address = UInt64(UInt(bitPattern: memory.base))
            region.byte_count = UInt64(memory.byteCount)
            region.chunk_byte_count = UInt32(memory.chunkByteCount)
            region.flags = UInt32(XDP_UMEM_UNALIGNED_CHUNK_FLAG)
            let length = socklen_t(MemoryLayout<linux_xdp_memory>.size)
            var result: Int32 = -1
            if memory.hasMetadata {
                region.flags |= UInt32(linux_xdp_umem_has_metadata)
                region.metadata_byte_count = UInt32(XDPState.metadataByteCount)
                result = setsockopt(descriptor, SOL_XDP, XDP_UMEM_REG, &region, length)
                hasMetadata = result == 0
            }
            if !memory.hasMetadata || result != 0 && errno == EINVAL {
                // Before Linux 6.11 there is no metadata.
                region.flags = UInt32(XDP_UMEM_UNALIGNED_CHUNK_FLAG)
                region.metadata_byte_count = 0
                result = setsockopt(descriptor, SOL_XDP, XDP_UMEM_REG, &region, length)
            }
            guard result == 0 else { throw DemikernelError(errno, .initialize, XDPSocket.memoryMessage(errno)) }
        }
        for (option, entries) in [
            (XDP_UMEM_FILL_RING, sizes.fill), (XDP_UMEM_COMPLETION_RING, sizes.transmit), (XDP_RX_RING, sizes.receive), (XDP_TX_RING, sizes.transmit),
        ] {
            var count = Int32(entries)
            guard setsockopt(descriptor, SOL_XDP, option, &count, 4) == 0 else {
                throw DemikernelError(errno, .initialize, "the rings of the AF_XDP socket cannot be made")
            }
        }
        var offsets = xdp_mmap_offsets()
        var length = socklen_t(MemoryLayout<xdp_mmap_offsets>.size)
        guard getsockopt(descriptor, SOL_XDP, XDP_MMAP_OFFSETS, &offsets, &length) == 0, length == MemoryLayout<xdp_mmap_offsets>.size else {
            throw DemikernelError(ENOPROTOOPT, .initialize, "the kernel is too old for AF_XDP with wake-ups: Linux 5.9 or newer is needed")
        }
        let receive = try XDPRing(descriptor, page: Int64(XDP_PGOFF_RX_RING), offsets: offsets.rx, entries: sizes.receive, entryByteCount: 16)
        var mapped = [receive]
        do throws(DemikernelError) {
            mapped.append(try XDPRing(descriptor, page: Int64(XDP_PGOFF_TX_RING), offsets: offsets.tx, entries: sizes.transmit, entryByteCount: 16))
            mapped.append(try XDPRing(descriptor, page: Int64(XDP_UMEM_PGOFF_FILL_RING), offsets: offsets.fr, entries: sizes.fill, entryByteCount: 8))
            mapped.append(
                try XDPRing(descriptor, page: Int64(XDP_UMEM_PGOFF_COMPLETION_RING), offsets: offsets.cr, entries: sizes.transmit, entryByteCount: 8))
        } catch {
            for ring in mapped { ring.unmap() }
            throw error
        }
        self.descriptor = descriptor
        self.receive = mapped[0]
        self.transmit = mapped[1]
        self.fill = mapped[2]
        self.completion = mapped[3]
    }

    func unmap() {
        for ring in [receive, transmit, fill, completion] { ring.unmap() }
    }

    /// Binds the first socket of a device. The kernel takes zero copy where the driver has it, and copies elsewhere: the grant says which.
    func bind(interface: Int, queue: Int) throws(DemikernelError) -> Grant {
        var grant = Grant(gathers: true)
        var result = bind(interface, queue, UInt16(XDP_USE_NEED_WAKEUP) | UInt16(linux_xdp_use_sg))
        if result == EINVAL || result == EOPNOTSUPP {
            // Before Linux 6.6, and in drivers whose zero copy takes one descriptor for a frame.
            grant.gathers = false
            result = bind(interface, queue, UInt16(XDP_USE_NEED_WAKEUP))
        }
        guard result == 0 else { throw DemikernelError(result, .initialize, XDPSocket.bindMessage(result)) }
        var options = xdp_options()
        var length = socklen_t(MemoryLayout<xdp_options>.size)
        if getsockopt(descriptor, SOL_XDP, XDP_OPTIONS, &options, &length) == 0 { grant.isZeroCopy = options.flags & UInt32(XDP_OPTIONS_ZEROCOPY) != 0 }
        // In zero copy it is for the driver to say what it can.
        grant.completesChecksums = hasMetadata && !grant.isZeroCopy
        return grant
    }

    /// Binds a further socket, which shares the memory of the first one and was granted what that was.
    func bind(interface: Int, queue: Int, sharingMemoryOf first: Int32) throws(DemikernelError) {
        let result = bind(interface, queue, UInt16(XDP_SHARED_UMEM), first)
        guard result == 0 else { throw DemikernelError(result, .initialize, XDPSocket.bindMessage(result)) }
    }

    private func bind(_ interface: Int, _ queue: Int, _ flags: UInt16, _ shared: Int32 = 0) -> Int32 {
        var address = sockaddr_xdp()
        address.sxdp_family = UInt16(AF_XDP)
        address.sxdp_flags = flags
        address.sxdp_ifindex = UInt32(interface)
        address.sxdp_queue_id = UInt32(queue)
        address.sxdp_shared_umem_fd = UInt32(bitPattern: shared)
        // The kernel frees a queue a moment after its socket was closed: a server that is started again finds it busy.
        for _ in 0..<XDPSocket.bindAttempts {
            let result = withUnsafePointer(to: &address) {
                $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { Glibc.bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_xdp>.size)) }
            }
            if result == 0 { return 0 }
            guard errno == EBUSY else { return errno }
            usleep(2_000)
        }
        return EBUSY
    }

    /// Half a second in all.
    private static let bindAttempts = 250

    /// Tells the kernel to send what is in the transmit ring; in copy mode it sends before this returns, a batch at most. Returns 0 or an errno.
    func wakeTransmitter() -> Int32 {
        sendto(descriptor, nil, 0, Int32(MSG_DONTWAIT), nil, 0) >= 0 ? 0 : errno
    }

    /// Tells the kernel that the fill ring has entries again.
    func wakeReceiver() { _ = recvfrom(descriptor, nil, 0, Int32(MSG_DONTWAIT), nil, nil) }

    /// The kernel's own counts.
    var statistics: xdp_statistics {
        var statistics = xdp_statistics()
        var length = socklen_t(MemoryLayout<xdp_statistics>.size)
        getsockopt(descriptor, SOL_XDP, XDP_STATISTICS, &statistics, &length)
        return statistics
    }

    private static func memoryMessage(_ code: Int32) -> StaticString {
        switch code {
        case ENOBUFS: "the buffers are more memory than this user may lock: raise `ulimit -l`, run it as root, or configure less memory"
        case ENOMEM: "the memory for buffers cannot be registered with the kernel: let it be committed at the start (commitsAtStart)"
        case EBUSY: "the AF_XDP socket has its memory already"
        default: "the kernel refused the memory for buffers"
        }
    }

    private static func bindMessage(_ code: Int32) -> StaticString {
        switch code {
        case EBUSY: "another process has an AF_XDP socket on this queue of the interface: stop it, or take another interface"
        case EINVAL: "the interface has no such receive queue"
        case ENODEV: "there is no such network interface here: `ip link` lists those of this network namespace"
        case ENETDOWN: "the interface is down: `ip link set dev NAME up`"
        default: "the AF_XDP socket cannot be bound to the interface"
        }
    }
}
