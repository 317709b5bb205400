import DatapathMemory
import EthernetDevice
import Glibc
import WireFormats

/// The Ethernet device of a simulated host: what is transmitted goes to the host's link at once, what arrives waits until it is received.
final class SimulatedDevice {
    /// Where transmitted frames go.
    var transmitted: ((SimulatedFrame) -> Void)?
    /// Told of a frame that the host is given.
    var received: ((SimulatedFrame) -> Void)?
    /// Looks at a frame before it is given to the host, or as it is transmitted: for a capture.
    var observe: ((Frame, CaptureDirection) -> Void)?
    /// Called when the device refused a frame for want of room.
    var refused: (() -> Void)?

    private let macAddress: MACAddress
    private let maximumTransmissionUnit: Int
    private let maximumTransmitSegments: Int
    private let offloads: DeviceOffloads
    /// Frames that may wait to be received.
    private let receiveQueueLength: Int
    /// Frames that it takes until `refill`; nil for as many as come.
    private let transmitQueueLength: Int?
    private var transmitRoom: Int
    /// Bytes of the blocks that frames are received in, as a ring of equal blocks has them; nil for blocks that fit.
    private let receiveBlockByteCount: Int?
    private var waiting: [SimulatedFrame] = []
    private var firstWaiting = 0
    private var heap: DatapathHeap?
    private(set) var statistics = DeviceStatistics()

    init(_ macAddress: MACAddress, _ settings: SimulatedHost.Settings) {
        self.macAddress = macAddress
        maximumTransmissionUnit = settings.maximumTransmissionUnit
        maximumTransmitSegments = settings.maximumTransmitSegments
        offloads = settings.offloads
        receiveQueueLength = settings.receiveQueueLength
        transmitQueueLength = settings.transmitQueueLength
        transmitRoom = settings.transmitQueueLength ?? .max
        receiveBlockByteCount = settings.receiveBlockByteCount
    }

    /// The device for a network stack. It must be closed, once, to give up its count on this object.
    func makeHandle() -> EthernetDevice {
        EthernetDevice(
            name: "simulated", context: Unmanaged.passRetained(self).toOpaque(),
            capabilities: DeviceCapabilities(
                macAddress: macAddress.value, maximumFrameByteCount: maximumTransmissionUnit + EthernetHeader.byteCount,
                maximumTransmitSegments: maximumTransmitSegments, offloads: offloads, driverMode: "simulated", receiveMode: "copy", transmitMode: "copy"),
            close: { Unmanaged<SimulatedDevice>.fromOpaque($0).release() },
            attach: { SimulatedDevice.at($0).attach($1.assumingMemoryBound(to: DatapathHeap.self).pointee) },
            transmit: { Int32(SimulatedDevice.at($0).transmit($1.assumingMemoryBound(to: Frame.self), Int($2))) },
            receive: { Int32(SimulatedDevice.at($0).receive($1.assumingMemoryBound(to: Frame.self), Int($2))) },
            prepareToSleep: { _ in EthernetDevice.nothingToAwait },
            statistics: { $1.assumingMemoryBound(to: DeviceStatistics.self).pointee = SimulatedDevice.at($0).statistics })
    }

    private static func at(_ context: UnsafeMutableRawPointer) -> SimulatedDevice {
        Unmanaged<SimulatedDevice>.fromOpaque(context).takeUnretainedValue()
    }

    private func attach(_ heap: DatapathHeap) -> Int32 {
        guard self.heap == nil else { return EBUSY }
        self.heap = heap
        return 0
    }

    /// A frame comes from the link. Without room for it, it is lost.
    func arrive(_ frame: SimulatedFrame) {
        guard waiting.count - firstWaiting < receiveQueueLength else {
            statistics.receiveRingFull += 1
            return
        }
        waiting.append(frame)
    }

    /// There is room for frames again.
    func refill() { transmitRoom = transmitQueueLength ?? .max }

    private func transmit(_ frames: UnsafeMutablePointer<Frame>, _ count: Int) -> Int {
        for index in 0..<count {
            guard transmitRoom > 0 else {
                statistics.transmitRingFull += UInt64(count - index)
                refused?()
                return index
            }
            if transmitQueueLength != nil { transmitRoom -= 1 }
            transmit(frames[index])
        }
        return count
    }

