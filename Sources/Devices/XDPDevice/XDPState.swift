import CDatapath
import CLinuxDevices
import DatapathMemory
import EthernetDevice
import Glibc

/// The state of an AF_XDP device, at one address for its whole life.
///
/// The kernel names memory by its offset in the registered region. `held` counts, for each 64 bytes of it, what stands at that place in a ring: a
/// count on its block that the device has. So the kernel's answers are checked, and at the end everything is given back.
struct XDPState {
    let heap: DatapathHeap
    let memory: XDPSocket.Memory
    let sockets: UnsafeMutablePointer<XDPSocket>
    let socketCount: Int
    let held: UnsafeMutablePointer<UInt16>
    let maximumFrameByteCount: Int
    /// What is received at most. In the generic path frames come as the kernel has them: segments of a stream merged to up to 64 KiB.
    let maximumReceiveByteCount: Int
    let maximumTransmitSegments: Int
    let grant: XDPSocket.Grant
    let acceptsPartialChecksums: Bool
    let map: Int32
    let link: Int32?
    /// What the device sleeps on: the socket, or an epoll of several.
    let wakeDescriptor: Int32
    /// Frames that have to be copied leave from here: places of one chunk each, in one block of the region; a bit for each free one.
    let copyPlaces: UnsafeMutableRawPointer
    var freeCopyPlaces = UInt32.max
    /// Descriptors in the transmit and completion rings.
    var inFlight: UInt32 = 0
    /// Frames that may wait for those that follow, so that one call sends them all: as many as were received together, less the last one.
    var deferrable = 0
    /// The cycle counter when the first of the frames that wait was put into the ring; 0: none waits.
    var deferredSince: UInt64 = 0
    /// A frame that has waited for so many cycles, about 10 µs, goes with the next one at the latest.
    var deferralCycles: UInt64 = 1 << 15
    /// The interface was down when it was last told to send.
    var isDown = false
    var isAttached = false
    /// The socket that is asked first in the next turn, so that none starves.
    var nextSocket = 0
    var counts = DeviceStatistics()

    static let copyPlaceCount = 32
    static let transmitEntries = 1024
    /// The most descriptors of one frame that the kernel takes: the linear part and MAX_SKB_FRAGS - 1 more.
    static let maximumDescriptors = 16
    /// Frames that one system call sends at most in copy mode.
    static let kernelBatch = 32

    @inline(__always)
    static func at(_ context: UnsafeMutableRawPointer) -> UnsafeMutablePointer<XDPState> {
        context.assumingMemoryBound(to: XDPState.self)
    }
}

// MARK: - Set-up

extension XDPState {
    /// Tells the device of the heap's first arena.
    private final class FirstArena {
        var base: UnsafeMutableRawPointer?
        var byteCount = 0
    }

    /// The region that a heap's memory is registered as.
    private static func memory(of heap: DatapathHeap, maximumFrameByteCount: Int, leavesChecksums: Bool) -> XDPSocket.Memory {
        let found = FirstArena()
        let registration = DeviceRegistration(
            context: Unmanaged.passUnretained(found).toOpaque(),
            register: { context, base, byteCount in
                let found = Unmanaged<FirstArena>.fromOpaque(context).takeUnretainedValue()
                if found.base == nil { (found.base, found.byteCount) = (base, byteCount) }
                return 0
            },
            unregister: { _, _, _ in })
        heap.unregister(heap.register(registration))
        // The kernel keeps 256 bytes before each frame (XDP_PACKET_HEADROOM).
        let chunk = maximumFrameByteCount + 256 <= 2048 ? 2048 : 4096
        guard let base = found.base else { preconditionFailure("a heap has an arena") }
        return XDPSocket.Memory(base: base, byteCount: found.byteCount, chunkByteCount: chunk, hasMetadata: leavesChecksums && maximumFrameByteCount + metadataByteCount <= chunk)
    }

