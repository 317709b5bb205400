import Foundation
import Glibc
import Testing

@testable import DemiLab

/// The adapter's side of the protocol: what it says to requests, sensible or not.
@Suite("The adapter's protocol") struct ProtocolTests {
    @Test(
        "a request that makes no sense is an error, and the next one is served",
        arguments: [
            "", "nonsense", "{", "[]", "17", "null", #""op""#, "{}", #"{"op":7}"#, #"{"op":"fly"}"#, #"{"op":"clock"}"#, #"{"op":"clock","now_ns":-1}"#,
            #"{"op":"clock","now_ns":1e400}"#, #"{"op":"rx"}"#, #"{"op":"rx","frame":"0"}"#, #"{"op":"rx","frame":"0g"}"#, #"{"op":"rx","frame":7}"#,
            #"{"op":"call"}"#, #"{"op":"call","fn":"fly"}"#, #"{"op":"call","fn":"socket"}"#, #"{"op":"call","fn":"socket","type":"raw"}"#,
            #"{"op":"call","fn":"pop"}"#, #"{"op":"call","fn":"pop","qd":4294967296}"#, #"{"op":"call","fn":"push","qd":1,"data":"xy"}"#,
            #"{"op":"call","fn":"bind","qd":1,"ip":"::1","port":7}"#, #"{"op":"call","fn":"bind","qd":1,"ip":"1.2.3.4","port":65536}"#,
            #"{"op":"call","fn":"shutdown","qd":1,"how":3}"#, #"{"op":"try_wait"}"#, #"{"op":"try_wait","qt":12}"#, #"{"op":"try_wait","qt":0}"#,
            #"{"op":"try_wait","qt":18446744073709551615}"#, #"{"op":"init"}"#, "{\"op\":\"poll\"}\u{0}", String(repeating: "[", count: 10_000),
        ])
    func senseless(line: String) throws {
        let script = Script()
        try script.begin()
        let reply = try script.send(line)
        #expect((reply["error"] as? String)?.isEmpty == false)
        #expect(reply.count == 1)
        #expect(try script.send(#"{"op":"poll"}"#)["tx"] as? [String] == [])
    }

    @Test("a stack that cannot be is not made", arguments: [
        #""ip":"192.168.1.1""#, #""mac":"12:23:45:67:89:ab""#, #""mac":"12:23:45:67:89","ip":"192.168.1.1""#,
        #""mac":"12:23:45:67:89:ab","ip":"fe80::1""#, #""mac":"12:23:45:67:89:ab","ip":"192.168.1.1","prefix":33"#,
        #""mac":"12:23:45:67:89:ab","ip":"192.168.1.1","mtu":100"#, #""mac":"12:23:45:67:89:ab","ip":"192.168.1.1","mtu":-1"#,
        #""mac":"12:23:45:67:89:ab","ip":"192.168.1.1","mtu":100000"#, #""mac":"12:23:45:67:89:ab","ip":"192.168.1.1","mss":1"#,
        #""mac":"12:23:45:67:89:ab","ip":"192.168.1.1","wscale":15"#, #""mac":"12:23:45:67:89:ab","ip":"192.168.1.1","wscale":256"#,
        #""mac":"12:23:45:67:89:ab","ip":"192.168.1.1","rx_window":1"#, #""mac":"12:23:45:67:89:ab","ip":"192.168.1.1","handshake_tries":0"#,
        #""mac":"12:23:45:67:89:ab","ip":"192.168.1.1","msl_s":-1"#, #""mac":"12:23:45:67:89:ab","ip":"192.168.1.1","version":2"#,
        #""mac":"12:23:45:67:89:ab","ip":"192.168.1.1","arp":{"x":"02:00:00:00:00:01"}"#, #""mac":"13:23:45:67:89:ab","ip":"192.168.1.1""#,
    ])
    func impossibleStack(fields: String) throws {
        let script = Script()
        #expect(try script.send(#"{"op":"init",\#(fields)}"#)["error"] != nil)
        #expect(try script.send(#"{"op":"poll"}"#)["error"] != nil, "there is no stack")
    }

    @Test("keys without a meaning are ignored")
    func unknownKeys() throws {
        let script = Script()
        let reply = try script.send(
            #"{"op":"init","mac":"12:23:45:67:89:ab","ip":"192.168.1.1","sack":true,"colour":{"of":["the",1]},"handshake_timeout_ms":"soon"}"#)
        #expect(reply["ok"] as? Bool == true)
    }

    @Test("what a call refuses has its errno")
    func refusals() throws {
        let script = Script()
        try script.begin()
        let socket = try script.socket("stream")
        #expect(try script.refusal("pop", #""qd":77"#) == EBADF)
        #expect(try script.refusal("pop", #""qd":\#(socket)"#) == ENOTCONN)
        #expect(try script.refusal("bind", #""qd":\#(socket),"ip":"192.168.1.9","port":1"#) == EADDRNOTAVAIL)
        #expect(try script.refusal("listen", #""qd":\#(socket),"backlog":0"#) == EINVAL)
        #expect(try script.refusal("accept", #""qd":\#(socket)"#) == EINVAL)
        #expect(try script.refusal("shutdown", #""qd":\#(socket),"how":1"#) == ENOTCONN)
    }

    @Test("the clock and the device's queue run nothing; the clock does not go back")
    func nothingRuns() throws {
        let script = Script()
        try script.begin()
        let listener = try script.listen()
        let token = try script.begin("accept", #""qd":\#(listener)"#)
        try script.receive(Packet(flags: .syn, sequence: 0, maximumSegmentSize: 1450).frame)
        try script.advance(by: 1_000)
        #expect(try script.result(token)["done"] as? Bool == false)
        #expect(try script.send(#"{"op":"clock","now_ns":999}"#)["error"] != nil)
        #expect(try script.poll().count == 1, "only now is the frame received")
    }

    @Test("a result is told again, the same")
    func toldAgain() throws {
        let script = Script()
        try script.begin()
        let socket = try script.socket("dgram")
        let token = try script.begin("pushto", #""qd":\#(socket),"ip":"192.168.1.2","port":7,"data":"00""#)
        _ = try script.result(token)
        _ = try script.result(token)
        let answers = script.replies.suffix(2)
        #expect(answers.first == #"{"done":true,"qd":\#(socket),"ret":0}"#)
        #expect(answers.first == answers.last)
    }

    @Test("the same requests give the same bytes, and a new stack is as good as a new process")
    func determinism() throws {
        func play(_ script: Script) throws -> [String] {
            try script.begin()
            let listener = try script.listen()
            let connection = try script.accept(listener, from: 23456)
            let pop = try script.begin("pop", #""qd":\#(connection)"#)
            try script.exchange(Packet(flags: [.ack, .psh], sequence: 1, acknowledgement: 1, payload: [1, 2, 3]))
            _ = try script.result(pop)
            _ = try script.begin("push", #""qd":\#(connection),"data":"0102""#)
            let client = try script.socket("stream")
            _ = try script.begin("connect", #""qd":\#(client),"ip":"192.168.1.2","port":80"#)
            for _ in 0..<20 {
                try script.advance(by: 400_000_000)
                try script.poll()
            }
            return script.replies
        }
        let first = try play(Script())
        #expect(try play(Script()) == first)
        let script = Script()
        _ = try play(script)
        #expect(try play(Script(over: script.laboratory)) == first)
    }
}
