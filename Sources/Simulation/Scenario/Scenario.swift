import DatapathMemory
import EthernetDevice

/// A whole world drawn from one seed: hosts, a network from clean to terrible, programs that connect, push, pop, pause, close and reset, and what goes wrong
/// meanwhile. Everything that comes out of a stream is checked against what was pushed, every frame by the `WireChecker`, and at the end nothing may be left.
public enum Scenario {
    /// What came of a scenario.
    public struct Report: Sendable {
        public let seed: UInt64
        /// What must never happen and did; nil when all went well.
        public let failure: SimulationFailure?
        /// What the scenario was, in a line.
        public let summary: String
        public let mechanisms: Mechanisms
        /// Nanoseconds that passed in the world.
        public let virtualNanoseconds: UInt64
        public let events: UInt64
        /// Bytes that came out of streams.
        public let deliveredBytes: Int
        /// Connections whose programs both ended without an error, and all.
        public let completedConnections: Int
        public let connections: Int
    }

    /// Plays a scenario. The same seed always does the same.
    /// - Parameters:
    ///   - capture: gets every frame; made with `Simulation.captureClock`, closed by the caller.
    ///   - narrate: is told what the programs do.
    public static func run(seed: UInt64, capture: PacketCaptureWriter? = nil, narrate: ((String) -> Void)? = nil) -> Report {
        let run = ScenarioRun(seed: seed, capture: capture, narrate: narrate)
        return run.play()
    }

    /// As `run(seed:capture:narrate:)`, with a capture in a new pcapng file.
    /// - Throws: what making or writing the file fails with.
    public static func run(seed: UInt64, captureFile path: String, narrate: ((String) -> Void)? = nil) throws(DemikernelError) -> Report {
        let writer = try PacketCaptureWriter(path: path, clock: Simulation.captureClock)
        let report = run(seed: seed, capture: writer, narrate: narrate)
        let statistics = writer.close()
        guard statistics.failedWrites == 0, statistics.droppedPackets == 0 else {
            throw DemikernelError(statistics.lastError, .initialize, "the capture file could not be written")
        }
        return report
    }
}
