import EthernetDevice
import Glibc
import MemifDevice
import Testing

/// The other implementation of memif: DPDK's, in Debian's testpmd, which sends every frame back.
@Suite(.serialized, .enabled(if: Testpmd.isUsable, "needs root and dpdk-testpmd: apt-get install dpdk-dev librte-net-memif23 librte-mempool-ring23"))
struct DPDKTests {
    let path = SocketPath()

    @Test func framesGoToDPDKAndBackOurServer() throws {
        let server = try End(.server, path)
        let testpmd = try Testpmd(role: "client", path)
        defer { testpmd.stop() }
        try exchange(server)
    }

    @Test func framesGoToDPDKAndBackOurClient() throws {
        let testpmd = try Testpmd(role: "server", path)
        let client = try End(.client, path)
        try exchange(client)
        // Killed, it is noticed; started again, it is found.
        testpmd.stop()
        #expect(settle([client]) { !client.isUp })
        unlink(path.text)
        let again = try Testpmd(role: "server", path)
        defer { again.stop() }
        try exchange(client)
        #expect(client.statistics.linksUp == 2)
    }

    private func exchange(_ end: End) throws {
        try #require(settle([end]) { end.isUp })
        // testpmd begins to forward when its port is up; what comes before is lost.
        var isForwarding = false
        for _ in 0..<2_000 where !isForwarding {
            _ = end.send(pattern(60, seed: 77))
            isForwarding = !receive(end, atLeast: 1, milliseconds: 10).isEmpty
        }
        try #require(isForwarding)
        while !receive(end, atLeast: 1, milliseconds: 200).isEmpty {}
        for round in 0..<20 {
            let frames = (0..<30).map { pattern(60 + (round * 30 + $0) * 31 % 1_455, seed: round + $0) }
            for (number, frame) in frames.enumerated() { #expect(end.send(frame, segments: number % 2 == 0 ? [] : [14, 20])) }
            #expect(receive(end, atLeast: frames.count, milliseconds: 10_000) == frames, "round \(round)")
        }
    }

    /// Sleeps until the peer signals, so that it has the processor, until so many frames are there or nothing comes for that long.
    private func receive(_ end: End, atLeast count: Int, milliseconds: Int32) -> [[UInt8]] {
        var frames: [[UInt8]] = []
        while frames.count < count {
            let descriptor = end.device.prepareToSleep()
            let more = end.collect()
            frames += more
            guard more.isEmpty else { continue }
            var watched = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
            if poll(&watched, 1, milliseconds) == 0 { return frames }
        }
        return frames
    }
}

/// `dpdk-testpmd` with one memif port, from which every frame goes back as it is.
private final class Testpmd {
    private let process: pid_t
    private let input: Int32
    private var isRunning = true

    static var isUsable: Bool { getuid() == 0 && access("/usr/bin/dpdk-testpmd", X_OK) == 0 }

    init(role: String, _ path: SocketPath) throws {
        var ends: [Int32] = [-1, -1]
        socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0, &ends)
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        // It reads its input to the end, and then stops.
        posix_spawn_file_actions_adddup2(&actions, ends[0], STDIN_FILENO)
        posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0)
        posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0)
        let arguments: [String] = [
            "dpdk-testpmd", "--no-huge", "-m", "128", "--no-telemetry", "--no-pci", "--no-shconf", "--lcores", "0,1",
            "--vdev=net_memif0,role=\(role),socket=\(path.text),socket-abstract=no,id=0", "--", "--forward-mode=io", "--auto-start", "--total-num-mbufs=2048",
        ]
        let words = arguments.map { strdup($0) }
        defer { for word in words { free(word) } }
        var process = pid_t()
        let error = posix_spawn(&process, "/usr/bin/dpdk-testpmd", &actions, nil, words + [nil], environ)
        close(ends[0])
        input = ends[1]
        self.process = process
        #expect(error == 0)
    }

    deinit {
        stop()
        close(input)
    }

    func stop() {
        guard isRunning else { return }
        isRunning = false
        kill(process, SIGKILL)
        while waitpid(process, nil, 0) < 0, errno == EINTR {}
    }
}
