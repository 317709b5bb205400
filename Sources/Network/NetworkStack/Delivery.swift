import DatapathMemory
import EthernetDevice
import WireFormats

/// What a socket has awaited, handed to its owner in the turn in which it came: no queue holds it in between, and no event tells of it.
@frozen
public struct Delivery {
    /// The next bytes of the stream, or the payload of a datagram, which may be empty: the received frame's own memory. The caller owns it.
    public let payload: Frame
    public let owner: UInt32

    @inlinable
    init(payload: Frame, owner: UInt32) {
        self.payload = payload
        self.owner = owner
    }

    /// The raw IPv4 address of who sent a datagram; meaningless for bytes of a stream.
    @inlinable @inline(__always)
    public var rawSourceAddress: UInt32 {
        // The headers still lie in front of the payload: only a header without options is delivered this way.
        payload.segmentAddress.loadUnaligned(fromByteOffset: 12 - IPv4Header.byteCount - UDPHeader.byteCount, as: UInt32.self)
    }

    /// The port of who sent a datagram; meaningless for bytes of a stream.
    @inlinable @inline(__always)
    public var sourcePort: UInt16 {
        UInt16(bigEndian: payload.segmentAddress.loadUnaligned(fromByteOffset: -UDPHeader.byteCount, as: UInt16.self))
    }
}

extension NetworkStack {
    /// The largest payload that a `Delivery` has: an owner that can take less does not await any.
    public static var maximumDeliveryByteCount: Int { 65_535 }

    /// Lets `turn` deliver the next bytes of a connection as they come, once. It does so only while there is nothing to receive; where there is,
    /// and when something else comes before, an event tells of it, and the call has to be made again.
    public func awaitData(_ connection: UInt32) {
        state.pointee.connections[connection].pointee.awaitsData = 1
    }

    /// Takes `awaitData` back: what comes is queued.
    public func stopAwaitingData(_ connection: UInt32) {
        state.pointee.connections[connection].pointee.awaitsData = 0
    }

    /// The byte that is 1 between `awaitData` and what ends it; setting it to 1 is as good as the call, and to 0 as `stopAwaitingData`.
    /// Valid as long as the connection is its owner's.
    public func awaitsDataFlag(_ connection: UInt32) -> UnsafeMutablePointer<UInt8> {
        state.pointee.connections[connection].pointer(to: \.awaitsData).unsafelyUnwrapped
    }

    /// Lets `turn` deliver the next datagram as it comes, once. It does so only while there is nothing to receive and no error to tell, and not for who asks about
    /// headers; where there is, and when something else comes before, an event tells of it, and the call has to be made again.
    public func awaitDatagram(_ socket: UInt32) {
        datagramSocket(socket).pointee.awaitsDatagram = 1
    }

    /// Takes `awaitDatagram` back: what comes is queued.
    public func stopAwaitingDatagram(_ socket: UInt32) {
        datagramSocket(socket).pointee.awaitsDatagram = 0
    }

    /// The byte that is 1 between `awaitDatagram` and what ends it; setting it to 1 is as good as the call, and to 0 as `stopAwaitingDatagram`.
    /// Valid as long as the socket is open.
    public func awaitsDatagramFlag(_ socket: UInt32) -> UnsafeMutablePointer<UInt8> {
        datagramSocket(socket).pointer(to: \.awaitsDatagram).unsafelyUnwrapped
    }
}
