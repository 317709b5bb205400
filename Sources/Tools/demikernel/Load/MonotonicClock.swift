import Glibc

/// Time for measurements: nanoseconds since an arbitrary start, never stepped or slewed (`CLOCK_MONOTONIC_RAW`, read without a system call).
enum MonotonicClock {
    @inline(__always)
    static func now() -> UInt64 {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC_RAW, &time)
        return UInt64(truncatingIfNeeded: time.tv_sec) &* 1_000_000_000 &+ UInt64(truncatingIfNeeded: time.tv_nsec)
    }
}
