/// What a runtime and its library OSes have counted, at one moment. Taken on the runtime's thread, to be told by another one.
public struct RuntimeSnapshot: Sendable {
    public let statistics: RuntimeStatistics
    public let replyTimes: LatencyHistogram
    public let libraryOSes: [LibraryOSSnapshot]

    public struct LibraryOSSnapshot: Sendable {
        /// A second one of the same kind has a number behind it: "catnip-2".
        public let name: String
        /// Nil for a library OS that counts nothing.
        public let source: (any MetricSource)?
    }

    /// What the runtime itself has counted, then what each of its library OSes has.
    public func collect(into metrics: inout MetricList) {
        statistics.collect(into: &metrics)
        metrics.add(
            "demikernel_reply_seconds", .histogram,
            "Time from the turn that brought a request to the push of its reply, measured while somebody looks.",
            .histogram(replyTimes))
        let labels = metrics.commonLabels
        for libraryOS in libraryOSes {
            metrics.commonLabels = labels + [Metric.Label("libos", libraryOS.name)]
            metrics.gauge("demikernel_library_os_info", "The library OSes of the runtime.", 1)
            libraryOS.source?.collect(into: &metrics)
        }
        metrics.commonLabels = labels
    }
}

extension RuntimeCore {
    /// On the runtime's thread. Reply times are measured from now on, for some minutes.
    public func takeSnapshot() -> RuntimeSnapshot {
        checkThread()
        var libraryOSes: [RuntimeSnapshot.LibraryOSSnapshot] = []
        // The first one, the queues in memory, is part of the runtime.
        for index in 1..<state.pointee.libraryCount {
            let library = state.pointee.libraries + index
            var source: (any MetricSource)?
            if let metrics = library.pointee.metrics {
                withUnsafeMutablePointer(to: &source) { metrics(library.pointee.context, UnsafeMutableRawPointer($0)) }
            }
            var name = "\(library.pointee.name)"
            let alike = (1..<index).count { "\((state.pointee.libraries + $0).pointee.name)" == name }
            if alike > 0 { name += "-\(alike + 1)" }
            libraryOSes.append(.init(name: name, source: source))
        }
        return RuntimeSnapshot(statistics: statistics, replyTimes: takeReplyTimes(), libraryOSes: libraryOSes)
    }
}

extension RuntimeStatistics: MetricSource {
    public func collect(into metrics: inout MetricList) {
        metrics.counter("demikernel_turns_total", "Turns of the run loop.", turns)
        metrics.counter("demikernel_sleeps_total", "Sleeps in the kernel, when nothing was ready.", sleeps)
        metrics.counter("demikernel_operations_completed_total", "Operations that have completed, modulo 2^32.", UInt64(operationsCompleted))
        metrics.gauge("demikernel_operations_live", "Operations pending, or completed and not redeemed.", liveOperations)
        metrics.gauge("demikernel_queues_open", "Queues that are open.", openQueues)
        metrics.gauge("demikernel_queues_closing", "Queues that the program has closed, and that still send or wait for their peer.", closingQueues)
        metrics.counter("demikernel_queues_opened_total", "Queues that were opened.", queuesOpened)
        metrics.gauge("demikernel_tasks", "Coroutines and tasks.", tasks)
        metrics.gauge("demikernel_timers", "Timers that are armed.", timers)
        metrics.gauge("demikernel_heap_limit_bytes", "Memory for buffers.", memory.limitByteCount)
        metrics.gauge("demikernel_heap_used_bytes", "Memory of the buffers in use, by the size of their blocks.", memory.usedByteCount)
        metrics.gauge("demikernel_heap_live_blocks", "Blocks in use.", memory.liveBlocks)
        metrics.gauge("demikernel_heap_live_segments", "Segment descriptors in use.", memory.liveSegments)
        for (priority, count) in [
            ("application", memory.refusedApplication), ("datagram", memory.refusedDatagram), ("reserve", memory.refusedReserve),
        ] {
            metrics.counter(
                "demikernel_heap_refused_total", "Allocations that the heap has refused, by who asked.", count, Metric.Label("priority", priority))
        }
    }
}
