import Glibc

/// A line on standard error that says how far a measurement has come: rewritten in place on a terminal, else a new line every few seconds.
///
/// It is updated between rounds only, so that writing it never falls into a measurement.
struct Progress {
    private let isTerminal: Bool
    private let isQuiet: Bool
    private var lastLine: UInt64 = 0
    private var lastLength = 0

    private static let plainInterval: UInt64 = 3_000_000_000

    init(quiet: Bool = false) {
        isTerminal = isatty(STDERR_FILENO) == 1
        isQuiet = quiet
    }

    mutating func show(_ text: String) {
        guard !isQuiet else { return }
        if isTerminal {
            let padding = String(repeating: " ", count: max(0, lastLength - text.count))
            StandardStreams.writeError("\r\(text)\(padding)")
            lastLength = text.count
        } else {
            let now = MonotonicClock.now()
            guard lastLine == 0 || now - lastLine >= Self.plainInterval else { return }
            lastLine = now
            StandardStreams.writeError(text + "\n")
        }
    }

    /// Takes the line off the terminal.
    mutating func finish() {
        guard !isQuiet, isTerminal, lastLength > 0 else { return }
        StandardStreams.writeError("\r" + String(repeating: " ", count: lastLength) + "\r")
        lastLength = 0
    }
}
