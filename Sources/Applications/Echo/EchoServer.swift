import Demikernel
import Glibc

/// Sends back what it receives: over TCP byte for byte, over UDP datagram for datagram. The buffers that are popped are the ones that are pushed.
public struct EchoServer: ~Copyable {
    /// The transport.
    public enum Transport: String, Sendable, CaseIterable {
        case tcp, udp
    }

    private let transport: Transport
    private let address: SocketAddress
    private let socketOptions: [SocketOption]
    /// An accept that failed for want of descriptors is tried again when a connection has closed.
    private var isAcceptPaused = false
    /// Arrays sent back.
    public private(set) var echoCount: UInt64 = 0
    /// Connections that ended with an error, a reset by the peer mostly.
    public private(set) var failureCount: UInt64 = 0

    /// - Parameter socketOptions: set on the listening socket; connections have the options of their listener.
    public init(_ transport: Transport, listen address: SocketAddress, socketOptions: [SocketOption] = []) {
        self.transport = transport
        self.address = address
        self.socketOptions = socketOptions
    }

    /// Serves until the runtime is interrupted. It takes every completion that nobody claimed.
    /// - Parameter whenReady: called once with the address, its port filled in.
    /// - Throws: what `bind` and `listen` throw.
    public mutating func run(on runtime: borrowing Runtime, whenReady: (SocketAddress) -> Void) throws(DemikernelError) {
        let queue = try runtime.socket(address.family, transport == .tcp ? .stream : .datagram)
        do {
            for option in socketOptions { try runtime.setOption(option, on: queue) }
            try runtime.bind(queue, to: address)
            if transport == .tcp {
                try runtime.listen(queue, backlog: 1024)
                _ = try runtime.accept(queue)
            } else {
                _ = try runtime.pop(queue)
            }
            whenReady(try runtime.localAddress(queue))
            try serve(queue, on: runtime)
        } catch {
            try? runtime.close(queue)
            throw error
        }
        try runtime.close(queue)
    }

    private mutating func serve(_ server: QueueDescriptor, on runtime: borrowing Runtime) throws(DemikernelError) {
        var batch = CompletionBatch(capacity: 64)
        while true {
            do throws(DemikernelError) {
                try runtime.waitNext(into: &batch)
            } catch {
                if error.errno == EINTR { return }
                throw error
            }
            while let completion = batch.next() {
                handle(completion, server, on: runtime)
            }
        }
    }

    private mutating func handle(_ completion: consuming Completion, _ server: QueueDescriptor, on runtime: borrowing Runtime) {
        let queue = completion.queue
        do throws(DemikernelError) {
            switch consume completion.result {
            case .accepted(let connection, _):
                _ = try runtime.pop(connection)
                _ = try runtime.accept(server)
            case .popped(let array, let peer):
                echoCount += 1
                if transport == .udp, let peer {
                    try runtime.pushTo(queue, array, peer, completion: .discarded)
                    _ = try runtime.pop(queue)
                } else {
                    // The next pop follows the push: a peer that does not read is not read from.
                    _ = try runtime.push(queue, array)
                }
                runtime.noteReply(toRequestAt: runtime.core.now)
            case .pushed:
                _ = try runtime.pop(queue)
            case .failed(let error, _):
                throw error
            case .endOfStream:
                closeConnection(queue, server, on: runtime)
            // The server issues no connect and no close token.
            case .connected: break
            case .closed: break
            }
        } catch {
            failureCount += 1
            recover(queue, server, on: runtime)
        }
    }

    /// A connection that failed is closed; the listener, and a datagram socket, go on.
    private mutating func recover(_ queue: QueueDescriptor, _ server: QueueDescriptor, on runtime: borrowing Runtime) {
        if queue != server {
            closeConnection(queue, server, on: runtime)
        } else if transport == .tcp {
            isAcceptPaused = true
        } else {
            _ = try? runtime.pop(server)
        }
    }

    private mutating func closeConnection(_ queue: QueueDescriptor, _ server: QueueDescriptor, on runtime: borrowing Runtime) {
        try? runtime.close(queue)
        if isAcceptPaused, (try? runtime.accept(server)) != nil { isAcceptPaused = false }
    }
}
