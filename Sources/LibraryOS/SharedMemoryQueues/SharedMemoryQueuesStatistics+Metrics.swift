import QueueRuntime

extension SharedMemoryQueuesStatistics: MetricSource {
    public func collect(into metrics: inout MetricList) {
        metrics.counter(
            "demikernel_shared_memory_connections_total", "Connections through shared memory.", connectionsAccepted, Metric.Label("event", "accepted")
        )
        metrics.counter(
            "demikernel_shared_memory_connections_total", "Connections through shared memory.", connectionsMade, Metric.Label("event", "made"))
        metrics.counter("demikernel_shared_memory_peers_lost_total", "Connections whose peer's process ended without saying so.", peersLost)
        for (reason, count) in [
            ("broken_header", brokenHeaders), ("broken_progress", brokenProgress), ("malformed_hello", malformedHellos),
            ("refused_hello", refusedHellos), ("silent_client", silentClients),
        ] {
            metrics.counter(
                "demikernel_shared_memory_refused_total", "Clients and connections that were ended, by what they did wrong.", count,
                Metric.Label("reason", reason))
        }
        metrics.counter("demikernel_shared_memory_wake_ups_sent_total", "Wake-ups sent to peers that slept.", wakeUpsSent)
    }
}
