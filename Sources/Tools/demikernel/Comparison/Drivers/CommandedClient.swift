import Glibc

/// A client in C (Benchmarks/Baselines/udp-load-xdp.c) in a process of its own: told of each round, it answers with what it has measured.
final class CommandedClient: RoundDriver {
    private let client: ServerProcess
    private let window: Int
    private let samples: RoundSamples

    /// Words in front of the samples: round trips, nanoseconds of the round and of processor time, losses, samples.
    private static let wordCount = 5

    init(_ client: ServerProcess, window: Int, _ samples: RoundSamples) {
        self.client = client
        self.window = window
        self.samples = samples
    }

    var runsOnThisThread: Bool { false }

    func run(for duration: UInt64) throws(CommandFailure) -> RoundResult {
        try client.write("\(window) \(duration)")
        let words = UnsafeMutableBufferPointer<UInt64>.allocate(capacity: Self.wordCount)
        defer { words.deallocate() }
        try client.read(into: UnsafeMutableRawBufferPointer(words))
        try samples.fill(Int(clamping: words[4])) { (room) throws(CommandFailure) in try client.read(into: room) }
        var result = samples.result(elapsed: words[1])
        result.completed = Int(clamping: words[0])
        result.lost = Int(clamping: words[3])
        result.generatorShare = Double(words[2]) / Double(max(1, words[1]))
        return result
    }
}
