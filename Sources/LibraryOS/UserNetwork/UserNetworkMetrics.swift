import EthernetDevice
import NetworkStack
import QueueRuntime

/// What the library OS has counted, as metrics: the device under its name, drops under their reasons.
struct UserNetworkMetrics: MetricSource {
    let statistics: UserNetworkStatistics
    let deviceName: String
    let isCapturing: Bool

    func collect(into metrics: inout MetricList) {
        let labels = metrics.commonLabels
        metrics.commonLabels.append(Metric.Label("device", deviceName))
        collectDevice(into: &metrics)
        collectNetwork(into: &metrics)
        collectTCP(into: &metrics)
        metrics.commonLabels = labels
    }

    private func collectDevice(into metrics: inout MetricList) {
        let device = statistics.device
        metrics.counter("demikernel_device_received_frames_total", "Frames that the device has given to the stack.", device.receivedFrames)
        metrics.counter("demikernel_device_received_bytes_total", "Bytes of those frames.", device.receivedBytes)
        metrics.counter("demikernel_device_transmitted_frames_total", "Frames that the device has sent.", device.transmittedFrames)
        metrics.counter("demikernel_device_transmitted_bytes_total", "Bytes of those frames.", device.transmittedBytes)
        metrics.counter(
            "demikernel_device_transmit_ring_full_total", "Frames that the device had no room for, and that were offered again.",
            device.transmitRingFull)
        metrics.counter(
            "demikernel_device_copied_frames_total", "Frames that the device copied.", device.receiveCopies, Metric.Label("direction", "receive"))
        metrics.counter(
            "demikernel_device_copied_frames_total", "Frames that the device copied.", device.transmitCopies, Metric.Label("direction", "transmit"))
        for (direction, reason, count) in [
            ("receive", "out_of_memory", device.receiveOutOfMemory), ("receive", "ring_full", device.receiveRingFull),
            ("receive", "malformed", device.receiveMalformed), ("receive", "error", device.receiveErrors),
            ("transmit", "too_long", device.transmitTooLong), ("transmit", "too_short", device.transmitTooShort),
            ("transmit", "link_down", device.transmitLinkDown), ("transmit", "error", device.transmitErrors),
        ] {
            metrics.counter(
                "demikernel_device_dropped_frames_total", "Frames that the device has dropped, by reason.", count,
                Metric.Label("direction", direction), Metric.Label("reason", reason))
        }
        metrics.gauge("demikernel_device_gone", "1 when the interface was removed from under the device.", device.isGone ? 1 : 0)
        metrics.gauge("demikernel_device_capturing", "1 while the device's frames are captured.", isCapturing ? 1 : 0)
    }

    private func collectNetwork(into metrics: inout MetricList) {
        let network = statistics.network
        metrics.counter("demikernel_frames_received_total", "Frames that the stack has taken.", network.framesReceived)
        metrics.counter("demikernel_frames_sent_total", "Frames that the stack has made.", network.framesSent)
        for reason in DropReason.allCases {
            metrics.counter(
                "demikernel_drops_total", "Frames, packets, segments and datagrams that went no further, by reason.", network.drops[reason],
                Metric.Label("reason", UserNetworkMetrics.snakeCase("\(reason)")))
        }
        metrics.counter(
            "demikernel_drops_total", "Frames, packets, segments and datagrams that went no further, by reason.", statistics.droppedSendBufferFull,
            Metric.Label("reason", "send_buffer_full"))
        metrics.gauge("demikernel_connections", "TCP connections, in every state.", network.connections)
        metrics.gauge("demikernel_datagram_sockets", "UDP sockets.", network.datagramSockets)
        metrics.gauge("demikernel_neighbors", "Neighbours in the cache.", network.neighbors)
        metrics.counter("demikernel_datagrams_received_total", "UDP datagrams received.", network.datagramsReceived)
        metrics.counter("demikernel_datagrams_sent_total", "UDP datagrams sent.", network.datagramsSent)
        metrics.counter("demikernel_fragments_received_total", "Fragments of IP datagrams received.", network.fragmentsReceived)
        metrics.counter("demikernel_fragments_sent_total", "Fragments of IP datagrams sent.", network.fragmentsSent)
        metrics.counter("demikernel_echo_replies_sent_total", "Answers to ICMP echo requests.", network.echoRepliesSent)
    }

    private func collectTCP(into metrics: inout MetricList) {
        let tcp = statistics.network.tcp
        metrics.counter("demikernel_tcp_segments_received_total", "TCP segments received.", tcp.segmentsReceived)
        metrics.counter("demikernel_tcp_segments_sent_total", "TCP segments sent.", tcp.segmentsSent)
        metrics.counter("demikernel_tcp_retransmitted_segments_total", "TCP segments sent again.", tcp.retransmittedSegments)
        metrics.counter("demikernel_tcp_retransmission_timeouts_total", "Retransmission timeouts.", tcp.retransmissionTimeouts)
        metrics.counter("demikernel_tcp_fast_retransmits_total", "Recoveries that began before a timeout.", tcp.fastRetransmits)
        metrics.counter("demikernel_tcp_tail_loss_probes_total", "Tail loss probes sent (RFC 8985).", tcp.tailLossProbes)
        metrics.counter("demikernel_tcp_spurious_recoveries_total", "Recoveries that were taken back.", tcp.spuriousRecoveries)
        metrics.counter("demikernel_tcp_out_of_order_segments_total", "TCP segments that came before those in front of them.", tcp.outOfOrderSegments)
        metrics.counter("demikernel_tcp_zero_window_probes_total", "Probes of windows that peers have closed.", tcp.zeroWindowProbes)
        for (event, count) in [
            ("opened", tcp.connectionsOpened), ("accepted", tcp.connectionsAccepted), ("failed", tcp.connectionsFailed),
            ("reset", tcp.connectionsReset), ("timed_out", tcp.connectionsTimedOut),
        ] {
            metrics.counter("demikernel_tcp_connections_total", "TCP connections, by what has become of them.", count, Metric.Label("event", event))
        }
        metrics.counter("demikernel_tcp_resets_sent_total", "Resets sent.", tcp.resetsSent)
        metrics.counter("demikernel_tcp_resets_received_total", "Resets received.", tcp.resetsReceived)
        metrics.counter("demikernel_tcp_syn_cookies_sent_total", "SYN cookies sent.", tcp.cookiesSent)
    }

    /// "badIPv4Header" as "bad_ipv4_header": the names of reasons, as metrics spell them.
    static func snakeCase(_ name: String) -> String {
        let letters = Array(name)
        var result = ""
        for (index, letter) in letters.enumerated() {
            // A word begins where a small letter ends, and at the last capital of several.
            let startsWord =
                index > 0 && letter.isUppercase
                && (!letters[index - 1].isUppercase || (index + 1 < letters.count && letters[index + 1].isLowercase && letters[index + 1] != "v"))
            if startsWord { result.append("_") }
            result.append(contentsOf: letter.lowercased())
        }
        return result
    }
}

extension UserNetworkHandle {
    var metrics: UserNetworkMetrics {
        UserNetworkMetrics(
            statistics: UserNetworkStatistics(
                network: stack.statistics, device: state.pointee.device.statistics, droppedSendBufferFull: state.pointee.droppedSendBufferFull),
            deviceName: state.pointee.deviceName, isCapturing: state.pointee.capture != nil)
    }
}
