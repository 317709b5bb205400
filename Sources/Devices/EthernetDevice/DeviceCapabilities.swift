/// What a device can do, and which modes it obtained.
public struct DeviceCapabilities: Sendable {
    /// The device's own address: 48 bits, the octet that is sent first in bits 47…40.
    public var macAddress: UInt64
    /// The longest frame in bytes, from the destination address to the end of the payload, without the frame check sequence: 1514 for an MTU of 1500.
    public var maximumFrameByteCount: Int
    /// The most segments of a frame that is transmitted.
    public var maximumTransmitSegments: Int
    /// Whether a frame of one segment costs less than one of several, the copy that makes it one included: what takes the frame copies it anyway, segment by
    /// segment. A stack then copies the pieces of streams together; a datagram is what was pushed, and leaves from where it lies.
    public var prefersContiguousStreams: Bool
    /// Bytes in front of a frame's first one, in its block, that are the device's where the frame has `FrameFlags.needsTransportChecksum`.
    public var transmitHeadroomByteCount: Int
    /// Queues of the whole device; a handle stands for one of each.
    public var receiveQueueCount: Int
    public var transmitQueueCount: Int
    public var offloads: DeviceOffloads
    /// Which driver path was obtained, for example "native XDP" or "generic XDP".
    public var driverMode: StaticString
    /// How a received frame comes to the heap: "zero copy", "copy".
    public var receiveMode: StaticString
    /// How a frame leaves the heap: "zero copy", "copy".
    public var transmitMode: StaticString

    /// The header that every frame has: both addresses and the EtherType.
    public static let ethernetHeaderByteCount = 14

    public init(
        macAddress: UInt64, maximumFrameByteCount: Int, maximumTransmitSegments: Int, prefersContiguousStreams: Bool = false, transmitHeadroomByteCount: Int = 0,
        receiveQueueCount: Int = 1, transmitQueueCount: Int = 1,
        offloads: DeviceOffloads = [], driverMode: StaticString, receiveMode: StaticString, transmitMode: StaticString
    ) {
        self.macAddress = macAddress
        self.maximumFrameByteCount = maximumFrameByteCount
        self.maximumTransmitSegments = maximumTransmitSegments
        self.prefersContiguousStreams = prefersContiguousStreams
        self.transmitHeadroomByteCount = transmitHeadroomByteCount
        self.receiveQueueCount = receiveQueueCount
        self.transmitQueueCount = transmitQueueCount
        self.offloads = offloads
        self.driverMode = driverMode
        self.receiveMode = receiveMode
        self.transmitMode = transmitMode
    }
}

/// Work that a device takes from the stack.
@frozen
public struct DeviceOffloads: OptionSet, Sendable {
    public let rawValue: UInt32

    @inlinable
    public init(rawValue: UInt32) {
        self.rawValue = rawValue
    }

    /// Received frames can carry `FrameFlags.checksumVerified` for this protocol.
    @inlinable public static var receiveChecksumIPv4: DeviceOffloads { DeviceOffloads(rawValue: 1 << 0) }
    @inlinable public static var receiveChecksumTCP: DeviceOffloads { DeviceOffloads(rawValue: 1 << 1) }
    @inlinable public static var receiveChecksumUDP: DeviceOffloads { DeviceOffloads(rawValue: 1 << 2) }
    /// The device writes the checksum of the IPv4 header of every frame.
    @inlinable public static var transmitChecksumIPv4: DeviceOffloads { DeviceOffloads(rawValue: 1 << 3) }
    /// The device completes the checksum of a frame with `FrameFlags.needsTransportChecksum`.
    @inlinable public static var transmitChecksumTCP: DeviceOffloads { DeviceOffloads(rawValue: 1 << 4) }
    @inlinable public static var transmitChecksumUDP: DeviceOffloads { DeviceOffloads(rawValue: 1 << 5) }
}
