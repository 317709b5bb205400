/// What `top` shows: one process's metrics, and what they have grown by since the last look.
struct TopScreen {
    let before: MetricSamples
    let after: MetricSamples
    /// Between the two.
    let seconds: Double

    /// The lines of one look.
    var lines: [String] {
        let process = after.all("demikernel_process_info").first
        let runtimes = after.values(of: "runtime", in: "demikernel_runtime_up")
        var lines = ["\(Self.printable(process?.labels["program"] ?? "?")), process \(Self.printable(process?.labels["pid"] ?? "?"))"]
        if runtimes.isEmpty { lines.append("  no runtime yet") }
        for runtime in runtimes { lines += self.lines(of: runtime) }
        return lines
    }

    private func lines(of runtime: String) -> [String] {
        let labels = ["runtime": runtime]
        let libraryOSes = after.values(of: "libos", in: "demikernel_library_os_info", labels)
        guard after.sum("demikernel_runtime_up", labels) > 0 else { return ["runtime \(Self.printable(runtime))  busy: its thread does not answer"] }
        var lines = ["runtime \(Self.printable(runtime))  \(libraryOSes.map(Self.printable).joined(separator: ", "))"]
        lines.append(
            row(
                "operations",
                "\(rate("demikernel_operations_completed_total", labels, modulo: 4_294_967_296))/s, \(whole("demikernel_operations_live", labels)) live",
                "turns \(rate("demikernel_turns_total", labels))/s, sleeps \(rate("demikernel_sleeps_total", labels))/s"))
        lines.append(
            row(
                "queues",
                "\(whole("demikernel_queues_open", labels)) open, \(whole("demikernel_queues_closing", labels)) closing",
                "opened \(rate("demikernel_queues_opened_total", labels))/s, \(whole("demikernel_tasks", labels)) tasks, \(whole("demikernel_timers", labels)) timers"
            ))
        let limit = after.sum("demikernel_heap_limit_bytes", labels)
        let used = after.sum("demikernel_heap_used_bytes", labels)
        lines.append(
            row(
                "heap", "\(Self.bytes(used)) of \(Self.bytes(limit)) (\(NumberText.percent(limit > 0 ? used / limit : 0)))",
                "\(whole("demikernel_heap_live_blocks", labels)) blocks, \(whole("demikernel_heap_refused_total", labels)) refused"))
        lines.append(latencyRow(labels))
        for libraryOS in libraryOSes {
            let labels = ["runtime": runtime, "libos": libraryOS]
            for device in after.values(of: "device", in: "demikernel_device_received_frames_total", labels) {
                lines += deviceLines(device, labels.merging(["device": device]) { $1 })
            }
            if !after.all("demikernel_shared_memory_connections_total", labels).isEmpty {
                lines.append(
                    row(
                        "memory",
                        "\(whole("demikernel_shared_memory_connections_total", labels)) connections, "
                            + "\(whole("demikernel_shared_memory_peers_lost_total", labels)) peers lost",
                        "wake-ups sent \(rate("demikernel_shared_memory_wake_ups_sent_total", labels))/s"))
                lines += drops("demikernel_shared_memory_refused_total", labels)
            }
        }
        return lines
    }

    private func deviceLines(_ device: String, _ labels: [String: String]) -> [String] {
        let name = Self.printable(device)
        let isGone = after.sum("demikernel_device_gone", labels) > 0
        let isCapturing = after.sum("demikernel_device_capturing", labels) > 0
        var lines = ["  \(name)\(isGone ? "  the interface is gone" : "")\(isCapturing ? "  captured" : "")"]
        for (title, direction, frames) in [
            ("received", "received", "demikernel_frames_received_total"), ("sent", "transmitted", "demikernel_frames_sent_total"),
        ] {
            lines.append(
                row(
                    title,
                    "\(rate("demikernel_device_\(direction)_frames_total", labels)) packets/s, "
                        + "\(Self.bytes(growth("demikernel_device_\(direction)_bytes_total", labels) / seconds))/s",
                    "\(whole(frames, labels)) frames by the stack"))
        }
        lines.append(
            row(
                "TCP",
                "\(whole("demikernel_connections", labels)) connections, segments \(rate("demikernel_tcp_segments_received_total", labels))/s in, "
                    + "\(rate("demikernel_tcp_segments_sent_total", labels))/s out",
                "retransmitted \(rate("demikernel_tcp_retransmitted_segments_total", labels))/s, "
                    + "\(whole("demikernel_tcp_retransmitted_segments_total", labels)) in all, "
                    + "\(whole("demikernel_tcp_retransmission_timeouts_total", labels)) timeouts"))
        lines += drops("demikernel_drops_total", labels)
        lines += drops("demikernel_device_dropped_frames_total", labels)
        return lines
    }

