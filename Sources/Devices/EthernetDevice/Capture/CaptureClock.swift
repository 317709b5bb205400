import Glibc

/// Where the times of a capture come from: a C-convention function and its context, so that a simulation that gives its own time writes the same bytes
/// in every run.
public struct CaptureClock {
    /// Passed to `now`; nil where it needs nothing.
    public var context: UnsafeMutableRawPointer?
    /// Nanoseconds since 1970-01-01 00:00:00 UTC.
    public var now: @convention(c) (_ context: UnsafeMutableRawPointer?) -> UInt64

    public init(context: UnsafeMutableRawPointer?, now: @escaping @convention(c) (UnsafeMutableRawPointer?) -> UInt64) {
        self.context = context
        self.now = now
    }

    /// The kernel's time of day.
    public static var realTime: CaptureClock {
        CaptureClock(context: nil) { _ in
            var time = timespec()
            clock_gettime(CLOCK_REALTIME, &time)
            return UInt64(bitPattern: Int64(time.tv_sec)) &* 1_000_000_000 &+ UInt64(bitPattern: Int64(time.tv_nsec))
        }
    }
}
