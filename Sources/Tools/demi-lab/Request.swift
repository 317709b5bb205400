/// One line of input. What an operation does not need is ignored, as are keys that have no name here.
struct Request: Decodable {
    var op: String

    // init
    var version: Int?
    var mac, ip: String?
    var prefix, mtu, mss, receiveWindow, windowScale, delayedAcknowledgementMilliseconds, handshakeTries, segmentLifetimeSeconds: Int?
    var timestamps, sack, noDelay: Bool?
    var arp: [String: String]?
    var initialSequenceNumber: UInt32?
    var seed: UInt64?
    // init, clock
    var nowNanoseconds: UInt64?
    // rx
    var frame: String?
    // call
    var function, type: String?
    var queue: Int32?
    var port: UInt16?
    var backlog, how: Int?
    var data: String?
    // try_wait
    var token: UInt64?

    enum CodingKeys: String, CodingKey {
        case op, version, mac, ip, prefix, mtu, mss, timestamps, sack, arp, seed, frame, type, port, backlog, how, data
        case receiveWindow = "rx_window"
        case windowScale = "wscale"
        case delayedAcknowledgementMilliseconds = "delayed_ack_ms"
        case handshakeTries = "handshake_tries"
        case segmentLifetimeSeconds = "msl_s"
        case noDelay = "nodelay"
        case initialSequenceNumber = "isn"
        case nowNanoseconds = "now_ns"
        case function = "fn"
        case queue = "qd"
        case token = "qt"
    }

    /// A field that the operation cannot do without.
    func required<Value>(_ field: KeyPath<Request, Value?>, _ key: String) throws(RequestError) -> Value {
        guard let value = self[keyPath: field] else { throw RequestError("\(key) is missing") }
        return value
    }
}

/// Why a request cannot be done. (What a PDPIX call refuses is no error of the request: the reply then has the errno.)
struct RequestError: Error {
    let message: String

    init(_ message: String) {
        self.message = message
    }

    init(_ error: DecodingError) {
        switch error {
        case .keyNotFound(let key, _): message = "\(key.stringValue) is missing"
        case .typeMismatch(_, let context), .valueNotFound(_, let context), .dataCorrupted(let context):
            let path = context.codingPath.map(\.stringValue).joined(separator: ".")
            message = path.isEmpty ? "the line is no JSON object" : "\(path) is of the wrong type or out of range"
        @unknown default: message = "the line cannot be read"
        }
    }
}
