import CLinux
import Glibc
import Testing

/// Why tests with network interfaces are skipped here; nil where they run.
let reasonToSkip: Comment? = {
    if geteuid() != 0 { return "needs root: network namespaces of its own" }
    if access("/dev/net/tun", R_OK | W_OK) != 0 { return "needs /dev/net/tun" }
    if Shell.run("ip -Version").status != 0 { return "needs iproute2: apt-get install iproute2" }
    return nil
}()

/// A command line, run to its end by the shell, in the network namespace of the calling thread.
enum Shell {
    struct Result {
        var status: Int32
        /// What it wrote, to its output and its errors together.
        var output: String
    }

    static func run(_ command: String) -> Result {
        guard let pipe = popen("( \(command) ) 2>&1 </dev/null", "re") else { return Result(status: -1, output: "popen failed") }
        var bytes: [UInt8] = []
        var piece = [UInt8](repeating: 0, count: 4096)
        while case let count = fread(&piece, 1, piece.count, pipe), count > 0 { bytes += piece[..<count] }
        return Result(status: pclose(pipe) >> 8, output: String(decoding: bytes, as: UTF8.self))
    }

    /// Runs commands that have to succeed.
    static func check(_ commands: String..., sourceLocation: SourceLocation = #_sourceLocation) throws {
        for command in commands {
            let result = run(command)
            try #require(result.status == 0, "\(command): \(result.output)", sourceLocation: sourceLocation)
        }
    }

    /// A folder of the test's own.
    static func makeFolder() throws -> String {
        var template = Array("/tmp/demikernel-test-XXXXXX".utf8CString)
        guard let made = template.withUnsafeMutableBufferPointer({ mkdtemp($0.baseAddress!).map { String(cString: $0) } }) else {
            throw SystemFailure(call: "mkdtemp", errno: errno)
        }
        return made
    }

    static func has(_ program: String) -> Bool { run("command -v \(program)").status == 0 }
}

/// Runs `body` on a thread of its own in a new network namespace with loopback alone. The namespace and all that is made in it vanish at the end.
func inNetworkNamespace(_ body: @escaping () throws -> Void) throws {
    var failure: (any Error)?
    let thread = OwnThread {
        do {
            guard linux_unshare_network() == 0 else { throw SystemFailure(call: "unshare", errno: errno) }
            try Shell.check("ip link set lo up")
            try body()
        } catch {
            failure = error
        }
    }
    thread.join()
    if let failure { throw failure }
}

struct SystemFailure: Error, CustomStringConvertible {
    let call: String
    let errno: Int32

    var description: String { "\(call): \(String(cString: strerror(errno)))" }
}

/// A kernel thread that runs one closure. It has to be joined.
struct OwnThread {
    private var thread = pthread_t()

    init(_ body: @escaping () -> Void) {
        final class Body {
            let run: () -> Void
            init(_ run: @escaping () -> Void) { self.run = run }
        }
        let context = Unmanaged.passRetained(Body(body)).toOpaque()
        let error = pthread_create(
            &thread, nil,
            { context in
                Unmanaged<Body>.fromOpaque(context!).takeRetainedValue().run()
                return nil
            }, context)
        precondition(error == 0, "no thread can be made")
    }

    func join() {
        pthread_join(thread, nil)
    }
}

/// Something that one thread waits for and another one tells.
final class Signal: @unchecked Sendable {
    // Unchecked: a semaphore is made to be shared.
    private let semaphore = UnsafeMutablePointer<sem_t>.allocate(capacity: 1)

    init() { sem_init(semaphore, 0, 0) }

    deinit {
        sem_destroy(semaphore)
        semaphore.deallocate()
    }

    func raise() { sem_post(semaphore) }

    func wait() { while sem_wait(semaphore) != 0 {} }
}
