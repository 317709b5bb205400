import DatapathMemory

/// The blocks of a pcapng file (draft-ietf-opsawg-pcapng), in the byte order of this machine, which the section header tells the reader.
enum CaptureBlock {
    private enum BlockType {
        static let sectionHeader: UInt32 = 0x0a0d_0d0a
        static let interfaceDescription: UInt32 = 1
        static let interfaceStatistics: UInt32 = 5
        static let enhancedPacket: UInt32 = 6
    }

    private enum Option {
        static let end: UInt16 = 0
        static let userApplication: UInt16 = 4
        static let interfaceName: UInt16 = 2
        static let interfaceAddress: UInt16 = 6
        static let timeResolution: UInt16 = 9
        static let packetFlags: UInt16 = 2
        static let received: UInt16 = 4
        static let dropped: UInt16 = 5
    }

    private static let byteOrderMagic: UInt32 = 0x1a2b_3c4d
    private static let linkTypeEthernet: UInt16 = 1
    /// Times count 10^-9 s.
    private static let nanoseconds: UInt8 = 9

    /// Section 4.1: version 1.0, of a section whose length is not told.
    static func sectionHeader() -> [UInt8] {
        var body: [UInt8] = []
        append(byteOrderMagic, to: &body)
        append(UInt16(1), to: &body)
        append(UInt16(0), to: &body)
        append(Int64(-1), to: &body)
        append(option: Option.userApplication, Array("Demikernel".utf8), to: &body)
        append(option: Option.end, [], to: &body)
        return block(BlockType.sectionHeader, body)
    }

    /// Section 4.2: an Ethernet interface with times in nanoseconds.
    static func interfaceDescription(name: String, macAddress: UInt64, snapshotByteCount: Int) -> [UInt8] {
        var body: [UInt8] = []
        append(linkTypeEthernet, to: &body)
        append(UInt16(0), to: &body)
        append(UInt32(clamping: snapshotByteCount), to: &body)
        // An option's length has 16 bits; a name of more than a line helps nobody.
        append(option: Option.interfaceName, Array(name.utf8.prefix(256)), to: &body)
        append(option: Option.interfaceAddress, (0..<6).map { UInt8(truncatingIfNeeded: macAddress >> UInt64(40 - 8 * $0)) }, to: &body)
        append(option: Option.timeResolution, [nanoseconds], to: &body)
        append(option: Option.end, [], to: &body)
        return block(BlockType.interfaceDescription, body)
    }

    /// Section 4.6: how many packets came, and how many of them could not be kept.
    static func interfaceStatistics(interface: UInt32, time: UInt64, received: UInt64, dropped: UInt64) -> [UInt8] {
        var body: [UInt8] = []
        append(interface, to: &body)
        append(UInt32(truncatingIfNeeded: time >> 32), to: &body)
        append(UInt32(truncatingIfNeeded: time), to: &body)
        for (option, count) in [(Option.received, received), (Option.dropped, dropped)] {
            append(option, to: &body)
            append(UInt16(8), to: &body)
            append(count, to: &body)
        }
        append(option: Option.end, [], to: &body)
        return block(BlockType.interfaceStatistics, body)
    }

    /// Bytes of the enhanced packet block of a frame of which `capturedByteCount` bytes are kept.
    static func packetByteCount(_ capturedByteCount: Int) -> Int {
        28 + padded(capturedByteCount) + 8 + 4 + 4
    }

    /// Section 4.3: writes the frame's enhanced packet block to `destination`, which has room for `packetByteCount(capturedByteCount)`.
    static func encodePacket(
        _ frame: Frame, capturedByteCount: Int, interface: UInt32, direction: CaptureDirection, time: UInt64, to destination: UnsafeMutableRawPointer
    ) {
        let byteCount = packetByteCount(capturedByteCount)
        destination.storeBytes(of: BlockType.enhancedPacket, as: UInt32.self)
        destination.storeBytes(of: UInt32(truncatingIfNeeded: byteCount), toByteOffset: 4, as: UInt32.self)
        destination.storeBytes(of: interface, toByteOffset: 8, as: UInt32.self)
        destination.storeBytes(of: UInt32(truncatingIfNeeded: time >> 32), toByteOffset: 12, as: UInt32.self)
        destination.storeBytes(of: UInt32(truncatingIfNeeded: time), toByteOffset: 16, as: UInt32.self)
        destination.storeBytes(of: UInt32(truncatingIfNeeded: capturedByteCount), toByteOffset: 20, as: UInt32.self)
        destination.storeBytes(of: UInt32(truncatingIfNeeded: frame.arrayByteCount), toByteOffset: 24, as: UInt32.self)
        let end = destination + byteCount - 16
        // The padding first: the frame's last bytes are written over what is none.
        if capturedByteCount & 3 != 0 { (end - 4).storeBytes(of: 0, as: UInt32.self) }
        copy(frame, capturedByteCount, to: destination + 28)
        end.storeBytes(of: Option.packetFlags, as: UInt16.self)
        end.storeBytes(of: 4, toByteOffset: 2, as: UInt16.self)
        end.storeBytes(of: direction.rawValue, toByteOffset: 4, as: UInt32.self)
        end.storeBytes(of: UInt32(Option.end), toByteOffset: 8, as: UInt32.self)
        end.storeBytes(of: UInt32(truncatingIfNeeded: byteCount), toByteOffset: 12, as: UInt32.self)
    }

    private static func copy(_ frame: Frame, _ byteCount: Int, to destination: UnsafeMutableRawPointer) {
        var copied = 0
        var segment: Frame? = frame
        while let current = segment, copied < byteCount {
            let count = min(current.segmentByteCount, byteCount - copied)
            (destination + copied).copyMemory(from: current.segmentAddress, byteCount: count)
            copied += count
            segment = current.nextSegment
        }
    }

    private static func block(_ type: UInt32, _ body: [UInt8]) -> [UInt8] {
        var bytes: [UInt8] = []
        append(type, to: &bytes)
        append(UInt32(body.count + 12), to: &bytes)
        bytes += body
        append(UInt32(body.count + 12), to: &bytes)
        return bytes
    }

    private static func append(option: UInt16, _ value: [UInt8], to bytes: inout [UInt8]) {
        append(option, to: &bytes)
        append(UInt16(value.count), to: &bytes)
        bytes += value
        bytes += [UInt8](repeating: 0, count: padded(value.count) - value.count)
    }

    private static func append<Number: FixedWidthInteger>(_ number: Number, to bytes: inout [UInt8]) {
        withUnsafeBytes(of: number) { bytes += $0 }
    }

    /// Everything in the file starts at a multiple of 4.
    private static func padded(_ byteCount: Int) -> Int {
        (byteCount + 3) & ~3
    }
}

/// Which way a frame went, as the packet's flags word says it.
public enum CaptureDirection: UInt32, Sendable {
    case inbound = 1
    case outbound = 2
}
