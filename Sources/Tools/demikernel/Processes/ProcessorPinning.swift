import CLinux
import Glibc

/// Binds threads to processors.
enum ProcessorPinning {
    /// Binds the calling thread, and those it starts later, to one processor.
    static func pin(to processor: Int) throws(CommandFailure) {
        guard linux_bind_to_processor(Int32(clamping: processor)) == 0 else {
            throw CommandFailure("bind to processor \(processor) (this thread may use: \(allowed.map(String.init).joined(separator: ", ")))", errno: errno)
        }
    }

    /// The processors that this thread may run on.
    static var allowed: [Int] {
        var numbers = [Int32](repeating: 0, count: 1024)
        let count = linux_allowed_processors(&numbers, Int32(numbers.count))
        return numbers[..<Int(count)].map(Int.init)
    }

    /// Two processors for two threads that both spin, on different cores where there are any; nil when this thread may use one processor only.
    static func separatePair() -> (first: Int, second: Int)? {
        separatePair(allowed) { processor in
            processorList(StandardStreams.readFile("/sys/devices/system/cpu/cpu\(processor)/topology/thread_siblings_list") ?? "")
        }
    }

    static func separatePair(_ allowed: [Int], siblings: (Int) -> [Int]) -> (first: Int, second: Int)? {
        guard allowed.count >= 2, let first = allowed.first else { return nil }
        let sameCore = siblings(first)
        return (first, allowed.dropFirst().last { !sameCore.contains($0) } ?? allowed[allowed.count - 1])
    }

    /// The kernel's way of listing processors: "0,2-3".
    static func processorList(_ text: String) -> [Int] {
        text.split { $0 == "," || $0.isWhitespace }.flatMap { part -> [Int] in
            let bounds = part.split(separator: "-").compactMap { Int($0) }
            guard let low = bounds.first, let high = bounds.last, low <= high, high < 65_536 else { return [] }
            return Array(low...high)
        }
    }
}
