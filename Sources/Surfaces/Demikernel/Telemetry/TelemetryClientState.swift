import Glibc

/// One client of the telemetry's thread.
struct TelemetryClientState {
    let identifier: Int
    let socket: Int32
    var phase = Phase.reading
    /// A request that has not come whole.
    var input: [UInt8] = []
    var output: [UInt8] = []
    var sentCount = 0
    /// Milliseconds of CLOCK_MONOTONIC; the client is dropped then.
    var deadline: Int64
    /// Snapshots that have come, by their runtimes' numbers, while `phase` is `.collecting`.
    var snapshots: [Int: RuntimeSnapshot] = [:]
    var awaited = 0
    /// Whose frames it captures.
    var captured: Interrupter?

    enum Phase: Equatable {
        /// Between requests.
        case reading
        /// Waits for the runtimes' snapshots.
        case collecting
        /// Gets the answer.
        case answering
        /// Waits for a capture to begin.
        case beginningCapture
        /// The runtime writes to the socket itself.
        case capturing
        /// Waits for what the capture has left.
        case endingCapture
        /// Gets the last bytes, and is closed.
        case ending
    }

    /// What poll(2) is to look for.
    var events: Int16 {
        switch phase {
        // Its end is told in any case, but its end of sending is not.
        case .reading, .capturing: Int16(POLLIN)
        case .collecting, .beginningCapture, .endingCapture: 0
        case .answering, .ending: Int16(POLLOUT)
        }
    }

    /// Whether a deadline holds.
    var canExpire: Bool { phase != .capturing }

    mutating func answer(_ text: String, thenEnd: Bool = false) {
        output += Array(text.utf8)
        phase = thenEnd ? .ending : .answering
    }

    /// Sends what the socket takes.
    /// - Returns: false when the client is gone.
    mutating func send() -> Bool {
        while sentCount < output.count {
            let count = output.withUnsafeBytes { bytes in
                Glibc.send(
                    socket, bytes.baseAddress.unsafelyUnwrapped + sentCount, bytes.count - sentCount,
                    Int32(MSG_DONTWAIT) | Int32(MSG_NOSIGNAL))
            }
            if count > 0 {
                sentCount += count
            } else if count == 0 || errno != EINTR {
                return errno == EAGAIN
            }
        }
        output.removeAll()
        sentCount = 0
        return true
    }

    /// What has come of a request: a line without its end, or nothing yet.
    enum Line {
        case line(String)
        case incomplete
        case tooLong
        case end
    }

    mutating func receiveLine() -> Line {
        while true {
            if let end = input.firstIndex(of: UInt8(ascii: "\n")) {
                let line = String(decoding: input[..<end], as: UTF8.self)
                input.removeSubrange(...end)
                return .line(line)
            }
            let room = TelemetryProtocol.maximumLineByteCount - input.count
            guard room > 0 else { return .tooLong }
            var bytes = [UInt8](repeating: 0, count: room)
            let count = recv(socket, &bytes, room, Int32(MSG_DONTWAIT))
            if count > 0 {
                input += bytes[..<count]
            } else if count == 0 {
                return .end
            } else if errno == EAGAIN {
                return .incomplete
            } else if errno != EINTR {
                return .end
            }
        }
    }
}
