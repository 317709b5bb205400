import Demikernel
import Glibc

/// Sockets of a library OS for the load generator: each poll is a turn of the runtime. Nothing ever sleeps.
struct RuntimeTransport: LoadTransport, ~Copyable {
    let connectionCount: Int
    let keepsBoundaries: Bool
    private let endpoint: Endpoint
    private let runtime: Runtime
    fileprivate let connections: UnsafeMutablePointer<Connection>

    fileprivate struct Connection: ~Copyable {
        let queue: QueueDescriptor
        var pop: QueueToken
        /// What was popped and not received yet: from `offset` of it on.
        var received: ScatterGatherArray?
        var offset = 0
    }

    /// How long all connections may take to be made.
    private static let patience = Duration.seconds(10)

    /// Connects `connections` sockets to `endpoint`. Blocks until they are connected.
    init(
        _ transport: TransportProtocol, to endpoint: Endpoint, connections count: Int, settings: ServerSettings
    ) throws(CommandFailure) {
        let connections = UnsafeMutablePointer<Connection>.allocate(capacity: count)
        var made = 0
        do throws(DemikernelError) {
            let runtime = try Runtime(settings.runtimeConfiguration, libraryOSes: [settings.libraryOS(nil)])
            let address = try SocketAddress(parsing: "\(endpoint)")
            for index in 0..<count {
                let queue = try runtime.socket(address.family, transport == .tcp ? .stream : .datagram)
                try runtime.wait(try runtime.connect(queue, to: address), timeout: RuntimeTransport.patience).succeeded()
                (connections + index).initialize(to: Connection(queue: queue, pop: try runtime.pop(queue), received: nil))
                made += 1
            }
            self.runtime = runtime
        } catch {
            connections.deinitialize(count: made)
            connections.deallocate()
            throw CommandFailure("\(settings.carrier): connect to \(endpoint): \(error)")
        }
        self.connections = connections
        self.endpoint = endpoint
        connectionCount = count
        keepsBoundaries = transport == .udp
    }

    deinit {
        // Before the runtime, whose memory they hold.
        connections.deinitialize(count: connectionCount)
        connections.deallocate()
    }

    @inline(__always)
    mutating func poll(into ready: UnsafeMutableBufferPointer<Int32>) -> Int {
        runtime.poll()
        // Which have something is found when they are asked: a look at one slot each.
        for index in 0..<connectionCount { ready[index] = Int32(truncatingIfNeeded: index) }
        return connectionCount
    }

    @inline(__always)
    mutating func send(_ bytes: UnsafeRawBufferPointer, on connection: Int) throws(CommandFailure) -> Int {
        let count = keepsBoundaries ? bytes.count : min(bytes.count, 65_536)
        do throws(DemikernelError) {
            let queue = connections[connection].queue
            var buffer = try runtime.allocate(count, for: queue)
            buffer.withUnsafeMutableBytes { $0.copyMemory(from: UnsafeRawBufferPointer(rebasing: bytes[..<count])) }
            try runtime.push(queue, buffer, completion: .discarded)
            return count
        } catch {
            if error.errno == ENOBUFS || error.errno == EAGAIN { return 0 }
            throw lost(connection, "send", error)
        }
    }

    @inline(__always)
    mutating func receive(into buffer: UnsafeMutableRawBufferPointer, on connection: Int) throws(CommandFailure) -> Int? {
        let target = connections + connection
        do throws(DemikernelError) {
            if target.pointee.received == nil {
                guard let completion = try runtime.redeem(target.pointee.pop) else { return nil }
                guard let array = try completion.popped() else {
                    throw DemikernelError(ECONNRESET, .pop, "the server closed the connection")
                }
                target.pointee.received = consume array
                target.pointee.offset = 0
                target.pointee.pop = try runtime.pop(target.pointee.queue)
            }
            return target.pointee.copy(to: buffer)
        } catch {
            throw lost(connection, "receive", error)
        }
    }

    private func lost(_ connection: Int, _ operation: String, _ error: DemikernelError) -> CommandFailure {
        CommandFailure("\(operation) on connection \(connection + 1) of \(connectionCount) to \(endpoint): \(error)")
    }
}

extension RuntimeTransport.Connection {
    /// Copies the next bytes of what was popped, and lets go of it when all are copied.
    fileprivate mutating func copy(to buffer: UnsafeMutableRawBufferPointer) -> Int {
        guard let array = received.take() else { return 0 }
        var skipped = 0
        var copied = 0
        for index in 0..<array.segmentCount where copied < buffer.count {
            array.withUnsafeBytes(ofSegment: index) { bytes in
                let start = max(0, offset - skipped)
                skipped += bytes.count
                guard start < bytes.count, let source = bytes.baseAddress, let target = buffer.baseAddress else { return }
                let count = min(bytes.count - start, buffer.count - copied)
                (target + copied).copyMemory(from: source + start, byteCount: count)
                copied += count
            }
        }
        offset += copied
        if offset < array.byteCount { received = consume array }
        return copied
    }
}