    static func make(
        _ descriptors: XDPDevice.Descriptors, heap: DatapathHeap, maximumFrameByteCount: Int
    ) throws(DemikernelError) -> UnsafeMutablePointer<XDPState> {
        let memory = memory(of: heap, maximumFrameByteCount: maximumFrameByteCount, leavesChecksums: descriptors.leavesChecksums)
        // No more than an eighth of the heap waits for frames.
        let share = memory.byteCount / 8 / memory.chunkByteCount / descriptors.sockets.count
        var fill = 64
        while fill < 1024, fill * 2 <= share { fill *= 2 }
        let sizes = XDPSocket.Sizes(fill: fill, transmit: transmitEntries)
        var sockets: [XDPSocket] = []
        var grant = XDPSocket.Grant()
        var epoll: Int32 = -1
        var copyPlaces: UnsafeMutableRawPointer?
        do throws(DemikernelError) {
            for (position, descriptor) in descriptors.sockets.enumerated() {
                let queue = descriptors.firstQueue + position
                let socket = try XDPSocket(descriptor, memory: position == 0 ? memory : nil, sizes: sizes)
                sockets.append(socket)
                if position == 0 {
                    grant = try socket.bind(interface: descriptors.interfaceIndex, queue: queue)
                } else {
                    try socket.bind(interface: descriptors.interfaceIndex, queue: queue, sharingMemoryOf: descriptors.sockets[0])
                }
                try XDPAttachment.set(descriptor, queue: queue, in: descriptors.map)
            }
            if sockets.count > 1 { epoll = try makeEpoll(descriptors.sockets) }
            copyPlaces = heap.takeBlock(copyPlaceCount * memory.chunkByteCount, priority: .reserve)
            guard let copyPlaces, memory.contains(copyPlaces) else {
                throw DemikernelError(ENOBUFS, .initialize, "the heap has too little memory left for an XDP device: configure more")
            }
            let storage = UnsafeMutablePointer<XDPSocket>.allocate(capacity: sockets.count)
            storage.initialize(from: sockets, count: sockets.count)
            // Zeroed by the kernel page by page, as they are first touched.
            guard let held = calloc(memory.byteCount / 64, MemoryLayout<UInt16>.stride) else { preconditionFailure("no memory for a table") }
            let state = UnsafeMutablePointer<XDPState>.allocate(capacity: 1)
            state.initialize(
                to: XDPState(
                    heap: heap, memory: memory, sockets: storage, socketCount: sockets.count, held: held.assumingMemoryBound(to: UInt16.self),
                    // What comes in several descriptors cannot be had without the grant.
                    maximumFrameByteCount: grant.gathers ? maximumFrameByteCount : min(maximumFrameByteCount, memory.chunkByteCount - 256),
                    maximumReceiveByteCount: descriptors.isNative ? maximumFrameByteCount : 65_535 + DeviceCapabilities.ethernetHeaderByteCount,
                    maximumTransmitSegments: transmitSegments(grant, isJumbo: maximumFrameByteCount > memory.chunkByteCount),
                    grant: grant, acceptsPartialChecksums: descriptors.acceptsPartialChecksums, map: descriptors.map, link: descriptors.link,
                    wakeDescriptor: epoll >= 0 ? epoll : descriptors.sockets[0], copyPlaces: copyPlaces))
            for index in 0..<sockets.count { state.prefill(storage + index, fill) }
            return state
        } catch {
            for socket in sockets { socket.unmap() }
            if epoll >= 0 { close(epoll) }
            if let copyPlaces { DatapathHeap.releaseBlock(containing: copyPlaces) }
            throw error
        }
    }

    /// A segment makes a descriptor, and one more where it crosses a page; a jumbo frame crosses up to three by itself.
    private static func transmitSegments(_ grant: XDPSocket.Grant, isJumbo: Bool) -> Int {
        // In zero copy the driver's own limit holds, of which at least two are sure where several are granted.
        grant.gathers ? (grant.isZeroCopy ? 2 : isJumbo ? 5 : 8) : 1
    }

    private static func makeEpoll(_ sockets: [Int32]) throws(DemikernelError) -> Int32 {
        let epoll = epoll_create1(Int32(EPOLL_CLOEXEC))
        guard epoll >= 0 else { throw DemikernelError(errno, .initialize, "no descriptor is left for the wake-up") }
        for socket in sockets {
            var event = epoll_event(events: EPOLLIN.rawValue, data: epoll_data_t(fd: socket))
            guard epoll_ctl(epoll, EPOLL_CTL_ADD, socket, &event) == 0 else {
                close(epoll)
                throw DemikernelError(errno, .initialize, "an AF_XDP socket cannot be waited for")
            }
        }
        return epoll
    }
}

