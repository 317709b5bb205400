import Demikernel
import Glibc
import SharedMemoryQueues
import Testing

/// Long enough for anything between two processes, and short enough that a lost event fails the test.
let generous = Duration.seconds(20)

/// A folder of the test's own, removed at its end with what is left in it.
final class Folder {
    let path: String

    init() {
        var template = Array("/tmp/catmem-XXXXXX".utf8CString)
        path = template.withUnsafeMutableBufferPointer { String(cString: mkdtemp($0.baseAddress!)!) }
    }

    deinit {
        if let folder = opendir(path) {
            while let entry = readdir(folder) {
                let name = withUnsafePointer(to: &entry.pointee.d_name) { $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) } }
                if name != ".", name != ".." { unlink("\(path)/\(name)") }
            }
            closedir(folder)
        }
        rmdir(path)
    }

    func file(_ name: String = "x.sock") -> String { "\(path)/\(name)" }

    /// The address of a file in it.
    func address(_ name: String = "x.sock") -> SocketAddress {
        do { return try SocketAddress(path: file(name)) } catch { preconditionFailure("\(error)") }
    }

    func exists(_ name: String = "x.sock") -> Bool { access(file(name), F_OK) == 0 }
}

/// A runtime over shared memory, with a small heap, and its library OS's counts.
struct World: ~Copyable {
    let runtime: Runtime
    private let libraryOS: LibraryOS

    /// - Parameter directory: where sockets with IP addresses stand.
    init(directory: String = SharedMemoryQueues.standardDirectory, _ change: (inout RuntimeConfiguration) -> Void = { _ in }) throws(DemikernelError) {
        var configuration = RuntimeConfiguration()
        configuration.memory.arenaByteCount = 8 << 20
        configuration.memory.commitsAtStart = false
        configuration.limits.maximumQueues = 256
        configuration.limits.sharedRingByteCount = 1 << 16
        configuration.seed = 42
        change(&configuration)
        let made = Box(directory)
        runtime = try Runtime(configuration, making: [made.make])
        libraryOS = made.libraryOS!
    }

    private final class Box {
        let directory: String
        var libraryOS: LibraryOS?

        init(_ directory: String) {
            self.directory = directory
        }

        func make(_ core: RuntimeCore) throws(DemikernelError) -> LibraryOS {
            let made = try SharedMemoryQueues.make(for: core, directory: directory)
            libraryOS = made
            return made
        }
    }

    var statistics: SharedMemoryQueuesStatistics { SharedMemoryQueues.statistics(of: libraryOS) }
}

/// What a completion said, in a form that can be compared.
enum Outcome: Equatable {
    case pushed(Int)
    case popped([UInt8])
    case endOfStream, accepted, connected, closed
    case failed(Int32)

    var isPopped: Bool { if case .popped = self { true } else { false } }
}

func outcome(_ result: consuming OperationResult) -> Outcome {
    switch consume result {
    case .pushed(let byteCount): return .pushed(byteCount)
    case .popped(let array, _): return .popped(bytes(array))
    case .endOfStream: return .endOfStream
    case .accepted: return .accepted
    case .connected: return .connected
    case .closed: return .closed
    case .failed(let error, _): return .failed(error.errno)
    }
}

func bytes(_ array: borrowing ScatterGatherArray) -> [UInt8] {
    [UInt8](unsafeUninitializedCapacity: array.byteCount) { storage, count in
        count = array.copyBytes(to: UnsafeMutableRawBufferPointer(storage))
    }
}

/// What a call refused; nil when it did not.
func refusal(_ body: () throws(DemikernelError) -> Void) -> DemikernelError? {
    do throws(DemikernelError) {
        try body()
        return nil
    } catch {
        return error
    }
}

/// The ends of a connection.
struct Connection {
    var listener, client, server: QueueDescriptor
}

/// Bytes that differ from those of other seeds.
func pattern(_ count: Int, seed: Int = 0) -> [UInt8] { (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ seed &* 7 &+ 1) } }

extension Runtime {
    func push(_ queue: QueueDescriptor, bytes: [UInt8]) throws(DemikernelError) -> QueueToken { try push(queue, allocate(copying: bytes.span)) }

    /// Waits, and says what came.
    func result(_ token: QueueToken, timeout: Duration? = generous) throws(DemikernelError) -> Outcome {
        let completion = try wait(token, timeout: timeout)
        return outcome(consume completion.result)
    }

    func listener(_ address: SocketAddress, backlog: Int = 16) throws(DemikernelError) -> QueueDescriptor {
        let queue = try socket(address.family, .stream)
        do throws(DemikernelError) {
            try bind(queue, to: address)
            try listen(queue, backlog: backlog)
        } catch {
            try close(queue)
            throw error
        }
        return queue
    }

    /// Takes one connection of a listener.
    func accepted(_ token: QueueToken) throws(DemikernelError) -> QueueDescriptor {
        let completion = try wait(token, timeout: generous)
        switch consume completion.result {
        case .accepted(let queue, _): return queue
        case .failed(let error, _): throw error
        default: throw DemikernelError(EPROTO, .accept)
        }
    }

    func connected(_ address: SocketAddress) throws(DemikernelError) -> QueueDescriptor {
        let queue = try socket(address.family, .stream)
        let completion = try wait(connect(queue, to: address), timeout: generous)
        switch consume completion.result {
        case .connected: return queue
        case .failed(let error, _):
            try close(queue)
            throw error
        default: throw DemikernelError(EPROTO, .connect)
        }
    }

    /// A connection within the runtime.
    func connection(_ address: SocketAddress) throws(DemikernelError) -> Connection {
        let listener = try listener(address)
        let client = try connected(address)
        return Connection(listener: listener, client: client, server: try accepted(accept(listener)))
    }

    /// Takes turns until something holds, but not for ever.
    func turns(until condition: () -> Bool) throws(DemikernelError) {
        let end = now + 20_000_000_000
        // A wait for something that never comes: it takes turns until its time is up.
        let idle = try queue()
        let never = try pop(idle)
        while !condition() {
            guard now < end else { throw DemikernelError(ETIMEDOUT, .wait, "what the test waits for did not happen") }
            _ = try? wait(never, timeout: .milliseconds(1))
        }
        try close(idle)
        _ = try wait(never)
    }
}
