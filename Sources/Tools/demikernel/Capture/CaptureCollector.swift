import Glibc

/// Reads the captures of a process's runtimes from their sockets, and writes them to one file.
struct CaptureCollector {
    private var file: CaptureFile
    private var sockets: [Int32]
    /// Nanoseconds of the monotonic clock, after which the captures are ended.
    private let end: UInt64?

    /// How it went.
    struct Outcome {
        var packetCount: Int
        var droppedCount: UInt64
        /// The process has ended the captures, not this side.
        var isEndedByProcess: Bool
    }

    /// For the process to send what it still has.
    private static let lastWords: UInt64 = 5_000_000_000

    /// - Parameter sockets: one for each capture of the file, in its order; they stay the caller's.
    init(file: CaptureFile, sockets: [Int32], duration: Double?) {
        self.file = file
        self.sockets = sockets
        end = duration.map { MonotonicClock.now() + UInt64($0 * 1e9) }
    }

    /// Collects until the captures end, the time is over, the file has all packets that it is to have, or `interruption` is readable.
    /// - Throws: what the file is refused with.
    mutating func run(until interruption: Int32? = nil) throws(CommandFailure) -> Outcome {
        var open = Set(sockets.indices)
        var isEnding = false
        var lastTime = end
        var isFull = false
        while !open.isEmpty {
            let now = MonotonicClock.now()
            if let due = lastTime, now >= due {
                if isEnding { break }
                endCaptures(&isEnding, &lastTime)
            }
            // A packet more would be one too many: what still comes is not looked at.
            if isFull { break }
            let order = open.sorted()
            var descriptors = order.map { pollfd(fd: sockets[$0], events: Int16(POLLIN), revents: 0) }
            descriptors.append(pollfd(fd: isEnding ? -1 : interruption ?? -1, events: Int16(POLLIN), revents: 0))
            let timeout = lastTime.map { Int32(clamping: ($0 - min(now, $0)) / 1_000_000 + 1) } ?? -1
            guard poll(&descriptors, nfds_t(descriptors.count), timeout) > 0 else { continue }
            if descriptors[order.count].revents != 0 { endCaptures(&isEnding, &lastTime) }
            for (index, capture) in order.enumerated() where descriptors[index].revents != 0 && !isFull {
                if try read(capture, &isFull) == false { open.remove(capture) }
            }
        }
        try file.close()
        return Outcome(packetCount: file.packetCount, droppedCount: file.droppedCount, isEndedByProcess: !isEnding && !isFull)
    }

    /// Tells the process that it is enough; it then sends what it has, and closes.
    private func endCaptures(_ isEnding: inout Bool, _ lastTime: inout UInt64?) {
        isEnding = true
        lastTime = MonotonicClock.now() + Self.lastWords
        for socket in sockets { shutdown(socket, Int32(SHUT_WR)) }
    }

    /// - Returns: false at the end of a capture.
    private mutating func read(_ capture: Int, _ isFull: inout Bool) throws(CommandFailure) -> Bool {
        var bytes = [UInt8](repeating: 0, count: 256 << 10)
        let count = recv(sockets[capture], &bytes, bytes.count, Int32(MSG_DONTWAIT))
        if count < 0 { return errno == EAGAIN || errno == EINTR }
        guard count > 0 else { return false }
        isFull = try !file.append(bytes[..<count], of: capture)
        return true
    }
}
