import WireFormats

/// What a socket says about the IP headers of all that it sends.
public struct PacketOptions: Equatable, Sendable {
    /// The routers that a packet may pass (time to live over IPv4); nil: what the interface says, 64 unless a router has told another.
    public var hopLimit: UInt8?
    /// The codepoint by which routers choose how to treat a packet, 0 to 63: the upper six bits of IPv4's type of service and IPv6's traffic class
    /// (RFC 2474, section 3).
    public var differentiatedServices: UInt8 = 0

    public init() {}

    /// The byte of the header, with an ECN field of zero.
    @inline(__always)
    var trafficClass: UInt8 { differentiatedServices &<< 2 }
}

extension NetworkStack {
    /// What goes out from now on; of a listener, also what its connections send.
    //= RFC 9293 section 3.9.1.9
    //# The application layer MUST be able to specify the Differentiated Services field for segments that are sent on a connection (MUST-48). The
    //# application SHOULD be able to change the Diffserv field value during the connection lifetime (SHLD-21). TCP implementations SHOULD pass the current
    //# Diffserv field value without change to the IP layer, when it sends segments on the connection (SHLD-22).
    //= RFC 1122 section 3.2.1.6
    //# The IP layer MUST provide a means for the transport layer to set the TOS field of every datagram that is sent; the default is all zero bits.
    //= RFC 1122 section 3.2.1.7
    //# The IP layer MUST provide a means for the transport layer to set the TTL field of every datagram that is sent.
    public func setPacketOptions(_ connection: UInt32, _ options: PacketOptions) {
        let c = state.pointee.connections[connection]
        c.pointee.packetOptions = options
        // The headers are made anew for the next segment.
        c.pointee.templateEpoch = 0
        c.pointee.plainHeaderEpoch = 0
        c.pointee.plainIPv6HeaderEpoch = 0
    }

    public func packetOptions(_ connection: UInt32) -> PacketOptions { state.pointee.connections[connection].pointee.packetOptions }

    /// The same for a datagram socket.
    public func setDatagramPacketOptions(_ socket: UInt32, _ options: PacketOptions) {
        let s = datagramSocket(socket)
        s.pointee.packetOptions = options
        s.pointee.templateEpoch = 0
    }

    public func datagramPacketOptions(_ socket: UInt32) -> PacketOptions { datagramSocket(socket).pointee.packetOptions }

    /// The hop limit of a packet to `destination`.
    func hopLimit(_ options: PacketOptions, to destination: IPAddress) -> UInt8 {
        options.hopLimit ?? (destination.isIPv4 ? 64 : state.pointee.ipv6.hopLimit)
    }
}