    /// A line for each reason that has been met.
    private func drops(_ name: String, _ labels: [String: String]) -> [String] {
        after.all(name, labels).filter { $0.value > 0 }.map { sample in
            let grown = sample.value - before.sum(name, sample.labels)
            let reason = [sample.labels["direction"], sample.labels["reason"]].compactMap(\.self).joined(separator: " ")
            return row(
                "drops", "\(Self.printable(reason)) \(NumberText.grouped(sample.value))", grown > 0 ? "+\(Self.number(grown / seconds))/s" : "")
        }
    }

    private func latencyRow(_ labels: [String: String]) -> String {
        let count = growth("demikernel_reply_seconds_count", labels)
        guard count > 0 else { return row("replies", "0/s", "") }
        let texts = [(0.5, "p50"), (0.99, "p99"), (0.999, "p99.9")].map { quantile, name in
            let time = self.quantile(quantile, labels).map { "\(NumberText.microseconds($0 * 1e9)) us" } ?? "over 17 s"
            return "\(name) \(time)"
        }
        return row("replies", "\(Self.number(count / seconds))/s", texts.joined(separator: ", "))
    }

    /// In seconds: the upper bound of the bucket in which the quantile of the times between the two looks lies; nil for the bucket without one.
    func quantile(_ quantile: Double, _ labels: [String: String]) -> Double? {
        let earlier = Dictionary(
            before.all("demikernel_reply_seconds_bucket", labels).map { ($0.labels["le"] ?? "", $0.value) }, uniquingKeysWith: { $1 })
        let buckets = after.all("demikernel_reply_seconds_bucket", labels).map { sample in
            let bound = sample.labels["le"] ?? ""
            return (bound: Double(bound) ?? .infinity, count: sample.value - (earlier[bound] ?? 0))
        }
        guard let total = buckets.last?.count, total > 0, let found = buckets.first(where: { $0.count >= quantile * total }) else { return nil }
        return found.bound.isFinite ? found.bound : nil
    }

    // MARK: Numbers

    private func row(_ title: String, _ first: String, _ second: String) -> String {
        let head = "  " + title + String(repeating: " ", count: max(1, 12 - title.count)) + first
        guard !second.isEmpty else { return head }
        return head + String(repeating: " ", count: max(2, 60 - head.count)) + second
    }

    private func growth(_ name: String, _ labels: [String: String], modulo: Double? = nil) -> Double {
        let growth = after.sum(name, labels) - before.sum(name, labels)
        return growth < 0 ? growth + (modulo ?? -growth) : growth
    }

    private func rate(_ name: String, _ labels: [String: String], modulo: Double? = nil) -> String {
        Self.number(growth(name, labels, modulo: modulo) / seconds)
    }

    private func whole(_ name: String, _ labels: [String: String]) -> String { NumberText.grouped(after.sum(name, labels)) }

    private static func number(_ value: Double) -> String {
        value < 10 && value != value.rounded() ? NumberText.decimal(value, places: 1) : NumberText.grouped(value)
    }

    static func bytes(_ value: Double) -> String {
        var value = value
        for unit in ["B", "KiB", "MiB", "GiB"] {
            if value < 1024 || unit == "GiB" { return "\(NumberText.decimal(value, places: unit == "B" ? 0 : 1)) \(unit)" }
            value /= 1024
        }
        return ""
    }

    /// What a process says of itself must not steer the terminal.
    private static func printable(_ text: String) -> String {
        String(text.unicodeScalars.map { $0.value < 32 || (127..<160).contains($0.value) ? "?" : Character($0) })
    }
}
