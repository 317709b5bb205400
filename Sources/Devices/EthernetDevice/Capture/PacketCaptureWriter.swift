import DatapathMemory
import Glibc

/// Writes frames of one or several interfaces to a pcapng file, or to memory.
///
/// A plain handle, as cheap to copy as a pointer; whoever made it closes it, after the devices that write to it. It belongs to one thread.
///
/// Whole blocks are collected in a buffer of bounded size and written when it is full, at `flush` and at `close`. An error never stops
/// anything: what could not be written is tried again with the next block, and a packet for which there is no room is counted as dropped.
public struct PacketCaptureWriter {
    private let state: UnsafeMutablePointer<State>

    private struct State {
        let clock: CaptureClock
        /// -1 for a capture in memory.
        let fileDescriptor: Int32
        /// The file is a socket: it is never waited for, and its peer may go.
        let isSocket: Bool
        /// Before this time a socket that was full is not tried again by who is idle.
        var retryTime: UInt64 = 0
        /// The socket's peer is gone: what comes is dropped at once.
        var isBroken = false
        /// The buffer never gets larger than this.
        let limit: Int
        var bytes: UnsafeMutableRawPointer
        var capacity: Int
        /// Bytes not written yet; in memory, all of them.
        var count = 0
        var interfaceCount: UInt32 = 0
        var statistics = CaptureStatistics()
    }

    /// Writes to a file that is open for writing, from its position on. `close` closes it.
    ///
    /// A pipe whose reader is gone raises `SIGPIPE`, as everywhere: a process that captures into one ignores the signal.
    /// - Parameter bufferByteCount: the size of the buffer; a packet larger than it is dropped.
    public init(fileDescriptor: Int32, clock: CaptureClock = .realTime, bufferByteCount: Int = 256 << 10) {
        precondition(fileDescriptor >= 0, "a capture needs an open file")
        self.init(clock, fileDescriptor, limit: max(bufferByteCount, 4096), capacity: max(bufferByteCount, 4096))
    }

