import DatapathMemory
import EthernetDevice
import Glibc

/// An Ethernet device whose other end is the script: frames are received from one list and sent to another.
///
/// It has no offload, so that every checksum is the stack's, and gathers segments, so that zero-copy is on its path.
final class ScriptDevice {
    /// Frames of the script that the stack has not received yet, oldest first.
    private var arrived: [[UInt8]] = []
    /// Frames of the stack that the script has not seen yet, oldest first.
    private var sent: [[UInt8]] = []
    private var heap: DatapathHeap?
    private var statistics = DeviceStatistics()
    private let maximumFrameByteCount: Int
    private let macAddress: UInt64

    /// Frames that wait to be received at most.
    static let maximumArrived = 65_536
    /// Frames that are sent between two polls at most; more is a stack that has run wild.
    static let maximumSent = 65_536

    init(macAddress: UInt64, maximumTransmissionUnit: Int) {
        self.macAddress = macAddress
        maximumFrameByteCount = DeviceCapabilities.ethernetHeaderByteCount + maximumTransmissionUnit
    }

    /// A frame from the script.
    /// - Returns: false when too many wait already.
    func arrive(_ frame: [UInt8]) -> Bool {
        guard arrived.count < ScriptDevice.maximumArrived else { return false }
        arrived.append(frame)
        return true
    }

    /// The frames that the stack has sent since the last call.
    func takeSent() -> [[UInt8]] {
        defer { sent = [] }
        return sent
    }

    /// The device as the stack sees it. It holds one reference until it is closed.
    func makeHandle() -> EthernetDevice {
        EthernetDevice(
            name: "script", context: Unmanaged.passRetained(self).toOpaque(),
            capabilities: DeviceCapabilities(
                macAddress: macAddress, maximumFrameByteCount: maximumFrameByteCount, maximumTransmitSegments: ScatterGatherArray.maximumSegments,
                driverMode: "script", receiveMode: "copy", transmitMode: "copy"),
            close: { Unmanaged<ScriptDevice>.fromOpaque($0).release() },
            attach: { ScriptDevice.at($0).attach($1.assumingMemoryBound(to: DatapathHeap.self).pointee) },
            transmit: { ScriptDevice.at($0).transmit($1.assumingMemoryBound(to: Frame.self), $2) },
            receive: { ScriptDevice.at($0).receive($1.assumingMemoryBound(to: Frame.self), $2) },
            prepareToSleep: { _ in EthernetDevice.nothingToAwait },
            statistics: { $1.assumingMemoryBound(to: DeviceStatistics.self).pointee = ScriptDevice.at($0).statistics })
    }

    private static func at(_ context: UnsafeMutableRawPointer) -> ScriptDevice {
        Unmanaged<ScriptDevice>.fromOpaque(context).takeUnretainedValue()
    }

    private func attach(_ heap: DatapathHeap) -> Int32 {
        guard self.heap == nil else { return EBUSY }
        self.heap = heap
        return 0
    }

    private func transmit(_ frames: UnsafeMutablePointer<Frame>, _ count: Int32) -> Int32 {
        let taken = min(Int(count), ScriptDevice.maximumSent - sent.count)
        for index in 0..<taken {
            let frame = frames[index]
            let byteCount = frame.arrayByteCount
            if byteCount > maximumFrameByteCount {
                statistics.transmitTooLong += 1
            } else if byteCount < DeviceCapabilities.ethernetHeaderByteCount {
                statistics.transmitTooShort += 1
            } else {
                statistics.transmittedFrames += 1
                statistics.transmittedBytes += UInt64(byteCount)
                statistics.transmitCopies += 1
                sent.append(
                    [UInt8](unsafeUninitializedCapacity: byteCount) { storage, count in
                        if let base = storage.baseAddress { frame.copyArray(to: base) }
                        count = byteCount
                    })
            }
            frame.releaseArray()
        }
        statistics.transmitRingFull += UInt64(Int(count) - taken)
        return Int32(taken)
    }

    private func receive(_ frames: UnsafeMutablePointer<Frame>, _ capacity: Int32) -> Int32 {
        guard let heap else { return 0 }
        var count = 0
        var looked = 0
        while count < Int(capacity), looked < arrived.count {
            let bytes = arrived[looked]
            looked += 1
            guard bytes.count <= maximumFrameByteCount, !bytes.isEmpty else {
                statistics.receiveMalformed += 1
                continue
            }
            guard let frame = Frame.makeSegment(heap, byteCount: bytes.count, priority: .datagram) else {
                statistics.receiveOutOfMemory += 1
                continue
            }
            bytes.withUnsafeBytes { frame.segmentAddress.copyMemory(from: $0.baseAddress.unsafelyUnwrapped, byteCount: $0.count) }
            frame.frameFlags = []
            statistics.receivedFrames += 1
            statistics.receivedBytes += UInt64(bytes.count)
            statistics.receiveCopies += 1
            frames[count] = frame
            count += 1
        }
        arrived.removeFirst(looked)
        return Int32(count)
    }
}
