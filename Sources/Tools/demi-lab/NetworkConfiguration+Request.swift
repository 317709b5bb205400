import DatapathMemory
import NetworkStack
import WireFormats

extension NetworkConfiguration {
    /// The stack that an `init` request asks for.
    ///
    /// What is different from the request: an acknowledgement waits for less than half a second (RFC 9293, section 3.8.6.3), so that a wish for more
    /// becomes 499 ms; the first retransmission timeout is RFC 6298's, whatever `handshake_timeout_ms` says.
    init(_ request: Request) throws(RequestError) {
        guard let macAddress = MACAddress(parsing: try request.required(\.mac, "mac")) else { throw RequestError("mac is no hardware address") }
        guard let address = IPAddress(parsing: try request.required(\.ip, "ip")), address.isIPv4 else { throw RequestError("ip is no IPv4 address") }
        guard let length = UInt8(exactly: request.prefix ?? 24), length <= 32 else { throw RequestError("prefix is not between 0 and 32") }
        self.init(macAddress: macAddress, addresses: [IPv4Prefix(address: address, length: length)], seed: request.seed ?? 0)
        if let unit = request.mtu { maximumTransmissionUnit = unit }
        // In the addresses' order, and not in that of a dictionary.
        for (name, hardware) in (request.arp ?? [:]).sorted(by: { $0.key < $1.key }) {
            guard let neighbor = IPAddress(parsing: name), neighbor.isIPv4, let hardware = MACAddress(parsing: hardware) else {
                throw RequestError("arp has an entry that is no IPv4 address with a hardware address")
            }
            staticNeighbors.append(StaticNeighbor(address: neighbor, macAddress: hardware))
        }
        try tcp.apply(request)
    }
}

extension TCPConfiguration {
    fileprivate mutating func apply(_ request: Request) throws(RequestError) {
        maximumSegmentSize = request.mss
        if let window = request.receiveWindow {
            receiveBuffer = window
            maximumReceiveBuffer = window
        }
        if let scale = request.windowScale {
            guard let scale = UInt8(exactly: scale) else { throw RequestError("wscale is not between 0 and 14") }
            windowScale = scale
        }
        offersTimestamps = request.timestamps ?? offersTimestamps
        offersSelectiveAcknowledgements = request.sack ?? offersSelectiveAcknowledgements
        isNoDelay = request.noDelay ?? isNoDelay
        fixedInitialSequenceNumber = request.initialSequenceNumber
        if let milliseconds = request.delayedAcknowledgementMilliseconds {
            delayedAcknowledgement = UInt64(min(max(milliseconds, 0), 499)) * 1_000_000
        }
        // The first one is none of the retransmissions.
        if let tries = request.handshakeTries {
            guard (1...65).contains(tries) else { throw RequestError("handshake_tries is not between 1 and 65") }
            maximumSYNRetransmissions = tries - 1
        }
        if let seconds = request.segmentLifetimeSeconds {
            guard (0...1_000).contains(seconds) else { throw RequestError("msl_s is not between 0 and 1000") }
            maximumSegmentLifetime = UInt64(seconds) * 1_000_000_000
        }
    }
}