extension XDPSocket.Memory {
    @inline(__always)
    func contains(_ address: UnsafeMutableRawPointer) -> Bool { UInt(bitPattern: address) &- UInt(bitPattern: base) < UInt(byteCount) }

    @inline(__always)
    func offset(_ address: UnsafeMutableRawPointer) -> UInt64 { UInt64(UInt(bitPattern: address) &- UInt(bitPattern: base)) }
}

extension UnsafeMutablePointer<XDPState> {
    /// Takes the heap that the device was opened with.
    func attach(_ heap: DatapathHeap) -> Int32 {
        guard !pointee.isAttached else { return EBUSY }
        guard pointee.heap == heap else { return EINVAL }
        pointee.isAttached = true
        return 0
    }

    /// Gives the kernel the first blocks to receive into.
    func prefill(_ socket: UnsafeMutablePointer<XDPSocket>, _ count: Int) {
        for _ in 0..<count {
            guard let block = pointee.heap.takeBlock(pointee.memory.chunkByteCount, priority: .reserve) else { break }
            guard pointee.memory.contains(block) else {
                DatapathHeap.releaseBlock(containing: block)
                break
            }
            offer(pointee.memory.offset(block), to: socket)
        }
        socket.pointee.fill.publishProduced()
    }

    /// Writes a block, whose count is the device's, to the fill ring. There is room: never more blocks are out than the ring has entries.
    @inline(__always)
    func offer(_ offset: UInt64, to socket: UnsafeMutablePointer<XDPSocket>) {
        pointee.held[Int(offset &>> 6)] &+= 1
        socket.pointee.fill.produce(address: offset)
    }

    // MARK: Sleep

    func prepareToSleep() -> Int32 {
        if pointee.counts.isGone { return EthernetDevice.nothingToAwait }
        // What waits to be sent has no wake-up; while the interface is down there is nothing to try.
        if pointee.sockets.pointee.transmit.pending > 0 {
            flush()
            if pointee.sockets.pointee.transmit.pending > 0, !pointee.isDown { return EthernetDevice.cannotWake }
        }
        for index in 0..<pointee.socketCount where recvfrom(pointee.sockets[index].descriptor, nil, 0, Int32(MSG_DONTWAIT), nil, nil) < 0 {
            // No longer bound: the interface is no more.
            if errno == ENXIO {
                pointee.counts.isGone = true
                return EthernetDevice.nothingToAwait
            }
        }
        return pointee.wakeDescriptor
    }

    var statistics: DeviceStatistics {
        var counts = pointee.counts
        for index in 0..<pointee.socketCount {
            let ofKernel = pointee.sockets[index].statistics
            counts.receiveErrors &+= ofKernel.rx_dropped
            counts.receiveRingFull &+= ofKernel.rx_ring_full &+ ofKernel.rx_fill_ring_empty_descs
            counts.transmitErrors &+= ofKernel.tx_invalid_descs
        }
        return counts
    }

    // MARK: End

    func close() {
        // What still waits goes out. First nothing comes any more; then the kernel lets go of the memory, and what the rings held is given back.
        if pointee.deferredSince != 0 { flush() }
        if let link = pointee.link { Glibc.close(link) }
        Glibc.close(pointee.map)
        if pointee.socketCount > 1 { Glibc.close(pointee.wakeDescriptor) }
        for index in 0..<pointee.socketCount {
            pointee.sockets[index].unmap()
            Glibc.close(pointee.sockets[index].descriptor)
        }
        for unit in 0..<pointee.memory.byteCount / 64 {
            for _ in 0..<pointee.held[unit] { DatapathHeap.releaseBlock(containing: pointee.memory.base + unit * 64) }
        }
        DatapathHeap.releaseBlock(containing: pointee.copyPlaces)
        free(pointee.held)
        pointee.sockets.deallocate()
        deinitialize(count: 1)
        deallocate()
    }
}