    /// Writes to a new file, in place of one of that name.
    /// - Throws: what `open(2)` fails with.
    public init(path: String, clock: CaptureClock = .realTime) throws(DemikernelError) {
        let descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644)
        guard descriptor >= 0 else { throw DemikernelError(errno, .initialize, "the capture file could not be made") }
        self.init(fileDescriptor: descriptor, clock: clock)
    }

    /// Writes to a stream socket, which `close` closes, without ever waiting for its peer: what finds the buffer full is dropped and counted.
    /// - Parameter bufferByteCount: the size of the buffer; a packet larger than it is dropped.
    public init(socket: Int32, clock: CaptureClock = .realTime, bufferByteCount: Int = 1 << 20) {
        precondition(socket >= 0, "a capture needs an open socket")
        self.init(clock, socket, isSocket: true, limit: max(bufferByteCount, 4096), capacity: max(bufferByteCount, 4096))
    }

    /// Collects the capture in memory, for `withUnsafeBytes`.
    /// - Parameter limit: bytes at most; what comes when they are used is dropped.
    public init(inMemoryLimit limit: Int, clock: CaptureClock) {
        self.init(clock, -1, limit: max(limit, 4096), capacity: 4096)
    }

    private init(_ clock: CaptureClock, _ fileDescriptor: Int32, isSocket: Bool = false, limit: Int, capacity: Int) {
        state = UnsafeMutablePointer<State>.allocate(capacity: 1)
        state.initialize(
            to: State(
                clock: clock, fileDescriptor: fileDescriptor, isSocket: isSocket, limit: limit,
                bytes: UnsafeMutableRawPointer.allocate(byteCount: capacity, alignment: 16), capacity: capacity))
        // Fits into the least capacity.
        CaptureBlock.sectionHeader().withUnsafeBytes { _ = append($0.baseAddress.unsafelyUnwrapped, $0.count) }
    }

    /// Adds an interface to the file; its number is what `write` names it by.
    /// - Throws: `ENOBUFS` when the buffer is full and cannot be written.
    public func addInterface(name: String, macAddress: UInt64, snapshotByteCount: Int) throws(DemikernelError) -> UInt32 {
        let block = CaptureBlock.interfaceDescription(name: name, macAddress: macAddress, snapshotByteCount: snapshotByteCount)
        guard block.withUnsafeBytes({ append($0.baseAddress.unsafelyUnwrapped, $0.count) }) else {
            throw DemikernelError(ENOBUFS, .initialize, "the capture's buffer is full and cannot be written")
        }
        state.pointee.interfaceCount += 1
        return state.pointee.interfaceCount - 1
    }

    /// The file or socket; -1 for a capture in memory. It stays the writer's.
    public var fileDescriptor: Int32 { state.pointee.fileDescriptor }

    /// Nanoseconds, from the capture's clock.
    public var now: UInt64 { state.pointee.clock.now(state.pointee.clock.context) }

    /// Writes the first `snapshotByteCount` bytes of a frame; the frame stays the caller's. O(bytes).
    public func write(_ frame: Frame, interface: UInt32, direction: CaptureDirection, time: UInt64, snapshotByteCount: Int) {
        let captured = min(frame.arrayByteCount, snapshotByteCount)
        let byteCount = CaptureBlock.packetByteCount(captured)
        guard makeRoom(byteCount) else {
            state.pointee.statistics.droppedPackets += 1
            return
        }
        CaptureBlock.encodePacket(
            frame, capturedByteCount: captured, interface: interface, direction: direction, time: time, to: state.pointee.bytes + state.pointee.count)
        state.pointee.count += byteCount
        state.pointee.statistics.packets += 1
    }

    /// Writes one packet's block that was encoded elsewhere.
    func writeEncodedPacket(_ block: UnsafeRawPointer, _ byteCount: Int) {
        if append(block, byteCount) {
            state.pointee.statistics.packets += 1
        } else {
            state.pointee.statistics.droppedPackets += 1
        }
    }

    /// Writes the buffer to the file. What cannot be written stays in it.
    public func flush() {
        guard state.pointee.fileDescriptor >= 0 else { return }
        var written = 0
        while written < state.pointee.count {
            let result = put(state.pointee.bytes + written, state.pointee.count - written)
            if result > 0 {
                written += result
            } else if state.pointee.isSocket, errno == EAGAIN {
                state.pointee.retryTime = now &+ 1_000_000
                break
            } else if errno != EINTR {
                state.pointee.statistics.failedWrites += 1
                state.pointee.statistics.lastError = errno
                state.pointee.isBroken = state.pointee.isSocket
                break
            }
        }
        state.pointee.statistics.writtenBytes += UInt64(written)
        state.pointee.count -= written
        if state.pointee.count > 0, written > 0 { memmove(state.pointee.bytes, state.pointee.bytes + written, state.pointee.count) }
    }

    /// For who has nothing else to do: gives a socket what is in the buffer, unless it was full a moment ago. A file is left for `flush`.
    public func flushWhenIdle() {
        guard state.pointee.isSocket, state.pointee.count > 0, !state.pointee.isBroken else { return }
        if state.pointee.retryTime != 0 {
            guard now >= state.pointee.retryTime else { return }
            state.pointee.retryTime = 0
        }
        flush()
    }

    /// Ends a capture and frees the writer, as `close` does.
    /// - Returns: what the file has not got yet, and the counts of `interface`, which belong at its end: so a capture that dropped frames says so itself.
    public func closeReturningRest(_ interface: UInt32) -> [UInt8] {
        flush()
        let statistics = CaptureBlock.interfaceStatistics(
            interface: interface, time: now, received: state.pointee.statistics.packets &+ state.pointee.statistics.droppedPackets,
            dropped: state.pointee.statistics.droppedPackets)
        let rest = withUnsafeBytes { [UInt8]($0) } + statistics
        state.pointee.count = 0
        close()
        return rest
    }

    /// A write to a file, or a send to a socket, which neither waits nor raises `SIGPIPE`.
    private func put(_ bytes: UnsafeMutableRawPointer, _ byteCount: Int) -> Int {
        guard state.pointee.isSocket else { return Glibc.write(state.pointee.fileDescriptor, bytes, byteCount) }
        guard !state.pointee.isBroken else {
            errno = EPIPE
            return -1
        }
        return send(state.pointee.fileDescriptor, bytes, byteCount, Int32(MSG_DONTWAIT) | Int32(MSG_NOSIGNAL))
    }

    /// Calls `body` with the bytes that are in the buffer: the whole capture, if it is one in memory.
    public func withUnsafeBytes<Result, Failure: Error>(_ body: (UnsafeRawBufferPointer) throws(Failure) -> Result) throws(Failure) -> Result {
        try body(UnsafeRawBufferPointer(start: state.pointee.bytes, count: state.pointee.count))
    }

    /// The counts so far.
    public var statistics: CaptureStatistics { state.pointee.statistics }

    /// Writes what is left, closes the file and frees the writer.
    /// - Returns: the last counts: whether all was written shows here only.
    @discardableResult
    public func close() -> CaptureStatistics {
        flush()
        if state.pointee.fileDescriptor >= 0, Glibc.close(state.pointee.fileDescriptor) != 0 {
            state.pointee.statistics.failedWrites += 1
            state.pointee.statistics.lastError = errno
        }
        if state.pointee.fileDescriptor >= 0 { state.pointee.statistics.lostBytes = UInt64(state.pointee.count) }
        let statistics = state.pointee.statistics
        state.pointee.bytes.deallocate()
        state.deinitialize(count: 1)
        state.deallocate()
        return statistics
    }

    private func append(_ block: UnsafeRawPointer, _ byteCount: Int) -> Bool {
        guard makeRoom(byteCount) else { return false }
        (state.pointee.bytes + state.pointee.count).copyMemory(from: block, byteCount: byteCount)
        state.pointee.count += byteCount
        return true
    }

    /// Room for `byteCount` bytes behind those in the buffer: by writing them, or in memory by a larger buffer.
    private func makeRoom(_ byteCount: Int) -> Bool {
        if byteCount <= state.pointee.capacity - state.pointee.count { return true }
        if state.pointee.fileDescriptor >= 0 {
            flush()
            return byteCount <= state.pointee.capacity - state.pointee.count
        }
        guard byteCount <= state.pointee.limit - state.pointee.count else { return false }
        let capacity = min(max(2 * state.pointee.capacity, state.pointee.count + byteCount), state.pointee.limit)
        let bytes = UnsafeMutableRawPointer.allocate(byteCount: capacity, alignment: 16)
        bytes.copyMemory(from: state.pointee.bytes, byteCount: state.pointee.count)
        state.pointee.bytes.deallocate()
        state.pointee.bytes = bytes
        state.pointee.capacity = capacity
        return true
    }
}

/// Counts of a capture since it was begun.
public struct CaptureStatistics: Equatable, Sendable {
    /// Packets in the file, or in the buffer on their way to it.
    public var packets: UInt64 = 0
    /// Packets for which there was no room.
    public var droppedPackets: UInt64 = 0
    /// Bytes written to the file.
    public var writtenBytes: UInt64 = 0
    /// Writes that failed; what they should have written was tried again.
    public var failedWrites: UInt64 = 0
    /// The errno of the last failed write; 0 for none.
    public var lastError: Int32 = 0
    /// After `close`: bytes of the buffer that could not be written any more.
    public var lostBytes: UInt64 = 0
}
