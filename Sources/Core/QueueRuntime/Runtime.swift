import CDatapath
import DatapathMemory
import Glibc
import TaskScheduler

/// A datapath runtime: queues over one or several library OSes, one scheduler, one heap, one way to wait.
///
/// It belongs to the thread that made it; a call from another thread traps. It is not copied: it has one owner, and functions borrow it.
///
/// What a call refuses, it throws, and nothing has changed. What an operation meets after that is `.failed` in its completion.
public struct Runtime: ~Copyable {
    /// For library OSes and surfaces.
    public let core: RuntimeCore

    /// A runtime with in-memory queues only; `register` adds library OSes.
    /// - Throws: `EINVAL` for a limit out of range, `ENOMEM` when memory cannot be mapped, `EMFILE` when the process has no descriptor left.
    public init(_ configuration: RuntimeConfiguration = RuntimeConfiguration()) throws(DemikernelError) {
        core = try RuntimeCore.make(configuration)
    }

    /// A runtime with library OSes: each function makes one for the runtime's core. The first one serves `socket`.
    /// - Throws: as `init(_:)`, and what a function throws; nothing is left over then.
    public init(
        _ configuration: RuntimeConfiguration = RuntimeConfiguration(), making libraryOSes: [(RuntimeCore) throws(DemikernelError) -> LibraryOS]
    ) throws(DemikernelError) {
        let core = try RuntimeCore.make(configuration)
        do throws(DemikernelError) {
            for make in libraryOSes {
                let libraryOS = try make(core)
                guard core.register(libraryOS) != nil else {
                    libraryOS.destroy(libraryOS.context)
                    throw Runtime.tooManyLibraryOSes
                }
            }
        } catch {
            core.destroy()
            throw error
        }
        self.core = core
    }

    private static let tooManyLibraryOSes = DemikernelError(ENOSPC, .initialize, "a runtime has at most 15 library OSes")

    deinit {
        core.destroy()
    }

    /// Closes every queue that is open, as the runtime's end does: what was pushed goes on being sent while turns are taken.
    public func closeAll() {
        core.checkThread()
        for index in (0..<core.state.pointee.libraryCount).reversed() { core.closeAll(of: index) }
    }

    /// Adds a library OS, which the runtime destroys at its end. The first one that was added serves `socket` when none is named.
    /// - Throws: `ENOSPC` beyond 15.
    @discardableResult
    public func register(_ libraryOS: LibraryOS) throws(DemikernelError) -> LibraryOSIdentifier {
        core.checkThread()
        guard let identifier = core.register(libraryOS) else { throw Runtime.tooManyLibraryOSes }
        return identifier
    }

    // MARK: Queues

    /// A socket's queue: a stream for `.stream`, units for `.datagram`.
    /// - Parameter libraryOS: who serves it; nil for the first that was registered.
    /// - Throws: `EMFILE` at `Limits.maximumQueues` or the process's descriptor limit, `ENODEV` without a library OS, `EAFNOSUPPORT`.
    public func socket(
        _ family: AddressFamily, _ type: SocketType, on libraryOS: LibraryOSIdentifier? = nil
    ) throws(DemikernelError) -> QueueDescriptor {
        core.checkThread()
        return try core.open(libraryOS?.index ?? 1, .socket, family, type)
    }

    /// An in-memory queue of units, at both ends of which stands this runtime.
    /// - Throws: `EMFILE` at `Limits.maximumQueues`.
    public func queue() throws(DemikernelError) -> QueueDescriptor {
        core.checkThread()
        return try core.open(0, .queue, .ipv4, .datagram)
    }

    /// Gives a socket its local address; port 0 lets the library OS choose (`localAddress` tells).
    /// - Throws: `EADDRINUSE`, `EADDRNOTAVAIL`, `EACCES`, `EINVAL` when it is bound, `EBADF`.
    public func bind(_ queue: QueueDescriptor, to address: SocketAddress) throws(DemikernelError) {
        core.checkThread()
        let slot = try core.lookUp(queue, .bind)
        let library = slot.pointee.libraryOS.unsafelyUnwrapped
        let error = withUnsafePointer(to: address) { library.pointee.bind(library.pointee.context, slot.pointee.state, $0) }
        guard error == 0 else { throw core.refusalError(error, .bind) }
    }

