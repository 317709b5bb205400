import Foundation
import Glibc
import Testing

@testable import DemiLab

/// Exchanges over the production stack, as a packet script sees them.
@Suite("Exchanges over the adapter") struct ExchangeTests {
    @Test("a datagram is popped with its sender, and one that is pushed goes back")
    func datagramEcho() throws {
        let script = Script()
        try script.begin()
        let socket = try script.socket("dgram")
        try script.call("bind", #""qd":\#(socket),"ip":"192.168.1.1","port":12345"#)
        let pop = try script.begin("pop", #""qd":\#(socket)"#)
        #expect(try script.exchange(Packet(datagram: [1, 2, 3])).isEmpty)
        let popped = try script.result(pop)
        #expect(popped["data"] as? String == "010203")
        #expect(popped["addr"] as? String == "192.168.1.2")
        #expect(popped["port"] as? Int == 23456)
        let push = try script.begin("pushto", #""qd":\#(socket),"ip":"192.168.1.2","port":23456,"data":"010203""#)
        #expect(try script.result(push)["ret"] as? Int == 0, "it is done at once, without a poll")
        let answer = try #require(try script.poll().first)
        #expect(answer.protocolNumber == 17)
        #expect(answer.payload == [1, 2, 3])
        #expect(answer.sourcePort == 12345)
        #expect(answer.destinationPort == 23456)
    }

    @Test("a connection is accepted, echoes, and ends in both directions")
    func connectionEcho() throws {
        let script = Script()
        try script.begin()
        let connection = try script.accept(script.listen(), from: 23456)
        let pop = try script.begin("pop", #""qd":\#(connection)"#)
        try script.exchange(Packet(flags: [.ack, .psh], sequence: 1, acknowledgement: 1, payload: Array(0..<100)))
        #expect(try script.result(pop)["data"] as? String == [UInt8](0..<100).hexadecimal)

        // Small enough to be copied behind its headers, and large enough to be gathered.
        var sequence: UInt32 = 1
        for byteCount in [1, 10, 1_000, 1_023, 1_024, 1_450] {
            let data = (0..<byteCount).map { UInt8(truncatingIfNeeded: $0 &* 7) }
            let push = try script.begin("push", #""qd":\#(connection),"data":"\#(data.hexadecimal)""#)
            let sent = try script.poll()
            #expect(sent.map(\.payload) == [data], "\(byteCount) bytes")
            #expect(sent.map(\.sequence) == [sequence])
            #expect(sent.map(\.acknowledgement) == [101])
            sequence += UInt32(byteCount)
            try script.exchange(Packet(flags: .ack, sequence: 101, acknowledgement: sequence))
            #expect(try script.result(push)["ret"] as? Int == 0)
        }

        let end = try script.begin("pop", #""qd":\#(connection)"#)
        let answer = try script.exchange(Packet(flags: [.fin, .ack], sequence: 101, acknowledgement: sequence))
        #expect(answer.map(\.acknowledgement) == [102])
        #expect(try script.result(end)["data"] as? String == "", "the end of the stream")
        let close = try script.begin("close", #""qd":\#(connection)"#)
        #expect(try script.poll().map(\.flags) == [[.fin, .ack]])
        #expect(try script.result(close)["done"] as? Bool == false)
        #expect(try script.exchange(Packet(flags: .ack, sequence: 102, acknowledgement: sequence + 1)).isEmpty)
        #expect(try script.result(close)["ret"] as? Int == 0)
    }

    @Test("a close is done when TIME_WAIT is over, and not before")
    func closeToken() throws {
        let script = Script()
        try script.begin()
        let connection = try script.accept(script.listen(), from: 23456)
        let close = try script.begin("close", #""qd":\#(connection)"#)
        #expect(try script.poll().map(\.flags) == [[.fin, .ack]])
        let answer = try script.exchange(Packet(flags: [.fin, .ack], sequence: 1, acknowledgement: 2))
        #expect(answer.map(\.flags) == [.ack], "our FIN is acknowledged and not sent again")
        try script.advance(by: 3_999_000_000)
        try script.poll()
        #expect(try script.result(close)["done"] as? Bool == false)
        try script.advance(by: 1_000_000)
        try script.poll()
        #expect(try script.result(close)["done"] as? Bool == true)
    }

    @Test("a push after a long silence without a poll is sent once")
    func pushAfterSilence() throws {
        let script = Script()
        try script.begin()
        let connection = try script.accept(script.listen(), from: 23456)
        try script.advance(by: 90_000_000_000)
        _ = try script.begin("push", #""qd":\#(connection),"data":"01""#)
        #expect(try script.poll().count == 1)
        let deadline = try #require(try script.send(#"{"op":"poll"}"#)["next_timer_ns"] as? NSNumber).uint64Value
        #expect(deadline > script.now, "the timer runs from the push on")
        try script.advance(by: deadline - script.now)
        #expect(try script.poll().map(\.payload) == [[1]])
    }

    @Test("a close after a long silence without a poll ends with a FIN")
    func closeAfterSilence() throws {
        let script = Script()
        try script.begin()
        let connection = try script.accept(script.listen(), from: 23456)
        try script.advance(by: 300_000_000_000)
        _ = try script.begin("close", #""qd":\#(connection)"#)
        #expect(try script.poll().map(\.flags) == [[.fin, .ack]])
        #expect(try script.poll().isEmpty)
    }

    @Test("what is sent again keeps the bounds of what was pushed, and a FIN stands by itself")
    func retransmissionKeepsBounds() throws {
        let script = Script()
        try script.begin()
        let connection = try script.accept(script.listen(), from: 23456)
        for value: UInt8 in [1, 2] {
            let data = [UInt8](repeating: value, count: 1_000)
            _ = try script.begin("push", #""qd":\#(connection),"data":"\#(data.hexadecimal)""#)
        }
        _ = try script.begin("close", #""qd":\#(connection)"#)
        #expect(try script.poll().map(\.payload.count) == [1_000, 1_000, 0])
        try script.advance(by: 3_000_000_000)
        let again = try script.poll()
        #expect(again.map(\.sequence) == [1])
        #expect(again.map(\.payload.count) == [1_000])
        let rest = try script.exchange(Packet(flags: .ack, sequence: 1, acknowledgement: 1_001))
        #expect(rest.map(\.sequence) == [1_001, 2_001])
        #expect(rest.map(\.flags.isFinish) == [false, true])
    }

    @Test("an overdue timer fires once, and runs from now on")
    func overdueTimer() throws {
        let script = Script()
        try script.begin()
        let socket = try script.socket("stream")
        let connect = try script.begin("connect", #""qd":\#(socket),"ip":"192.168.1.2","port":80"#)
        #expect(try script.poll().map(\.flags) == [.syn])
        try script.advance(by: 20_000_000_000)
        let reply = try script.send(#"{"op":"poll"}"#)
        #expect((reply["tx"] as? [String])?.count == 1)
        #expect((reply["next_timer_ns"] as? NSNumber)?.uint64Value == 22_000_000_000, "twice the first second, from now")
        #expect(try script.result(connect)["done"] as? Bool == false)
    }

    @Test("nobody answers: five SYNs in all, then ETIMEDOUT")
    func connectTimesOut() throws {
        let script = Script()
        try script.begin()
        let socket = try script.socket("stream")
        let connect = try script.begin("connect", #""qd":\#(socket),"ip":"192.168.1.2","port":80"#)
        var count = 0
        for _ in 0..<100 {
            count += try script.poll().count
            try script.advance(by: 1_000_000_000)
        }
        #expect(count == 5)
        #expect(try script.result(connect)["ret"] as? Int == Int(ETIMEDOUT))
    }
}

extension Packet.Flags {
    fileprivate var isFinish: Bool { contains(.fin) }
}
