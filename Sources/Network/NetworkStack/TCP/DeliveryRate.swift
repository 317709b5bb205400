import WireFormats

/// How fast what a connection sends is delivered, seen from the acknowledgements (draft-cheng-iccrg-delivery-rate-estimation).
///
/// Each segment remembers how much had been delivered when it was sent. When it arrives, what was delivered meanwhile took as long as that, or as long as
/// it took to send: the longer one of the two, so that acknowledgements that come together show no rate that the path does not have.
struct DeliveryRate {
    /// C.delivered in bytes, and when it last rose.
    fileprivate(set) var delivered: UInt64 = 0
    fileprivate(set) var deliveredAt: UInt64 = 0
    /// When the segment was sent that was delivered last, or the first one of a flight.
    fileprivate(set) var firstSentAt: UInt64 = 0
    /// What will have been delivered when the last segment has arrived that the program's slowness may have touched; 0 for none.
    fileprivate(set) var applicationLimitedEnd: UInt64 = 0
    /// C.lost in bytes.
    fileprivate(set) var lost: UInt64 = 0
    /// What the acknowledgement that is being processed tells.
    fileprivate(set) var sample = RateSample()

    init() {}
}

/// What a segment remembers of the time when it was sent last.
struct DeliverySnapshot {
    var delivered: UInt64
    var deliveredAt: UInt64
    var firstSentAt: UInt64
    var lost: UInt64
    /// Bytes that the network held, with this segment.
    var inFlight: Int
    var isApplicationLimited: Bool
}

/// A rate sample: what an acknowledgement tells of the segments that it says are delivered.
struct RateSample {
    /// Bytes that are newly known to be delivered, and to be lost.
    var newlyDelivered = 0
    var newlyLost = 0
    /// Of the segment among them that was sent last: what it remembers; `priorTime` is 0 without one.
    var priorDelivered: UInt64 = 0
    var priorTime: UInt64 = 0
    var priorLost: UInt64 = 0
    var inFlight = 0
    var isApplicationLimited = false
    /// The time that it took; 0 if it was sent more than once.
    var roundTrip: UInt64 = 0
    var sendElapsed: UInt64 = 0
    var acknowledgeElapsed: UInt64 = 0
    var end = SequenceNumber(rawValue: 0)
    /// Bytes that were delivered, and lost, since it was sent; and the rate in bytes a second, 0 where it is not reliable.
    var delivered: UInt64 = 0
    var lost: UInt64 = 0
    var rate: UInt64 = 0

    init() {}
}

extension DeliveryRate {
    /// A segment is sent, or sent again.
    /// - Parameter inFlight: bytes that the network holds, with this segment's.
    //= draft-cheng-iccrg-delivery-rate-estimation section Transmitting a data packet
    //# If there are no packets in flight, then we can start the delivery rate interval at the current time: C.first_sent_time = C.delivered_time =
    //# P.sent_time. P.first_sent_time = C.first_sent_time, P.delivered_time = C.delivered_time, P.delivered = C.delivered,
    //# P.is_app_limited = (C.app_limited != 0)
    mutating func send(byteCount: Int, inFlight: Int, now: UInt64) -> DeliverySnapshot {
        if inFlight <= byteCount {
            firstSentAt = now
            deliveredAt = now
        }
        return DeliverySnapshot(
            delivered: delivered, deliveredAt: deliveredAt, firstSentAt: firstSentAt, lost: lost, inFlight: inFlight,
            isApplicationLimited: applicationLimitedEnd != 0)
    }

    /// A segment has arrived, or a part of it.
    //= draft-cheng-iccrg-delivery-rate-estimation section Upon receiving an ACK
    //# C.delivered += P.data_length; C.delivered_time = Now(); Update info using the newest packet: rs.prior_delivered = P.delivered, rs.prior_time =
    //# P.delivered_time, rs.is_app_limited = P.is_app_limited, rs.send_elapsed = P.sent_time - P.first_sent_time, rs.ack_elapsed = C.delivered_time -
    //# P.delivered_time, C.first_sent_time = P.sent_time
    mutating func deliver(byteCount: Int, _ snapshot: DeliverySnapshot, sentAt: UInt64, end: SequenceNumber, isRetransmitted: Bool, now: UInt64) {
        delivered &+= UInt64(max(byteCount, 0))
        deliveredAt = now
        sample.newlyDelivered += byteCount
        let isNewest = sample.priorTime == 0 || sentAt > firstSentAt || sentAt == firstSentAt && end.since(sample.end) > 0
        guard isNewest, snapshot.deliveredAt != 0 else { return }
        sample.priorDelivered = snapshot.delivered
        sample.priorTime = snapshot.deliveredAt
        sample.priorLost = snapshot.lost
        sample.inFlight = snapshot.inFlight
        sample.isApplicationLimited = snapshot.isApplicationLimited
        sample.sendElapsed = sentAt &- snapshot.firstSentAt
        sample.acknowledgeElapsed = now &- snapshot.deliveredAt
        sample.roundTrip = isRetransmitted ? 0 : now &- sentAt
        sample.end = end
        firstSentAt = sentAt
    }

    mutating func lose(byteCount: Int) {
        lost &+= UInt64(max(byteCount, 0))
        sample.newlyLost += byteCount
    }

    /// Nothing is left to send while the network would take more: what is delivered until now, and what is in flight, tells the program's rate.
    //= draft-cheng-iccrg-delivery-rate-estimation section Detecting application-limited phases
    //# C.app_limited = (C.delivered + C.pipe) ? : 1
    mutating func markApplicationLimited(inFlight: Int) { applicationLimitedEnd = max(delivered &+ UInt64(max(inFlight, 0)), 1) }

    /// The sample of the acknowledgement whose segments were all delivered; the next one begins.
    /// - Parameter minimumRoundTrip: in nanoseconds.
    //= draft-cheng-iccrg-delivery-rate-estimation section Upon receiving an ACK
    //# Clear app-limited field if bubble is ACKed and gone. Use the longer of the send_elapsed and ack_elapsed: rs.interval = max(rs.send_elapsed,
    //# rs.ack_elapsed); rs.delivered = C.delivered - rs.prior_delivered. Normally we expect interval >= MinRTT; if not, the sample is not reliable.
    mutating func takeSample(minimumRoundTrip: UInt64) -> RateSample {
        if applicationLimitedEnd != 0 && delivered > applicationLimitedEnd { applicationLimitedEnd = 0 }
        var result = sample
        sample = RateSample()
        guard result.priorTime != 0 else { return result }
        result.delivered = delivered &- result.priorDelivered
        result.lost = lost &- result.priorLost
        let interval = max(result.sendElapsed, result.acknowledgeElapsed)
        guard interval > 0, interval >= minimumRoundTrip else { return result }
        result.rate = scale(result.delivered, by: 1_000_000_000, over: interval)
        return result
    }
}
