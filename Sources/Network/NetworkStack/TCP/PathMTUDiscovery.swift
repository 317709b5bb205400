import WireFormats

/// Path MTU discovery: segments shrink to what the path takes, as routers tell (RFC 1191), or as silence does (RFC 4821), and grow again later.
extension NetworkStack {
    /// A router could not pass on a segment of the connection. The sequence number of the quoted segment has been checked: it is in flight.
    /// - Parameters:
    ///   - byteCount: the next hop's MTU; 0 when the router does not tell.
    ///   - quotedByteCount: the length of the packet that was too large, as quoted.
    func packetTooBig(_ c: ConnectionPointer, _ byteCount: Int, quotedByteCount: Int) {
        let current = c.pointee.sendSegmentSize + headerByteCount(c)
        //= RFC 1191 section 3
        //# a Datagram Too Big message with a Next-Hop MTU field of zero: the host may use any of several strategies: Search for the proper PMTU.
        let told = byteCount == 0 ? PathMTU.plateau(below: min(max(quotedByteCount, PathMTU.smallest), current)) : byteCount
        //= RFC 1191 section 3
        //# A host MUST not increase its estimate of the Path MTU in response to the contents of a Datagram Too Big message.
        //= RFC 5927 section 7.2
        //# A message whose claimed MTU is not smaller than the packet that it is about is discarded.
        //= RFC 8201 section 4
        //# If a node receives a Packet Too Big message reporting a next-hop MTU that is less than the IPv6 minimum link MTU, it must discard it.
        let smallest = c.pointee.remoteAddress.isIPv4 ? PathMTU.smallest : PathMTU.smallestIPv6
        guard told >= smallest, told < current, quotedByteCount == 0 || told < quotedByteCount || byteCount == 0 else {
            return countUnsent(.unmatchedControlMessage)
        }
        state.pointee.pathMTUs.set(told, to: c.pointee.remoteAddress, now: state.pointee.now)
        state.pointee.statistics.tcp.pathMTUReductions += 1
        reduceSegmentSize(c, toPacketsOf: told, until: state.pointee.now &+ PathMTUTable.lifetime)
        //= RFC 1191 section 6.4
        //# a retransmission that is caused by a Datagram Too Big message should not change the congestion window. It should, however, trigger the slow-start
        //# mechanism.
        c.pointee.congestion.restartAfterIdle(segmentSize: c.pointee.sendSegmentSize)
        goBack(c)
        sendPending(c)
    }

    /// Full segments have not been acknowledged for the second time in a row, and no router says why: perhaps what it says does not arrive.
    //= RFC 4821 section 7.6.1
    //# full-stop timeout: a retransmission timeout while nothing gets through; the MTU may have dropped, and eff_pmtu is reduced
    func suspectBlackHole(_ c: ConnectionPointer) {
        guard c.pointee.retransmissionCount == 2 || c.pointee.retransmissionCount == 4, state.pointee.configuration.tcp.detectsBlackHoles,
            c.pointee.flightSize >= c.pointee.sendSegmentSize else { return }
        //= RFC 4821 section 7.2
        //# It is RECOMMENDED that the initial value of search_low be 1024 octets, and that it be lowered where even that does not pass.
        let largest = c.pointee.retransmissionCount == 2 ? 1_024 : 576
        guard c.pointee.sendSegmentSize + headerByteCount(c) > largest else { return }
        state.pointee.statistics.tcp.blackHolesSuspected += 1
        reduceSegmentSize(c, toPacketsOf: largest, until: state.pointee.now &+ PathMTUTable.lifetime)
    }

    /// Bytes of a packet of this connection before its payload.
    private func headerByteCount(_ c: ConnectionPointer) -> Int {
        HeaderTemplate.ipv4ByteCount + c.pointee.template.extraByteCount + 20 + (c.pointee.flags.contains(.timestamps) ? 12 : 0)
    }

    private func reduceSegmentSize(_ c: ConnectionPointer, toPacketsOf byteCount: Int, until time: UInt64) {
        // A path that takes less than this is a lie: a few bytes of payload must not cost a packet each.
        c.pointee.sendSegmentSize = min(c.pointee.sendSegmentSize, max(byteCount - headerByteCount(c), NetworkStack.smallestSegmentSize))
        c.pointee.segmentSizeValidUntil = time
    }

    /// Sets the largest segment by what both sides offered and what is known of the path.
    func chooseSegmentSize(_ c: ConnectionPointer) {
        c.pointee.sendSegmentSize = Int(c.pointee.offeredSegmentSize)
        c.pointee.segmentSizeValidUntil = .max
        if let path = state.pointee.pathMTUs.path(to: c.pointee.remoteAddress, now: state.pointee.now) {
            reduceSegmentSize(c, toPacketsOf: path.byteCount, until: path.expires)
        }
    }

    /// Looks again at what the path takes, when the way to the peer is looked at again.
    func refreshSegmentSize(_ c: ConnectionPointer) {
        if state.pointee.now >= c.pointee.segmentSizeValidUntil {
            //= RFC 1191 section 6.3
            //# Hosts using path MTU discovery MUST detect decreases in PMTU as fast as possible; an increase is looked for by trying a larger size, at an
            //# interval of no less than 5 minutes after a Datagram Too Big message.
            chooseSegmentSize(c)
        } else if let path = state.pointee.pathMTUs.path(to: c.pointee.remoteAddress, now: state.pointee.now),
            path.byteCount < c.pointee.sendSegmentSize + headerByteCount(c)
        {
            reduceSegmentSize(c, toPacketsOf: path.byteCount, until: path.expires)
        }
    }
}
