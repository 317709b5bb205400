import CDatapath
import Glibc

/// Kernel sockets for the load generator: one connection is received from directly, many are found through epoll. Nothing ever sleeps.
struct KernelTransport: LoadTransport, ~Copyable {
    let connectionCount: Int
    let keepsBoundaries: Bool
    private let endpoint: Endpoint
    /// `connectionCount` open descriptors, owned.
    private let descriptors: UnsafeMutablePointer<Int32>
    /// -1 with a single connection.
    private let epoll: Int32
    private let events: UnsafeMutablePointer<epoll_event>

    /// Connects `connections` sockets to `endpoint`. Blocks until they are connected.
    init(_ transport: TransportProtocol, to endpoint: Endpoint, connections: Int) throws(CommandFailure) {
        let descriptors = UnsafeMutablePointer<Int32>.allocate(capacity: connections)
        let epoll = connections > 1 ? epoll_create1(Int32(EPOLL_CLOEXEC)) : -1
        var opened = 0
        // Everything that can fail comes before the first stored property: a value that is whole would run its deinit as well.
        do throws(CommandFailure) {
            for index in 0..<connections {
                let descriptor = try KernelSocket.connected(transport, to: endpoint)
                descriptors[index] = descriptor
                opened += 1
                try KernelSocket.setNonBlocking(descriptor)
                if epoll >= 0 {
                    var event = epoll_event(events: EPOLLIN.rawValue, data: epoll_data_t(u32: UInt32(index)))
                    guard epoll_ctl(epoll, EPOLL_CTL_ADD, descriptor, &event) == 0 else { throw CommandFailure("epoll_ctl", errno: errno) }
                }
            }
        } catch {
            for index in 0..<opened { close(descriptors[index]) }
            if epoll >= 0 { close(epoll) }
            descriptors.deallocate()
            throw error
        }
        self.endpoint = endpoint
        self.descriptors = descriptors
        self.epoll = epoll
        connectionCount = connections
        keepsBoundaries = transport == .udp
        events = .allocate(capacity: connections)
    }

    deinit {
        for index in 0..<connectionCount { close(descriptors[index]) }
        if epoll >= 0 { close(epoll) }
        descriptors.deallocate()
        events.deallocate()
    }

    @inline(__always)
    mutating func poll(into ready: UnsafeMutableBufferPointer<Int32>) -> Int {
        guard epoll >= 0 else {
            ready[0] = 0
            return 1
        }
        let count = epoll_wait(epoll, events, Int32(connectionCount), 0)
        guard count > 0 else { return 0 }
        for index in 0..<Int(count) { ready[index] = Int32(truncatingIfNeeded: events[index].data.u32) }
        return Int(count)
    }

    @inline(__always)
    mutating func send(_ bytes: UnsafeRawBufferPointer, on connection: Int) throws(CommandFailure) -> Int {
        let sent = Glibc.send(descriptors[connection], bytes.baseAddress, bytes.count, Int32(MSG_NOSIGNAL))
        if sent >= 0 { return sent }
        let code = errno
        if code == EAGAIN || code == EINTR || code == ENOBUFS { return 0 }
        throw lost(connection, "send", code)
    }

    @inline(__always)
    mutating func receive(into buffer: UnsafeMutableRawBufferPointer, on connection: Int) throws(CommandFailure) -> Int? {
        let received = recv(descriptors[connection], buffer.baseAddress, buffer.count, 0)
        if received > 0 { return received }
        if received == 0 {
            if keepsBoundaries { return 0 }
            throw CommandFailure("\(endpoint) closed connection \(connection + 1) of \(connectionCount)")
        }
        let code = errno
        if code == EAGAIN || code == EINTR { return nil }
        throw lost(connection, "receive", code)
    }

    private func lost(_ connection: Int, _ operation: String, _ code: Int32) -> CommandFailure {
        CommandFailure("\(operation) on connection \(connection + 1) of \(connectionCount) to \(endpoint)", errno: code)
    }
}
