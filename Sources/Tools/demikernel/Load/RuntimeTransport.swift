import Demikernel
import Glibc

/// A library OS for the load generator: a runtime of its own, which spins. Units are taken for chunks of a stream.
struct RuntimeTransport: LoadTransport, ~Copyable {
    let connectionCount: Int
    let keepsBoundaries = false
    private let address: SocketAddress
    private let runtime: Runtime
    private let queues: [QueueDescriptor]
    /// The connection of a descriptor's slot.
    private let connectionOfSlot: UnsafeMutableBufferPointer<Int32>
    /// What the pending pop of each connection has brought.
    private let arrived: UnsafeMutableBufferPointer<UnsafeMutablePointer<SegmentDescriptor>?>
    private let hasEnded: UnsafeMutableBufferPointer<Bool>
    /// Connections that have something and were not told yet, each once.
    private let fresh: UnsafeMutableBufferPointer<Int32>
    private let isFresh: UnsafeMutableBufferPointer<Bool>
    private var freshCount = 0
    private var batch = CompletionBatch(capacity: 64)

    /// Bytes that one push takes.
    private static let chunk = 65_536
    private static let patience = Duration.seconds(10)

    /// Connects to the server at `address` through a library OS. Blocks until all connections stand.
    init(_ libraryOS: LibraryOSMaker, to address: SocketAddress, connections: Int) throws(CommandFailure) {
        var configuration = RuntimeConfiguration()
        configuration.idle = .spin
        configuration.limits.maximumQueues = connections + 1
        let runtime: Runtime
        var queues: [QueueDescriptor] = []
        do throws(DemikernelError) {
            runtime = try Runtime(configuration, libraryOSes: [libraryOS])
        } catch {
            throw CommandFailure("\(error)")
        }
        do throws(DemikernelError) {
            for _ in 0..<connections {
                let queue = try runtime.socket(address.family, .stream)
                let completion = try runtime.wait(try runtime.connect(queue, to: address), timeout: Self.patience)
                if case .failed(let error, _) = consume completion.result { throw error }
                _ = try runtime.pop(queue)
                queues.append(queue)
            }
        } catch {
            throw CommandFailure("connect to \(address): \(error)")
        }
        self.runtime = runtime
        self.queues = queues
        self.address = address
        connectionCount = connections
        connectionOfSlot = .allocate(capacity: connections + 2)
        connectionOfSlot.initialize(repeating: 0)
        for (index, queue) in queues.enumerated() { connectionOfSlot[queue.slot] = Int32(index) }
        arrived = .allocate(capacity: connections)
        arrived.initialize(repeating: nil)
        hasEnded = .allocate(capacity: connections)
        hasEnded.initialize(repeating: false)
        fresh = .allocate(capacity: connections)
        isFresh = .allocate(capacity: connections)
        isFresh.initialize(repeating: false)
    }

    deinit {
        for array in arrived { array?.releaseArray() }
        for queue in queues { try? runtime.close(queue) }
        arrived.deallocate()
        hasEnded.deallocate()
        fresh.deallocate()
        isFresh.deallocate()
        connectionOfSlot.deallocate()
    }

    mutating func poll(into ready: UnsafeMutableBufferPointer<Int32>) -> Int {
        takeArrivals()
        let count = freshCount
        for position in 0..<count {
            let connection = fresh[position]
            ready[position] = connection
            isFresh[Int(connection)] = false
        }
        freshCount = 0
        return count
    }

    /// One turn: takes what the pending pops have brought.
    private mutating func takeArrivals() {
        do throws(DemikernelError) {
            try runtime.waitNext(into: &batch, timeout: .zero)
        } catch {
            return
        }
        while let completion = batch.next() {
            let connection = connectionOfSlot[completion.queue.slot]
            switch consume completion.result {
            case .popped(let array, _): arrived[Int(connection)] = array.takeOver()
            default: hasEnded[Int(connection)] = true
            }
            guard !isFresh[Int(connection)] else { continue }
            isFresh[Int(connection)] = true
            fresh[freshCount] = connection
            freshCount += 1
        }
    }

    mutating func send(_ bytes: UnsafeRawBufferPointer, on connection: Int) throws(CommandFailure) -> Int {
        let count = min(bytes.count, Self.chunk)
        do throws(DemikernelError) {
            let buffer = try runtime.allocate(count)
            buffer.address.copyMemory(from: bytes.baseAddress!, byteCount: count)
            try runtime.push(queues[connection], buffer, completion: .discarded)
            return count
        } catch {
            if error.errno == EAGAIN || error.errno == ENOBUFS { return 0 }
            throw CommandFailure("send on connection \(connection + 1) of \(connectionCount) to \(address): \(error)")
        }
    }

    mutating func receive(into buffer: UnsafeMutableRawBufferPointer, on connection: Int) throws(CommandFailure) -> Int? {
        // The caller need not have polled.
        if arrived[connection] == nil { takeArrivals() }
        guard let array = arrived[connection] else {
            guard hasEnded[connection] else { return nil }
            throw CommandFailure("\(address) closed connection \(connection + 1) of \(connectionCount), or died")
        }
        arrived[connection] = nil
        // The generator's buffer holds the largest unit that there is.
        let count = array.arrayByteCount
        array.copyArray(to: buffer.baseAddress!)
        array.releaseArray()
        do throws(DemikernelError) {
            _ = try runtime.pop(queues[connection], maximumBytes: buffer.count)
        } catch {
            throw CommandFailure("receive on connection \(connection + 1) of \(connectionCount) to \(address): \(error)")
        }
        return count
    }
}
