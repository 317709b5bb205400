import TaskScheduler

/// Time that moves only when the script says so.
final class VirtualClock {
    private(set) var now: UInt64

    init(now: UInt64) {
        self.now = now
    }

    /// Moves the clock.
    /// - Returns: false when it would go back.
    func move(to time: UInt64) -> Bool {
        guard time >= now else { return false }
        now = time
        return true
    }

    /// The clock as a runtime reads it. Whoever makes it keeps this object alive as long as the runtime.
    func makeRuntimeClock() -> RuntimeClock {
        RuntimeClock(
            injected: { Unmanaged<VirtualClock>.fromOpaque($0.unsafelyUnwrapped).takeUnretainedValue().now },
            context: Unmanaged.passUnretained(self).toOpaque())
    }
}
