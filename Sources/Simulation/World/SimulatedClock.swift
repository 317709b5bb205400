import QueueRuntime
import TaskScheduler

/// A host's clock: the world's, with an offset that can jump forward.
final class SimulatedClock {
    private unowned let simulation: Simulation
    private(set) var offset: UInt64

    init(_ simulation: Simulation, offset: UInt64) {
        self.simulation = simulation
        self.offset = offset
    }

    var now: UInt64 { simulation.now &+ offset }

    func jump(_ nanoseconds: UInt64) { offset += nanoseconds }

    /// The world's time at which the clock shows `time`.
    func worldTime(_ time: UInt64) -> UInt64 { time > offset ? time - offset : 0 }

    /// The clock for a runtime. It must live as long as the runtime.
    var runtimeClock: RuntimeClock {
        RuntimeClock(
            injected: { Unmanaged<SimulatedClock>.fromOpaque($0.unsafelyUnwrapped).takeUnretainedValue().now },
            context: Unmanaged.passUnretained(self).toOpaque())
    }
}
