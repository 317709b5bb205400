import Foundation
import Testing

@testable import DemiLab

/// A packet script in Swift: sends requests to a laboratory of its own, as lines, and reads the replies.
final class Script {
    let laboratory: Laboratory
    /// Every reply so far, as it was.
    private(set) var replies: [String] = []
    private(set) var now: UInt64 = 0

    static let start =
        #"{"op":"init","version":1,"mac":"12:23:45:67:89:ab","ip":"192.168.1.1","prefix":24,"mtu":1500,"mss":1450,"rx_window":65535,"wscale":0,"#
        + #""sack":false,"timestamps":false,"delayed_ack_ms":500,"handshake_timeout_ms":3000,"handshake_tries":5,"msl_s":2,"nodelay":true,"#
        + #""arp":{"192.168.1.2":"ab:89:67:45:23:12"},"isn":0,"seed":1,"now_ns":0}"#

    init(over laboratory: Laboratory = Laboratory()) {
        self.laboratory = laboratory
    }

    /// The reply to a line.
    @discardableResult
    func send(_ line: String) throws -> [String: Any] {
        let reply = laboratory.reply(to: line)
        replies.append(reply)
        let object = try JSONSerialization.jsonObject(with: Data(reply.utf8))
        return try #require(object as? [String: Any])
    }

    /// Makes the stack.
    func begin() throws {
        #expect(try send(Script.start)["ok"] as? Bool == true)
    }

    func advance(by nanoseconds: UInt64) throws {
        now += nanoseconds
        #expect(try send(#"{"op":"clock","now_ns":\#(now)}"#)["ok"] as? Bool == true)
    }

    func receive(_ frame: [UInt8]) throws {
        #expect(try send(#"{"op":"rx","frame":"\#(frame.hexadecimal)"}"#)["ok"] as? Bool == true)
    }

    /// Lets everything run that is due.
    /// - Returns: what was sent.
    @discardableResult
    func poll() throws -> [Packet] {
        let texts = try #require(try send(#"{"op":"poll"}"#)["tx"] as? [String])
        return try texts.map { text in
            let frame = try #require([UInt8](hexadecimal: text))
            return try #require(Packet(frame: frame), "it is no right TCP or UDP: \(text)")
        }
    }

    /// Receives a frame, and lets everything run that follows from it.
    @discardableResult
    func exchange(_ packet: Packet) throws -> [Packet] {
        try receive(packet.frame)
        return try poll()
    }

    /// A call that succeeds, with further fields.
    @discardableResult
    func call(_ function: String, _ fields: String = "") throws -> [String: Any] {
        let reply = try send(#"{"op":"call","fn":"\#(function)"\#(fields.isEmpty ? "" : "," + fields)}"#)
        #expect(reply["ret"] as? Int == 0, "\(function)")
        return reply
    }

    /// The errno of a call that is refused.
    func refusal(_ function: String, _ fields: String = "") throws -> Int {
        try #require(try send(#"{"op":"call","fn":"\#(function)"\#(fields.isEmpty ? "" : "," + fields)}"#)["ret"] as? Int)
    }

    /// A call that begins an operation, and its token.
    func begin(_ function: String, _ fields: String) throws -> UInt64 {
        try #require(try call(function, fields)["qt"] as? NSNumber).uint64Value
    }

    func socket(_ type: String) throws -> Int {
        try #require(try call("socket", #""type":"\#(type)""#)["qd"] as? Int)
    }

    /// What `try_wait` says.
    func result(_ token: UInt64) throws -> [String: Any] {
        try send(#"{"op":"try_wait","qt":\#(token)}"#)
    }

    /// A socket that listens at port 12345.
    func listen(backlog: Int = 8) throws -> Int {
        let listener = try socket("stream")
        try call("bind", #""qd":\#(listener),"ip":"192.168.1.1","port":12345"#)
        try call("listen", #""qd":\#(listener),"backlog":\#(backlog)"#)
        return listener
    }

    /// A connection that the peer has opened from `port`; its sequence numbers stand at 1 on both sides.
    func accept(_ listener: Int, from port: UInt16) throws -> Int {
        let token = try begin("accept", #""qd":\#(listener)"#)
        let answer = try exchange(Packet(flags: .syn, sourcePort: port, sequence: 0, maximumSegmentSize: 1450))
        #expect(answer.map(\.flags) == [[.syn, .ack]])
        try exchange(Packet(flags: .ack, sourcePort: port, sequence: 1, acknowledgement: 1))
        let reply = try result(token)
        #expect(reply["port"] as? Int == Int(port))
        return try #require(reply["new_qd"] as? Int)
    }
}
