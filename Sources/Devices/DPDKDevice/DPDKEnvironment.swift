#if DPDK
import CDPDK
import DatapathMemory
import Glibc

/// DPDK's environment abstraction layer (EAL): one for a process, which the first device starts.
///
/// It lives as long as the process, and leaves nothing behind: no file, no huge page, no socket. What it and its drivers log is not printed.
enum DPDKEnvironment {
    /// - Throws: what EAL ended with, at each call again: it cannot be started twice in one process.
    static func start() throws(DemikernelError) {
        let usesHugePages = freeHugePageByteCount() >= DPDKConfiguration.environmentByteCount
        let arguments = [
            "demikernel", "--no-telemetry", "--no-pci", "-m", "\(DPDKConfiguration.environmentByteCount >> 20)",
            // The program's thread stays where it is; EAL just wants to be told of a core.
            "--lcores", "0@\(dpdk_this_processor())", "--file-prefix", "demikernel-\(getpid())",
        ] + (usesHugePages ? ["--in-memory", "--single-file-segments"] : ["--no-huge", "--no-shconf"])
        let copies = arguments.map { strdup($0) }
        defer { copies.forEach { free($0) } }
        let pointers = copies.map { UnsafePointer<CChar>($0) }
        let result = pointers.withUnsafeBufferPointer { dpdk_start(Int32($0.count), $0.baseAddress) }
        guard result == 0 else { throw DemikernelError(-result, .initialize, message(-result)) }
    }

    /// Bytes in huge pages of 2 MiB that nobody has.
    private static func freeHugePageByteCount() -> Int {
        guard let file = fopen("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "re") else { return 0 }
        defer { fclose(file) }
        var text = [CChar](repeating: 0, count: 32)
        guard fgets(&text, Int32(text.count), file) != nil else { return 0 }
        return strtol(text, nil, 10) << 21
    }

    private static func message(_ code: Int32) -> StaticString {
        switch code {
        case ENOMEM: "DPDK did not get its 128 MiB: free memory, or raise the limit with `ulimit -v`"
        case EACCES, EPERM: "DPDK was refused its memory: run it with sudo, or give back the huge pages with `sysctl vm.nr_hugepages=0`"
        case ENOTSUP: "DPDK does not run on this processor: it needs SSE 4.2"
        default: "DPDK's environment (EAL) did not start: `dpdk-testpmd --no-huge --no-pci -m 128` shows whether the installation works"
        }
    }
}
#endif
