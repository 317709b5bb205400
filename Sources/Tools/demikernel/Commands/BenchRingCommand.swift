import ArgumentParser
import CLinux
import Demikernel
import Glibc

struct BenchRingCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "ring",
        abstract: "Measure what catmem costs over a bare ring in shared memory.",
        discussion: """
            Messages of 64 bytes go to another process and back, one at a time: through bare rings in C, which do nothing else, and through catmem between \
            this process and `demikernel echo`. The two take turns in short rounds, on the same two processors, both sides spinning.

            EXAMPLE
              demikernel bench ring --duration 4
            """)

    @Option(help: ArgumentHelp("Seconds of each of the two.", valueName: "seconds"))
    var duration = 2.0

    @Flag(help: "Print JSON instead of a table.")
    var json = false

    private static let roundNanoseconds: UInt64 = 50_000_000
    private static let capacity = 1_000_000
    private static let messageByteCount = 64
    private static let patience = Duration.seconds(10)

    func validate() throws {
        guard duration >= 0.1, duration <= 600 else { throw ValidationError("--duration must be 0.1 to 600 seconds") }
    }

    func run() throws {
        Interruption.watch()
        guard let processors = ProcessorPinning.separatePair() else {
            throw CommandFailure("this process may use one processor only, and two that spin need one each")
        }
        var bare = bare_ring()
        guard bare_ring_start(&bare, Int32(processors.first)) == 0 else { throw CommandFailure("start a process for the bare ring", errno: errno) }
        defer { bare_ring_stop(&bare) }
        kill(bare.process, SIGSTOP)
        let folder = try TemporaryFolder()
        let path = folder.file("ring.sock")
        let server = try ServerProcess(
            name: "catmem", arguments: ["echo", "--libos", "catmem", "--path", path, "--idle", "spin", "--cpu", "\(processors.first)"])
        defer { server.stop() }
        _ = try server.waitUntilReady()
        try ProcessorPinning.pin(to: processors.second)

        var configuration = RuntimeConfiguration()
        configuration.idle = .spin
        let runtime = try Runtime(configuration, libraryOSes: [.catmem])
        let queue = try runtime.socket(.path, .stream)
        let connected = try runtime.wait(try runtime.connect(queue, to: try SocketAddress(path: path)), timeout: Self.patience)
        if case .failed(let error, _) = consume connected.result { throw CommandFailure("connect to \(path): \(error)") }

        let samples = UnsafeMutableBufferPointer<UInt32>.allocate(capacity: Self.capacity)
        defer { samples.deallocate() }
        var result = RingComparison()
        let rounds = max(1, Int(duration * 1e9) / Int(Self.roundNanoseconds))
        let start = MonotonicClock.now()
        let ownStart = ProcessorTime.usedByThisThread()
        for round in -2..<rounds where !Interruption.isRequested {
            kill(server.process, SIGSTOP)
            kill(bare.process, SIGCONT)
            let bareCount = Int(bare_ring_run(&bare, Self.roundNanoseconds, samples.baseAddress, Int32(Self.capacity)))
            kill(bare.process, SIGSTOP)
            guard bareCount > 0 else { throw CommandFailure("a message came back changed from the bare ring") }
            let bareRound = RingComparison.Round(samples[..<bareCount])
            kill(server.process, SIGCONT)
            let count = try Self.pingPong(runtime, queue, samples)
            // The first rounds warm up.
            if round >= 0 { result.rounds.append((bareRound, RingComparison.Round(samples[..<count]))) }
        }
        result.ownShare = Double(ProcessorTime.usedByThisThread() - ownStart) / Double(max(1, MonotonicClock.now() - start))
        guard !result.rounds.isEmpty else { throw ExitCode(Interruption.exitCode) }
        StandardStreams.writeOutput((json ? result.json.text() : result.table) + "\n")
    }

    /// One round through catmem; returns how many round trips it had.
    private static func pingPong(
        _ runtime: borrowing Runtime, _ queue: QueueDescriptor, _ samples: UnsafeMutableBufferPointer<UInt32>
    ) throws(CommandFailure) -> Int {
        do throws(DemikernelError) {
            var count = 0
            var unit = try ScatterGatherArray(runtime.allocate(messageByteCount))
            let start = MonotonicClock.now()
            var before = start
            while count < samples.count, before - start < roundNanoseconds {
                try runtime.push(queue, unit, completion: .discarded)
                let completion = try runtime.wait(runtime.pop(queue), timeout: patience)
                guard case .popped(let array, _) = consume completion.result, array.byteCount == messageByteCount else {
                    throw DemikernelError(EPROTO, .pop, "the server sent something else back, or ended")
                }
                unit = array
                let after = MonotonicClock.now()
                samples[count] = UInt32(truncatingIfNeeded: after - before)
                count += 1
                before = after
            }
            return count
        } catch {
            throw CommandFailure("catmem: \(error)")
        }
    }
}

/// Rounds of the two, pair by pair.
struct RingComparison {
    struct Round {
        let p50: Double
        let p99: Double

        init(_ samples: Slice<UnsafeMutableBufferPointer<UInt32>>) {
            let sorted = samples.sorted()
            p50 = Double(sorted[sorted.count / 2])
            p99 = Double(sorted[sorted.count * 99 / 100])
        }
    }

    var rounds: [(bare: Round, catmem: Round)] = []
    /// How much of a processor this process had.
    var ownShare = 1.0

    /// Sorting the samples of a round takes a part as well.
    private static let leastShare = 0.9

    private func median(_ value: ((bare: Round, catmem: Round)) -> Double) -> Double {
        let sorted = rounds.map(value).sorted()
        return sorted[sorted.count / 2]
    }

    private var rows: [(name: String, p50: Double, p99: Double)] {
        [
            ("bare ring", median(\.bare.p50), median(\.bare.p99)), ("catmem", median(\.catmem.p50), median(\.catmem.p99)),
            ("ratio", median { $0.catmem.p50 / $0.bare.p50 }, median { $0.catmem.p99 / $0.bare.p99 }),
        ]
    }

    var table: String {
        var table = TextTable(["64 bytes there and back", "p50 ns", "p99 ns"])
        for row in rows {
            let places = row.name == "ratio" ? 2 : 0
            table.append([row.name, NumberText.decimal(row.p50, places: places), NumberText.decimal(row.p99, places: places)])
        }
        let note = "medians of \(rounds.count) interleaved rounds, both sides spinning; ratios pair by pair"
        let isBusy = ownShare < Self.leastShare
        let warning = "\nthe machine was busy with other work: this process had a processor for \(NumberText.percent(ownShare)) of the time; take the times with care"
        return "\(table)\n\(note)\(isBusy ? warning : "")"
    }

    var json: JSONValue {
        .object(
            [("version", 1), ("rounds", .integer(rounds.count)), ("processor_share", .number(ownShare))]
                + rows.map { ($0.name == "bare ring" ? "bare_ring" : $0.name, .object([("p50", .number($0.p50)), ("p99", .number($0.p99))])) })
    }
}
