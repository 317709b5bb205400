import Demikernel
import Glibc

/// A server for iperf3's client, which streams to it, or from it with `-R` (iperf_api.h: the states; a test has one connection for control and one for data).
struct PerformanceServer {
    static let port: UInt16 = 5201

    /// What a test has moved, by both sides' counts.
    final class Outcome {
        /// Bytes that came until the client had closed its connection, or that were pushed.
        var byteCount = 0
        /// What the client says of it.
        var clientByteCount = 0
        var isReverse = false
        var isDone = false
        fileprivate var mustEnd = false
    }

    private enum State {
        static let testStart: UInt8 = 1
        static let testRunning: UInt8 = 2
        static let testEnd: UInt8 = 4
        static let parameterExchange: UInt8 = 9
        static let createStreams: UInt8 = 10
        static let exchangeResults: UInt8 = 13
        static let displayResults: UInt8 = 14
        static let done: UInt8 = 16
    }

    /// Every connection begins with one, the same for both of a test.
    private static let cookieByteCount = 37

    /// Serves one test after the other, until the runtime is interrupted.
    static func run(on runtime: borrowing Runtime, outcomes: (Outcome) -> Void, whenReady: () -> Void) throws(DemikernelError) {
        let listener = try runtime.socket(.ipv6, .stream)
        try runtime.bind(listener, to: .any(.ipv6, port: port))
        try runtime.listen(listener, backlog: 16)
        whenReady()
        while true {
            do throws(DemikernelError) {
                let outcome = Outcome()
                try serve(runtime, listener, outcome)
                outcomes(outcome)
            } catch where error.errno == EINTR {
                return
            }
        }
    }

    private static func serve(_ runtime: borrowing Runtime, _ listener: QueueDescriptor, _ outcome: Outcome) throws(DemikernelError) {
        var control = StreamConversation(try runtime.wait(try runtime.accept(listener)).accepted())
        guard let cookie = try control.read(cookieByteCount, runtime) else { return }
        try control.write([State.parameterExchange], runtime)
        guard let parameters = try readText(&control, runtime) else { return }
        outcome.isReverse = number("reverse", in: parameters) != 0
        try control.write([State.createStreams], runtime)
        var data = StreamConversation(try runtime.wait(try runtime.accept(listener)).accepted())
        guard try data.read(cookieByteCount, runtime) == cookie else { throw DemikernelError(EPROTO, .pop, "another test's connection") }
        try control.write([State.testStart, State.testRunning], runtime)

        let stream = data
        try runtime.spawn { runtime in
            do throws(DemikernelError) {
                var stream = stream
                if outcome.isReverse {
                    let bytes = [UInt8](repeating: 7, count: 65_536)
                    while !outcome.mustEnd {
                        try stream.write(bytes, runtime)
                        outcome.byteCount += bytes.count
                    }
                } else {
                    outcome.byteCount = try stream.drain(runtime)
                }
                try runtime.close(stream.connection)
            } catch {
                // A client that has all it wanted resets the connection.
            }
            outcome.isDone = true
        }
        guard try control.read(1, runtime) == [State.testEnd] else { return }
        outcome.mustEnd = true
        try control.write([State.exchangeResults], runtime)
        guard let results = try readText(&control, runtime) else { return }
        outcome.clientByteCount = number("bytes", in: results)
        let reply = """
            {"cpu_util_total":0,"cpu_util_user":0,"cpu_util_system":0,"sender_has_retransmits":-1,"streams":[{"id":1,"bytes":\(outcome.byteCount),\
            "retransmits":-1,"jitter":0,"errors":0,"packets":0}]}
            """
        try writeText(reply, control, runtime)
        try control.write([State.displayResults], runtime)
        _ = try control.read(1, runtime)
        try runtime.close(control.connection)
        // The data's end comes by itself.
        while !outcome.isDone { runtime.poll() }
    }

    /// A text behind its length in four bytes.
    private static func readText(_ conversation: inout StreamConversation, _ runtime: borrowing Runtime) throws(DemikernelError) -> String? {
        guard let length = try conversation.read(4, runtime), let text = try conversation.read(length.reduce(0) { $0 << 8 | Int($1) }, runtime) else { return nil }
        return String(decoding: text, as: UTF8.self)
    }

    private static func writeText(_ text: String, _ conversation: StreamConversation, _ runtime: borrowing Runtime) throws(DemikernelError) {
        let length = UInt32(text.utf8.count)
        try conversation.write((0..<4).map { UInt8(truncatingIfNeeded: length >> (24 - 8 * $0)) } + Array(text.utf8), runtime)
    }

    /// The number behind a key of a JSON text; 1 for true, 0 where there is none.
    private static func number(_ key: String, in text: String) -> Int {
        let parts = text.split(separator: "\"\(key)\":", maxSplits: 1, omittingEmptySubsequences: false)
        guard parts.count == 2 else { return 0 }
        let value = parts[1].drop { $0 == " " || $0 == "\t" }
        return value.hasPrefix("true") ? 1 : Int(value.prefix { $0.isNumber }) ?? 0
    }
}
