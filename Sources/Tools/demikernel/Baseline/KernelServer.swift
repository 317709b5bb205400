import CDatapath
import Glibc

/// The ordinary server over kernel sockets: one thread, epoll, one read and one write per request. The yardstick for the library OSes.
struct KernelServer<Service: KernelService & ~Copyable>: ~Copyable {
    private final class Connection {
        let descriptor: Int32
        let client: Service.Client
        var input = ByteQueue()
        var output = ByteQueue()
        /// What the next request needs before it is worth looking at again.
        var neededInput = 1
        var closesWhenSent = false
        var awaitsWritable = false
        /// Requests that were received, and not handled because the output was full.
        var hasUnhandledInput = false

        init(_ descriptor: Int32, _ client: Service.Client) {
            self.descriptor = descriptor
            self.client = client
        }

        deinit {
            input.deallocate()
            output.deallocate()
            close(descriptor)
        }
    }

    private var service: Service
    private let listener: Int32
    private let epoll: Int32
    private let wakeUp: WakeUp
    private let spins: Bool
    /// By descriptor.
    private var connections: [Connection?] = []
    private(set) var statistics = KernelServerStatistics()

    private static var eventCapacity: Int { 256 }
    private static var receiveRoom: Int { 16 * 1024 }

    /// Takes over `listener`, a listening socket.
    ///
    /// - Parameters:
    ///   - spins: poll without sleeping.
    ///   - wakeUp: ends `run`.
    init(_ service: consuming Service, listener: Int32, spins: Bool, wakeUp: WakeUp) throws(CommandFailure) {
        self.service = service
        self.listener = listener
        self.spins = spins
        self.wakeUp = wakeUp
        epoll = epoll_create1(Int32(EPOLL_CLOEXEC))
        guard epoll >= 0 else { throw CommandFailure("epoll_create1", errno: errno) }
        watch(EPOLL_CTL_ADD, listener, EPOLLIN)
        watch(EPOLL_CTL_ADD, wakeUp.descriptor, EPOLLIN)
    }

    deinit {
        close(epoll)
        close(listener)
    }

    /// Serves until `wakeUp` is signalled.
    mutating func run() throws(CommandFailure) {
        let events = UnsafeMutableBufferPointer<epoll_event>.allocate(capacity: Self.eventCapacity)
        defer { events.deallocate() }
        while true {
            let count = epoll_wait(epoll, events.baseAddress, Int32(events.count), spins ? 0 : -1)
            if count < 0 && errno != EINTR { throw CommandFailure("epoll_wait", errno: errno) }
            for index in 0..<max(0, Int(count)) {
                let descriptor = events[index].data.fd
                if descriptor == listener {
                    acceptAll()
                } else if descriptor == wakeUp.descriptor {
                    return
                } else if let connection = connections[Int(descriptor)], !serve(connection) {
                    connections[Int(descriptor)] = nil
                    statistics.closed += 1
                }
            }
        }
    }

    private mutating func acceptAll() {
        while true {
            let descriptor = accept(listener, nil, nil)
            // Out of descriptors, or a peer that has gone again: the others are served on.
            guard descriptor >= 0 else { return }
            var on: Int32 = 1
            setsockopt(descriptor, Int32(IPPROTO_TCP), TCP_NODELAY, &on, socklen_t(MemoryLayout<Int32>.size))
            _ = fcntl(descriptor, F_SETFL, O_NONBLOCK)
            _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC)
            while connections.count <= Int(descriptor) { connections.append(nil) }
            connections[Int(descriptor)] = Connection(descriptor, service.makeClient())
            watch(EPOLL_CTL_ADD, descriptor, EPOLLIN)
            statistics.accepted += 1
        }
    }

    /// Goes on with a connection that is readable or writable; false when it is over.
    private mutating func serve(_ connection: Connection) -> Bool {
        if !connection.output.isEmpty {
            guard send(connection) else { return false }
            // Nothing is read from a peer that does not take its replies.
            guard connection.output.isEmpty else { return true }
        }
        if connection.hasUnhandledInput {
            guard handleInput(connection) else { return false }
            guard connection.output.isEmpty, !connection.hasUnhandledInput else { return true }
        }
        connection.input.reserve(max(Self.receiveRoom, connection.neededInput - connection.input.count))
        let room = connection.input.room
        let received = recv(connection.descriptor, room.baseAddress, room.count, 0)
        guard received > 0 else { return received < 0 && (errno == EAGAIN || errno == EINTR) }
        statistics.receivedBytes += received
        connection.input.append(received)
        guard connection.input.count >= connection.neededInput else { return true }
        return handleInput(connection)
    }

    /// Handles what has been received and sends the replies, as long as the peer takes them.
    private mutating func handleInput(_ connection: Connection) -> Bool {
        while true {
            let outcome = service.process(connection.input.bytes, connection.client, &connection.output)
            connection.input.removeFirst(outcome.consumed)
            connection.hasUnhandledInput = false
            switch outcome.next {
            case .receive(let minimumTotal):
                connection.neededInput = minimumTotal
                return send(connection)
            case .send:
                guard send(connection) else { return false }
                guard connection.output.isEmpty else {
                    connection.hasUnhandledInput = true
                    return true
                }
            case .close:
                connection.closesWhenSent = true
                return send(connection)
            }
        }
    }

    /// Sends what there is; false when the connection is over.
    private mutating func send(_ connection: Connection) -> Bool {
        while !connection.output.isEmpty {
            let bytes = connection.output.bytes
            let sent = Glibc.send(connection.descriptor, bytes.baseAddress, bytes.count, Int32(MSG_NOSIGNAL))
            if sent < 0 {
                guard errno == EAGAIN || errno == EINTR else { return false }
                break
            }
            statistics.sentBytes += sent
            connection.output.removeFirst(sent)
        }
        let waits = !connection.output.isEmpty
        if waits != connection.awaitsWritable {
            connection.awaitsWritable = waits
            watch(EPOLL_CTL_MOD, connection.descriptor, waits ? EPOLLOUT : EPOLLIN)
        }
        return waits || !connection.closesWhenSent
    }

    private func watch(_ operation: Int32, _ descriptor: Int32, _ events: EPOLL_EVENTS) {
        var event = epoll_event(events: events.rawValue, data: epoll_data_t(fd: descriptor))
        let result = epoll_ctl(epoll, operation, descriptor, &event)
        precondition(result == 0, "an open descriptor can be watched")
    }
}
