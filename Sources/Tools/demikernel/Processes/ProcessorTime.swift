import CLinux
import Glibc

/// The processor time that a process has used.
enum ProcessorTime {
    /// Nanoseconds over all threads of `process`, or nil when there is no such process.
    static func used(by process: pid_t) -> UInt64? {
        var clock = clockid_t()
        var time = timespec()
        guard clock_getcpuclockid(process, &clock) == 0, clock_gettime(clock, &time) == 0 else { return nil }
        return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
    }

    /// Nanoseconds used by the calling thread.
    static func usedByThisThread() -> UInt64 {
        var time = timespec()
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
        return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
    }

    /// Nanoseconds that the calling thread has spent in the kernel.
    static func usedByThisThreadInKernel() -> UInt64 {
        linux_thread_kernel_nanoseconds()
    }
}