    /// Lets a bound stream socket take connections, of which `backlog` may wait for an `accept`.
    /// - Throws: `EINVAL` in the wrong state or for a backlog below 1, `EADDRINUSE`, `EOPNOTSUPP`, `EBADF`.
    public func listen(_ queue: QueueDescriptor, backlog: Int) throws(DemikernelError) {
        core.checkThread()
        let slot = try core.lookUp(queue, .listen)
        guard backlog > 0 else { throw DemikernelError(EINVAL, .listen, "the backlog must be at least 1") }
        let library = slot.pointee.libraryOS.unsafelyUnwrapped
        let error = library.pointee.listen(library.pointee.context, slot.pointee.state, Int32(clamping: backlog))
        guard error == 0 else { throw core.refusalError(error, .listen) }
    }

    /// The next connection of a listener; completes with `.accepted`.
    /// - Throws: `EINVAL` when the queue does not listen, `ENOBUFS` at `Limits.maximumOperations`, `EBADF`.
    public func accept(_ queue: QueueDescriptor) throws(DemikernelError) -> QueueToken {
        core.checkThread()
        let slot = try core.lookUp(queue, .accept)
        let operation = try core.begin(.accept, queue, .accept)
        let library = slot.pointee.libraryOS.unsafelyUnwrapped
        return try core.submitted(operation, library.pointee.accept(library.pointee.context, slot.pointee.state, operation), .accept)
    }

    /// Connects a socket; completes with `.connected`. A datagram socket only gets its peer.
    /// - Throws: `EISCONN`, `EALREADY`, `EAFNOSUPPORT`, `ENOBUFS` at `Limits.maximumOperations`, `EBADF`.
    public func connect(_ queue: QueueDescriptor, to address: SocketAddress) throws(DemikernelError) -> QueueToken {
        core.checkThread()
        let slot = try core.lookUp(queue, .connect)
        let operation = try core.begin(.connect, queue, .connect)
        core.operation(operation).pointee.address = address
        let library = slot.pointee.libraryOS.unsafelyUnwrapped
        return try core.submitted(operation, library.pointee.connect(library.pointee.context, slot.pointee.state, operation), .connect)
    }

    /// Ends one or both directions. Bytes that were pushed before are still sent; pops end with `.endOfStream` once `receive` is shut down.
    /// - Throws: `ENOTCONN`, `EOPNOTSUPP`, `EBADF`.
    public func shutdown(_ queue: QueueDescriptor, _ direction: ShutdownDirection) throws(DemikernelError) {
        core.checkThread()
        let slot = try core.lookUp(queue, .shutdown)
        let library = slot.pointee.libraryOS.unsafelyUnwrapped
        let error = library.pointee.shutdown(library.pointee.context, slot.pointee.state, direction.rawValue)
        guard error == 0 else { throw core.refusalError(error, .shutdown) }
    }

    /// Retires the descriptor. Pending pops, accepts and connects end with `ECANCELED`; issued pushes are still sent in order, then the end, and
    /// complete normally.
    /// - Throws: `EBADF`.
    public func close(_ queue: QueueDescriptor) throws(DemikernelError) {
        core.checkThread()
        let slot = try core.lookUp(queue, .close)
        core.close(slot, queue, operation: 0)
    }

    /// As `close`; the token completes with `.closed` when the connection is gone.
    /// - Throws: `EBADF`, `ENOBUFS` at `Limits.maximumOperations`.
    public func closeToken(_ queue: QueueDescriptor) throws(DemikernelError) -> QueueToken {
        core.checkThread()
        let slot = try core.lookUp(queue, .close)
        let operation = try core.begin(.close, queue, .close)
        let token = core.token(operation)
        core.close(slot, queue, operation: operation)
        return token
    }

    /// The address that a socket is bound to.
    /// - Throws: `EOPNOTSUPP` for an in-memory queue, `EBADF`.
    public func localAddress(_ queue: QueueDescriptor) throws(DemikernelError) -> SocketAddress {
        try core.address(of: queue, isPeer: false)
    }

