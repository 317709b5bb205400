/// What is said over a telemetry socket: a line for each request, a line for each answer, both led by the protocol's name and version.
///
///     demikernel-telemetry 1 metrics
///     demikernel-telemetry 1 ok 12345
///     (12,345 bytes in Prometheus' text exposition format)
///
///     demikernel-telemetry 1 capture runtime=0 snapshot=96
///     demikernel-telemetry 1 ok stream
///     (a pcapng file, until the client shuts its sending down or the process ends)
///
///     demikernel-telemetry 1 error EBUSY another capture runs
public enum TelemetryProtocol {
    public static let name = "demikernel-telemetry"
    public static let version = 1
    /// Bytes of the longest line, with its end.
    public static let maximumLineByteCount = 256

    public enum Request: Equatable, Sendable {
        case metrics
        /// The frames of the runtime with this number, in the order of `TelemetryServer.add`.
        case capture(runtime: Int, snapshotByteCount: Int)
    }

    public enum Refusal: Error, Equatable, Sendable {
        /// It is no request of this protocol.
        case malformed
        /// The client speaks another version.
        case version(Int)
    }

    /// Reads a line without its end.
    public static func request(_ line: Substring) throws(Refusal) -> Request {
        let words = line.split(separator: " ", omittingEmptySubsequences: false)
        guard words.count >= 3, words[0] == name, let version = Int(words[1]) else { throw .malformed }
        guard version == Self.version else { throw .version(version) }
        switch (words[2], words.count) {
        case ("metrics", 3): return .metrics
        case ("capture", 5):
            guard let runtime = number(words[3], "runtime=", 0...1023), let snapshot = number(words[4], "snapshot=", 1...262_144) else {
                throw .malformed
            }
            return .capture(runtime: runtime, snapshotByteCount: snapshot)
        default: throw .malformed
        }
    }

    /// The line of a request, with its end.
    public static func line(_ request: Request) -> String {
        switch request {
        case .metrics: "\(name) \(version) metrics\n"
        case .capture(let runtime, let snapshot): "\(name) \(version) capture runtime=\(runtime) snapshot=\(snapshot)\n"
        }
    }

    private static func number(_ word: Substring, _ prefix: String, _ range: ClosedRange<Int>) -> Int? {
        guard word.hasPrefix(prefix), let number = Int(word.dropFirst(prefix.count)), range.contains(number) else { return nil }
        return number
    }
}
