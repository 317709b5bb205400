import CLinux
import Glibc

/// The bare ring in shared memory: what two processors need to tell each other something, and nothing else.
final class BareRingPingPong: RoundDriver {
    private var ring = bare_ring()
    private let samples: RoundSamples
    private static let capacity = 1 << 20

    /// Starts the process that echoes, stopped.
    init(processor: Int, _ samples: RoundSamples) throws(CommandFailure) {
        self.samples = samples
        guard bare_ring_start(&ring, Int32(processor)) == 0 else { throw CommandFailure("start a process for the bare ring", errno: errno) }
        kill(process, SIGSTOP)
    }

    deinit { bare_ring_stop(&ring) }

    var process: pid_t { ring.process }

    /// To be called while the process runs.
    func run(for duration: UInt64) throws(CommandFailure) -> RoundResult {
        let start = MonotonicClock.now()
        var count = 0
        try samples.fill(Self.capacity) { (room) throws(CommandFailure) in
            count = Int(bare_ring_run(&ring, duration, room.baseAddress!.assumingMemoryBound(to: UInt32.self), Int32(Self.capacity)))
            guard count > 0 else { throw CommandFailure("a message came back changed from the bare ring") }
        }
        samples.truncate(to: count)
        return samples.result(elapsed: MonotonicClock.now() - start)
    }

    private static let probeDuration: UInt64 = 2_000_000
    private static let probeTrips = 1_000
    private static let probeAttempts = 50

    /// How long a round trip takes when both processes are on their processors, in nanoseconds; starts and stops the process.
    func measurePlacement() throws(CommandFailure) -> Double {
        kill(process, SIGCONT)
        defer { kill(process, SIGSTOP) }
        var result = try run(for: Self.probeDuration)
        // On a busy machine one of them may be waiting for its turn.
        for _ in 1..<Self.probeAttempts where result.completed < Self.probeTrips { result = try run(for: Self.probeDuration) }
        return Double(result.latencies.valueAtPercentile(25))
    }
}
