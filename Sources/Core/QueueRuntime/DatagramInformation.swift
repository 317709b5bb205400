import DatapathMemory

/// What a received datagram's IP header, and the system that received it, tell of its way: on request (`SocketOption.datagramInformation`).
public struct DatagramInformation: Equatable, Sendable {
    /// Where it was sent to: an address of this host, a group or a broadcast address. Its port is 0: it is the one of the socket.
    public let destination: SocketAddress
    /// The interface that it came over, as the system numbers them; 0 where the library has one interface and no number for it.
    public let interfaceIndex: UInt32
    /// The routers that it could still have passed (the time to live over IPv4), as received.
    public let hopLimit: UInt8
    /// How its sender asked routers to treat it: a codepoint of RFC 2474, 0 to 63.
    public let differentiatedServices: UInt8
    /// What its sender and the routers say of congestion.
    public let congestionNotification: CongestionNotification

    /// The codepoints of RFC 3168, section 5.
    public enum CongestionNotification: UInt8, Sendable {
        /// Not-ECT: a router that is congested drops it.
        case notCapable = 0
        /// ECT(1) and ECT(0).
        case capable1 = 1
        case capable0 = 2
        /// CE: a router on its way was congested.
        case experienced = 3
    }
}

extension ScatterGatherArray {
    /// Of a datagram that was popped from a socket with `SocketOption.datagramInformation`, also of its parts where a pop's limits have cut it; nil for all
    /// else. O(1). A buffer that is taken out of the array carries it no longer.
    public var datagramInformation: DatagramInformation? { withInformation { $0.map(DatagramInformation.init(unsafelyReading:)) } }
}

/// How a library OS hands the information over: by the IP header, which lies in the array's own block. What a stack has received needs not be copied.
extension DatagramInformation {
    /// Bytes of what `write` makes.
    public static var recordByteCount: Int { 44 }

    /// Set in what `attachInformation` is given where the header has its interface's index in the four bytes before it.
    static var hasInterfaceIndex: UInt32 { 1 << 31 }
    /// An IPv4 address is told as an IPv4-mapped one: the socket is of IPv6.
    static var isMapped: UInt32 { 1 << 30 }

    fileprivate init(unsafelyReading record: (header: UnsafeRawPointer, flags: UInt32)) {
        let (header, flags) = record
        let trafficClass: UInt8
        if header.load(as: UInt8.self) >> 4 == 4 {
            let address = UInt64(header.loadUnaligned(fromByteOffset: 16, as: UInt32.self))
            destination =
                flags & DatagramInformation.isMapped == 0
                ? SocketAddress(family: .ipv4, bytes: (address, 0), port: 0)
                : SocketAddress(family: .ipv6, bytes: (0, address << 32 | 0xffff_0000), port: 0)
            trafficClass = header.load(fromByteOffset: 1, as: UInt8.self)
            hopLimit = header.load(fromByteOffset: 8, as: UInt8.self)
        } else {
            destination = SocketAddress(
                family: .ipv6,
                bytes: (header.loadUnaligned(fromByteOffset: 24, as: UInt64.self), header.loadUnaligned(fromByteOffset: 32, as: UInt64.self)), port: 0)
            trafficClass = UInt8(truncatingIfNeeded: UInt16(bigEndian: header.loadUnaligned(as: UInt16.self)) >> 4)
            hopLimit = header.load(fromByteOffset: 7, as: UInt8.self)
        }
        interfaceIndex = flags & DatagramInformation.hasInterfaceIndex == 0 ? 0 : header.loadUnaligned(fromByteOffset: -4, as: UInt32.self)
        differentiatedServices = trafficClass >> 2
        congestionNotification = CongestionNotification(rawValue: trafficClass & 3).unsafelyUnwrapped
    }

    /// Writes what a system has told, as an IP header of which only that part is filled in, with the interface's index before it.
    /// - Parameter target: `recordByteCount` bytes.
    public static func write(
        to target: UnsafeMutableRawPointer, destination: SocketAddress, interfaceIndex: UInt32, hopLimit: UInt8, trafficClass: UInt8
    ) {
        target.storeBytes(of: interfaceIndex, as: UInt32.self)
        let header = target + 4
        if destination.family == .ipv4 {
            header.storeBytes(of: 0x40, as: UInt8.self)
            header.storeBytes(of: trafficClass, toByteOffset: 1, as: UInt8.self)
            header.storeBytes(of: hopLimit, toByteOffset: 8, as: UInt8.self)
            header.storeBytes(of: UInt32(truncatingIfNeeded: destination.bytes.0), toByteOffset: 16, as: UInt32.self)
        } else {
            header.storeBytes(of: (0x6000 | UInt16(trafficClass) << 4).bigEndian, as: UInt16.self)
            header.storeBytes(of: hopLimit, toByteOffset: 7, as: UInt8.self)
            header.storeBytes(of: destination.bytes.0, toByteOffset: 24, as: UInt64.self)
            header.storeBytes(of: destination.bytes.1, toByteOffset: 32, as: UInt64.self)
        }
    }

    /// Says that what `write` has made begins `distance` bytes before the first byte of an array.
    public static func attachRecord(_ distance: Int, to array: UnsafeMutablePointer<SegmentDescriptor>) {
        array.attachInformation(distance &- 4, flags: hasInterfaceIndex)
    }

    /// Says that the IP header with which an array was received lies `distance` bytes before its first byte.
    public static func attachHeader(_ distance: Int, asMapped: Bool, to array: UnsafeMutablePointer<SegmentDescriptor>) {
        array.attachInformation(distance, flags: asMapped ? isMapped : 0)
    }
}
