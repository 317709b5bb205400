import NetworkStack
import Testing
import WireFormats

@Suite("TCP: what a connection tells of itself") struct ConnectionInformationTests {
    @Test("round trips, windows, flight, rate and retransmissions are those of the connection")
    func information() throws {
        let script = try SegmentScript()
        let connection = script.established(mss: 1_000, scale: 7)
        script.peer(.ack, seq: 1, ack: 1)
        var information = script.stack.connectionInformation(connection)
        #expect(information.state == .established)
        #expect(information.congestionControl == .cubic)
        #expect(information.congestionWindow == 10_000 && information.slowStartThreshold == nil)
        #expect(information.segmentSize == 1_000)
        #expect(information.bytesInFlight == 0 && information.deliveryRate == 0 && information.retransmittedSegments == 0)
        script.send(connection, 50_000)
        information = script.stack.connectionInformation(connection)
        #expect(information.bytesInFlight == 10_000 && information.unacknowledgedBytes == 50_000)
        script.advance(20)
        script.peer(.ack, seq: 1, ack: 10_001)
        information = script.stack.connectionInformation(connection)
        // The handshake took no time: an eighth of 20 ms.
        #expect(information.roundTripTime > 2_000_000 && information.roundTripTime <= 20_000_000)
        #expect(information.roundTripVariation > 0 && information.retransmissionTimeout >= 200_000_000)
        // 10,000 bytes in 20 ms.
        #expect(information.deliveryRate == 500_000)
        #expect(information.congestionWindow > 10_000)
        script.advance(300)
        information = script.stack.connectionInformation(connection)
        #expect(information.retransmittedSegments == 1)
        #expect(information.congestionWindow == 1_000 && information.slowStartThreshold != nil)
        #expect(!information.usesExplicitCongestion)
    }
}
