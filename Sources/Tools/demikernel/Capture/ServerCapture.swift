import Demikernel
import Glibc
import Synchronization

/// The capture of a server by its own process, from its first frame to its last: a thread writes what its runtimes send.
///
/// A file that takes no more ends the capture, with a line that says so, and not the server.
final class ServerCapture: Sendable {
    private let path: String
    private let command: String
    private let readers: [Int32]
    /// The runtimes' ends, until they have them.
    private let writers: Mutex<[Int32?]>
    private let thread = Mutex<pthread_t?>(nil)

    /// Makes the file.
    /// - Parameter shards: runtimes whose frames are captured.
    init(path: String, replaces: Bool, shards: Int, command: String) throws(CommandFailure) {
        let file = try CaptureFile(path: path, replaces: replaces, captures: shards)
        var readers: [Int32] = []
        var writers: [Int32?] = []
        for _ in 0..<shards {
            var ends: [Int32] = [-1, -1]
            guard socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0, &ends) == 0 else {
                throw CommandFailure("socketpair", errno: errno)
            }
            // Room for bursts; the kernel grants less than it is asked for where net.core.wmem_max is lower.
            var byteCount: Int32 = 4 << 20
            setsockopt(ends[1], SOL_SOCKET, SO_SNDBUF, &byteCount, socklen_t(MemoryLayout<Int32>.size))
            readers.append(ends[0])
            writers.append(ends[1])
        }
        self.path = path
        self.command = command
        self.readers = readers
        self.writers = Mutex(writers)
        start(file)
    }

    /// Begins with a runtime's frames, on its thread and before its first turn.
    func begin(on runtime: borrowing Runtime, shard: Int) throws(DemikernelError) {
        guard let writer = writers.withLock({ $0[shard].take() }) else { return }
        let error = runtime.core.beginCapture(FrameCaptureRequest(owner: 0, socket: writer))
        // The capture has a copy.
        close(writer)
        guard error == 0 else {
            throw DemikernelError(error, .initialize, "frames are captured on an Ethernet device: --capture needs --libos catnip")
        }
    }

    /// When the runtimes have ended: returns when all is written.
    func finish() {
        guard let thread = thread.withLock({ $0.take() }) else { return }
        // Of runtimes that never began.
        for writer in writers.withLock({ $0 }) {
            if let writer { close(writer) }
        }
        pthread_join(thread, nil)
    }

    private func start(_ file: CaptureFile) {
        final class Body: Sendable {
            let run: @Sendable () -> Void
            init(_ run: @escaping @Sendable () -> Void) { self.run = run }
        }
        let (readers, path, command) = (readers, path, command)
        let body = Body {
            var collector = CaptureCollector(file: file, sockets: readers, duration: nil)
            do throws(CommandFailure) {
                let outcome = try collector.run()
                let dropped = outcome.droppedCount > 0 ? ", \(outcome.droppedCount) not kept" : ""
                StandardStreams.writeError("demikernel \(command): \(outcome.packetCount) packets in \(path)\(dropped)\n")
            } catch {
                StandardStreams.writeError("demikernel \(command): the capture has ended, the server goes on: \(error)\n")
            }
            // A runtime that still captures finds nobody, and drops what it has.
            for reader in readers { close(reader) }
        }
        var thread = pthread_t()
        let result = pthread_create(
            &thread, nil,
            { argument in
                Unmanaged<Body>.fromOpaque(argument!).takeRetainedValue().run()
                return nil
            }, Unmanaged.passRetained(body).toOpaque())
        precondition(result == 0, "no thread could be started")
        self.thread.withLock { $0 = thread }
    }
}