    private func transmit(_ frame: Frame) {
        let byteCount = frame.arrayByteCount
        defer { frame.releaseArray() }
        guard byteCount <= maximumTransmissionUnit + EthernetHeader.byteCount else {
            statistics.transmitTooLong += 1
            return
        }
        guard byteCount >= EthernetHeader.byteCount else {
            statistics.transmitTooShort += 1
            return
        }
        observe?(frame, .outbound)
        statistics.transmittedFrames += 1
        statistics.transmittedBytes += UInt64(byteCount)
        let bytes = [UInt8](unsafeUninitializedCapacity: byteCount) { buffer, initialized in
            frame.copyArray(to: UnsafeMutableRawPointer(buffer.baseAddress!))
            if frame.frameFlags.contains(.needsTransportChecksum) { completeChecksum(UnsafeMutableRawBufferPointer(buffer)) }
            initialized = byteCount
        }
        transmitted?(SimulatedFrame(bytes))
    }

    private func receive(_ frames: UnsafeMutablePointer<Frame>, _ capacity: Int) -> Int {
        guard let heap else { return 0 }
        var count = 0
        while count < capacity, firstWaiting < waiting.count {
            let arrived = waiting[firstWaiting]
            let bytes = arrived.bytes
            firstWaiting += 1
            guard let frame = Frame.makeSegment(heap, byteCount: max(bytes.count, receiveBlockByteCount ?? 0), priority: .datagram) else {
                statistics.receiveOutOfMemory += 1
                continue
            }
            frame.truncate(to: bytes.count)
            bytes.withUnsafeBytes { frame.segmentAddress.copyMemory(from: $0.baseAddress!, byteCount: $0.count) }
            frame.frameFlags = bytes.withUnsafeBytes(hasVerifiedChecksums) ? .checksumVerified : []
            observe?(frame, .inbound)
            received?(arrived)
            statistics.receivedFrames += 1
            statistics.receivedBytes += UInt64(bytes.count)
            frames[count] = frame
            count += 1
        }
        if firstWaiting == waiting.count {
            waiting.removeAll(keepingCapacity: true)
            firstWaiting = 0
        }
        return count
    }
}

/// What the device does for the stack, if it has offered to.
extension SimulatedDevice {
    private func completeChecksum(_ bytes: UnsafeMutableRawBufferPointer) {
        let header = bytes.baseAddress! + EthernetHeader.byteCount
        guard let ethernet = EthernetView(bytes.baseAddress!, count: bytes.count), let packet = PacketView(ethernet), !packet.isFragment else {
            preconditionFailure("a frame asks for a checksum that is no whole packet")
        }
        let isTCP = packet.protocolNumber == IPProtocol.tcp
        precondition(offloads.contains(isTCP ? .transmitChecksumTCP : .transmitChecksumUDP), "a frame asks for a checksum that the device has not offered")
        let transport = header + UnsafeRawPointer(header).distance(to: packet.payload)
        let checksum = InternetChecksum.finish(InternetChecksum.sum(transport, count: packet.payloadByteCount))
        // A datagram's checksum of zero would say that there is none.
        transport.storeBytes(of: checksum == 0 && !isTCP ? 0xffff : checksum, toByteOffset: isTCP ? 16 : 6, as: UInt16.self)
    }

    private func hasVerifiedChecksums(_ bytes: UnsafeRawBufferPointer) -> Bool {
        guard offloads.contains(.receiveChecksumIPv4), let ethernet = EthernetView(bytes.baseAddress!, count: bytes.count),
            let packet = PacketView(ethernet), packet.isHeaderChecksumValid, !packet.isFragment
        else { return false }
        var byteCount = packet.payloadByteCount
        switch packet.protocolNumber {
        case IPProtocol.tcp where offloads.contains(.receiveChecksumTCP) && byteCount >= TCPSegmentHeader.minimumByteCount: break
        case IPProtocol.udp where offloads.contains(.receiveChecksumUDP) && UDPView.check(packet.payload, count: byteCount) == .none:
            guard UDPView(unchecked: packet.payload).hasChecksum else { return false }
            byteCount = UDPView(unchecked: packet.payload).byteCount
        default: return false
        }
        return InternetChecksum.isValid(packet.pseudoHeader(byteCount: byteCount) &+ InternetChecksum.sum(packet.payload, count: byteCount))
    }
}
