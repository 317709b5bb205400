/// How much memory the machine can still give out.
enum AvailableMemory {
    /// Bytes by `/proc/meminfo`, nil where that cannot be read.
    static func byteCount() -> Int? {
        StandardStreams.readFile("/proc/meminfo").flatMap(byteCount(in:))
    }

    static func byteCount(in text: String) -> Int? {
        for line in text.split(separator: "\n") where line.hasPrefix("MemAvailable:") {
            return line.split(separator: " ").dropFirst().first.flatMap { Int($0) }.map { $0 * 1024 }
        }
        return nil
    }
}
