#if canImport(CLinux)
import CLinux
#endif
import Glibc

/// The tie between a server that the demonstration starts and the demonstration.
enum ParentProcess {
    /// Ends this process when its parent ends, however that happens. SIGKILL, because a stopped process would not heed anything milder.
    static func endTogether() {
        #if canImport(CLinux)
        _ = linux_signal_on_parent_exit(SIGKILL)
        #endif
        // A parent that ended before the call has left this process to init.
        if getppid() == 1 { _exit(1) }
    }
}
