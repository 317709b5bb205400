import Demikernel
import Testing

@testable import DemikernelCommand

/// What `demikernel top` makes of metrics.
@Suite struct TelemetryTextTests {
    @Test func samplesAreReadWithTheirLabels() {
        let samples = MetricSamples(
            parsing: """
                # HELP a_total Counts.
                # TYPE a_total counter
                a_total{runtime="0",reason="x y"} 3
                a_total{runtime="0",reason="q\\"\\\\\\n}"} 4.5
                a_total{runtime="1"} 1e3
                b 7
                broken{runtime="0 8
                broken{runtime} 8
                broken eight
                {} 8

                """)
        #expect(samples.samples.count == 4)
        #expect(samples.sum("a_total", ["runtime": "0"]) == 7.5 && samples.sum("a_total") == 1_007.5)
        #expect(samples.all("a_total", ["reason": "q\"\\\n}"]).map(\.value) == [4.5])
        #expect(samples.values(of: "runtime", in: "a_total") == ["0", "1"])
        #expect(samples.sum("b") == 7 && samples.sum("c") == 0 && samples.all("broken").isEmpty)
    }

    private func metrics(operations: UInt32, frames: UInt64, drops: UInt64, times: [UInt64]) -> MetricSamples {
        var list = MetricList()
        list.add("demikernel_process_info", .gauge, "P.", .number(1), [.init("program", "k\u{1b}v"), .init("pid", "42")])
        list.commonLabels = [.init("runtime", "0")]
        list.gauge("demikernel_runtime_up", "U.", 1)
        list.gauge("demikernel_heap_limit_bytes", "L.", 64 << 20)
        list.gauge("demikernel_heap_used_bytes", "U.", 16 << 20)
        list.counter("demikernel_operations_completed_total", "O.", UInt64(operations))
        var histogram = LatencyHistogram()
        for time in times { histogram.record(time) }
        list.add("demikernel_reply_seconds", .histogram, "R.", .histogram(histogram))
        list.commonLabels.append(.init("libos", "catnip"))
        list.gauge("demikernel_library_os_info", "I.", 1)
        list.commonLabels.append(.init("device", "tap:demi0"))
        list.counter("demikernel_device_received_frames_total", "F.", frames)
        list.counter("demikernel_device_received_bytes_total", "B.", frames * 1_024)
        list.counter("demikernel_drops_total", "D.", drops, .init("reason", "no_connection"))
        list.counter("demikernel_drops_total", "D.", 0, .init("reason", "bad_arp"))
        list.counter("demikernel_tcp_retransmitted_segments_total", "R.", 12)
        return MetricSamples(parsing: PrometheusText.format(list))
    }

    @Test func ratesAreOfTheTimeBetweenTwoLooks() {
        let before = metrics(operations: .max - 9, frames: 1_000, drops: 5, times: [900])
        let after = metrics(operations: 1_990, frames: 3_000, drops: 9, times: [900, 1_000, 1_000, 1_000_000])
        let screen = TopScreen(before: before, after: after, seconds: 2)
        let text = screen.lines.joined(separator: "\n")
        for expected in [
            "k?v, process 42", "runtime 0  catnip", "1,000/s, 0 live", "16.0 MiB of 64.0 MiB (25 %)", "tap:demi0", "1,000 packets/s, 1000.0 KiB/s",
            "no_connection 9", "+2/s", "retransmitted 0/s, 12 in all", "1.5/s",
        ] { #expect(text.contains(expected), "\(expected) in\n\(text)") }
        #expect(!text.contains("bad_arp") && !text.contains("\u{1b}"))
        // Of the three new times two are of 1 us, and one of 1 ms: each within its bucket, at most 25 % above.
        let median = screen.quantile(0.5, ["runtime": "0"]) ?? 0
        let slowest = screen.quantile(0.99, ["runtime": "0"]) ?? 0
        #expect(median >= 1e-6 && median < 1.25e-6)
        #expect(slowest >= 1e-3 && slowest < 1.25e-3)
    }

    @Test func aBusyRuntimeIsSaidToBeBusy() {
        var list = MetricList()
        list.commonLabels = [.init("runtime", "0")]
        list.gauge("demikernel_runtime_up", "U.", 0)
        let samples = MetricSamples(parsing: PrometheusText.format(list))
        let lines = TopScreen(before: samples, after: samples, seconds: 1).lines
        #expect(lines.count == 2 && lines[1].contains("busy"))
    }

    @Test func requestsAreReadAsTheyAreWritten() throws {
        for request in [TelemetryProtocol.Request.metrics, .capture(runtime: 7, snapshotByteCount: 96)] {
            let line = TelemetryProtocol.line(request)
            #expect(line.last == "\n" && line.utf8.count <= TelemetryProtocol.maximumLineByteCount)
            #expect(try TelemetryProtocol.request(line.dropLast()) == request)
        }
    }
}
