import NetworkStack
import Testing

/// RFC 1122, section 2.3.2.1: what is known of a neighbour grows old, also for a connection that only sends.
@Suite("TCP: neighbours") struct NeighborUseTests {
    @Test("a connection that only sends data asks for its neighbour again")
    func sender() throws {
        let pair = try StackPair()
        let (client, server) = pair.connect(listener: pair.listener(on: 1))
        var requests = 0
        // EtherType ARP, operation request, to the peer.
        pair.passes = { target, bytes in
            if target == 1 && bytes[12] == 8 && bytes[13] == 6 && bytes[21] == 1 { requests += 1 }
            return true
        }
        for second in 0..<200 {
            #expect(pair.send(0, client, [UInt8(truncatingIfNeeded: second)]) == 0)
            pair.advance(1_000_000_000)
            #expect(pair.receive(1, server).count == 1)
        }
        #expect(requests >= 4)
    }
}
