import Demikernel
import Glibc
import Testing
import UserNetwork

/// Many connections at once, and one after the other.
@Suite("Many connections") struct ManyConnectionsTests {
    /// Connects so many clients at once, echoes over all of them, and closes them.
    private func run(_ count: Int, backlog: Int) throws {
        let pair = try Pair()
        let listening = try pair.listener(backlog: backlog)
        // The neighbours know each other, so that no SYN is lost in the queue for an address.
        let scout = try pair.runtime.socket(.ipv4, .stream, on: pair.a)
        #expect(try pair.runtime.result(pair.runtime.connect(scout, to: Host.b(port: 8))) == .failed(ECONNREFUSED, byteCount: 0))
        try pair.runtime.close(scout)
        var connects: [QueueToken] = []
        var accepts: [QueueToken] = []
        var clients: [QueueDescriptor] = []
        for _ in 0..<count {
            accepts.append(try pair.runtime.accept(listening))
            let client = try pair.runtime.socket(.ipv4, .stream, on: pair.a)
            connects.append(try pair.runtime.connect(client, to: Host.b(port: 7)))
            clients.append(client)
        }
        for token in connects { #expect(try pair.runtime.result(token) == .connected) }
        var servers: [UInt16: QueueDescriptor] = [:]
        for token in accepts {
            let (queue, peer) = try pair.runtime.accepted(token)
            servers[peer.port] = queue
        }
        #expect(servers.count == count)
        // Every client gets its own bytes back.
        for (number, client) in clients.enumerated() {
            try pair.runtime.push(client, pair.runtime.buffer(pattern(number..<number + 100)), completion: .discarded)
        }
        for (number, client) in clients.enumerated() {
            let server = try #require(servers[pair.runtime.localAddress(client).port])
            let bytes = try pair.runtime.receive(server, count: 100)
            #expect(bytes == pattern(number..<number + 100))
            try pair.runtime.push(server, pair.runtime.buffer(bytes), completion: .discarded)
            #expect(try pair.runtime.receive(client, count: 100) == bytes)
            try pair.runtime.close(client)
            #expect(try pair.runtime.result(pair.runtime.pop(server)) == .endOfStream)
            try pair.runtime.close(server)
        }
        try pair.runtime.close(listening)
        pair.settle()
        #expect(pair.network.connections == count, "all in TIME_WAIT")
        pair.expectNothingLeft()
        #expect(pair.network.connections == 0)
        #expect(pair.network.tcp.retransmittedSegments == 0)
    }

    @Test("200 connections at once")
    func twoHundred() throws { try run(200, backlog: 256) }

    @Test("1,000 connections at once")
    func thousand() throws { try run(1_000, backlog: 1_024) }

    @Test("a thousand connections one after the other on a handful of descriptors")
    func churn() throws {
        let pair = try Pair(runtime: { $0.limits.maximumQueues = 4 })
        let listening = try pair.listener()
        for round in 0..<1_000 {
            let accept = try pair.runtime.accept(listening)
            let client = try pair.runtime.socket(.ipv4, .stream, on: pair.a)
            #expect(try pair.runtime.result(pair.runtime.connect(client, to: Host.b(port: 7))) == .connected)
            let server = try pair.runtime.accepted(accept).queue
            try pair.runtime.push(client, pair.runtime.buffer([UInt8(truncatingIfNeeded: round)]), completion: .discarded)
            #expect(try pair.runtime.result(pair.runtime.pop(server)) == .popped([UInt8(truncatingIfNeeded: round)]))
            // Each side is the first in turn.
            try pair.runtime.close(round % 2 == 0 ? client : server)
            #expect(try pair.runtime.result(pair.runtime.pop(round % 2 == 0 ? server : client)) == .endOfStream)
            try pair.runtime.close(round % 2 == 0 ? server : client)
        }
        try pair.runtime.close(listening)
        pair.expectNothingLeft()
    }
}