    /// The address that a socket is connected to.
    /// - Throws: `ENOTCONN`, `EOPNOTSUPP`, `EBADF`.
    public func peerAddress(_ queue: QueueDescriptor) throws(DemikernelError) -> SocketAddress {
        try core.address(of: queue, isPeer: true)
    }

    /// Sets an option of a socket.
    /// - Throws: `EOPNOTSUPP` where the library OS has no such option, `EINVAL` for a value out of range, `EBADF`.
    public func setOption(_ option: SocketOption, on queue: QueueDescriptor) throws(DemikernelError) {
        core.checkThread()
        let slot = try core.lookUp(queue, .option)
        let library = slot.pointee.libraryOS.unsafelyUnwrapped
        let (name, first, second) = option.encoded
        let error = library.pointee.setOption(library.pointee.context, slot.pointee.state, name.rawValue, first, second)
        guard error == 0 else { throw core.refusalError(error, .option) }
    }

    /// Reads an option of a socket.
    /// - Throws: as `setOption`.
    public func option(_ name: SocketOption.Name, of queue: QueueDescriptor) throws(DemikernelError) -> SocketOption {
        core.checkThread()
        let slot = try core.lookUp(queue, .option)
        let library = slot.pointee.libraryOS.unsafelyUnwrapped
        var values: (Int64, Int64) = (0, 0)
        let error = library.pointee.option(library.pointee.context, slot.pointee.state, name.rawValue, &values)
        guard error == 0 else { throw core.refusalError(error, .option) }
        return SocketOption(decoding: name, first: values.0, second: values.1)
    }

    // MARK: Memory, time, state

    /// A buffer of `byteCount` bytes from the runtime's heap, not initialised. O(1).
    /// - Throws: `ENOBUFS` when 15/16 of the heap are used, `EMSGSIZE` above `DatapathHeap.maximumBufferByteCount`, `EINVAL` for a negative size.
    public func allocate(_ byteCount: Int) throws(DemikernelError) -> Buffer {
        core.checkThread()
        return try core.heap.allocate(byteCount)
    }

    /// As `allocate(_:)`, with `headroom` bytes in front of the buffer, where headers can be put.
    /// - Throws: as `allocate(_:)`.
    public func allocate(_ byteCount: Int, headroom: Int) throws(DemikernelError) -> Buffer {
        core.checkThread()
        return try core.heap.allocate(byteCount, headroom: headroom)
    }

    /// A buffer to be pushed to `queue`: with room for headers in front where that saves its library OS a block and a copy, as for datagrams of the
    /// user-level stack. It can be pushed to any other queue as well. O(1).
    /// - Throws: as `allocate(_:)`; `EBADF`.
    public func allocate(_ byteCount: Int, for queue: QueueDescriptor) throws(DemikernelError) -> Buffer {
        core.checkThread()
        return try core.heap.allocate(byteCount, headroom: Int(core.lookUp(queue, .allocate).pointee.waitingPops.pointee.headroom))
    }

    /// A buffer with a copy of `bytes`.
    /// - Throws: as `allocate`.
    public func allocate(copying bytes: Span<UInt8>) throws(DemikernelError) -> Buffer {
        core.checkThread()
        let buffer = try core.heap.allocate(bytes.count)
        bytes.withUnsafeBytes { source in
            if let base = source.baseAddress { buffer.address.copyMemory(from: base, byteCount: source.count) }
        }
        return buffer
    }

    /// Nanoseconds of the runtime's clock, read now.
    public var now: UInt64 {
        core.checkThread()
        return core.state.pointee.clock.now
    }

    /// A snapshot of the runtime's counts.
    public var statistics: RuntimeStatistics {
        core.checkThread()
        return core.statistics
    }

    /// What can end this runtime's waits from another thread or a signal handler.
    public var interrupter: Interrupter { core.state.pointee.interruption }
}

@available(*, unavailable, message: "a runtime belongs to the thread that made it: make one on each thread")
extension Runtime: Sendable {}
