#if canImport(CLinux)
import CLinux
#endif
import Glibc

/// Binds threads to processors.
enum ProcessorPinning {
    /// Binds the calling thread, and those it starts later, to one processor.
    static func pin(to processor: Int) throws(CommandFailure) {
        #if canImport(CLinux)
        guard linux_bind_to_processor(Int32(clamping: processor)) == 0 else {
            throw CommandFailure("bind to processor \(processor) (this thread may use: \(allowed.map(String.init).joined(separator: ", ")))", errno: errno)
        }
        #endif
    }

    /// The processors that this thread may run on.
    static var allowed: [Int] {
        #if canImport(CLinux)
        var numbers = [Int32](repeating: 0, count: 1024)
        let count = linux_allowed_processors(&numbers, Int32(numbers.count))
        return numbers[..<Int(count)].map(Int.init)
        #else
        return Array(0..<sysconf(Int32(_SC_NPROCESSORS_ONLN)))
        #endif
    }
}
