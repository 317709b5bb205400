import CLinux
import Glibc

/// The tie between a server that the demonstration starts and the demonstration.
enum ParentProcess {
    /// Ends this process when its parent, `process`, ends, however that happens. SIGKILL, because a stopped process would not heed anything milder.
    static func endTogether(with process: pid_t) {
        _ = linux_signal_on_parent_exit(SIGKILL)
        // It may have ended before the call.
        if getppid() != process { _exit(1) }
    }
}
