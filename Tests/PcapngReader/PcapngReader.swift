/// For tests: reads a pcapng file as draft-ietf-opsawg-pcapng tells it, without a look at how it was written: either byte order, unknown blocks and options skipped.
public struct PcapngReader {
    public struct Interface: Equatable {
        public var linkType = 0
        public var snapshotByteCount = 0
        public var name = ""
        public var address: [UInt8] = []
        /// Power of ten of a second in which times count; 6 where the file does not say.
        public var timeResolution = 6
        /// From the statistics at the end; nil where there are none.
        public var received: UInt64?
        public var dropped: UInt64?

        public init(linkType: Int = 0, snapshotByteCount: Int = 0, name: String = "", address: [UInt8] = [], timeResolution: Int = 6) {
            self.linkType = linkType
            self.snapshotByteCount = snapshotByteCount
            self.name = name
            self.address = address
            self.timeResolution = timeResolution
        }
    }

    public struct Packet: Equatable {
        public var interface = 0
        public var time: UInt64 = 0
        public var bytes: [UInt8] = []
        public var originalByteCount = 0
        /// 0 unknown, 1 inbound, 2 outbound.
        public var direction: UInt32 = 0

        public init(interface: Int = 0, time: UInt64 = 0, bytes: [UInt8] = [], originalByteCount: Int = 0, direction: UInt32 = 0) {
            self.interface = interface
            self.time = time
            self.bytes = bytes
            self.originalByteCount = originalByteCount
            self.direction = direction
        }
    }

    public struct FormatError: Error, CustomStringConvertible {
        public let description: String
    }

    public private(set) var interfaces: [Interface] = []
    public private(set) var packets: [Packet] = []
    public private(set) var application = ""

    private let bytes: [UInt8]
    private var isLittleEndian = true

    public init(_ bytes: [UInt8]) throws {
        self.bytes = bytes
        var offset = 0
        while offset < bytes.count {
            guard bytes.count - offset >= 12 else { throw FormatError(description: "half a block at \(offset)") }
            if offset == 0 || Array(bytes[offset..<offset + 4]) == [0x0a, 0x0d, 0x0d, 0x0a] { try readByteOrder(offset) }
            let length = Int(number(offset + 4, 4))
            guard length >= 12, length % 4 == 0, length <= bytes.count - offset else { throw FormatError(description: "a length of \(length) at \(offset)") }
            guard Int(number(offset + length - 4, 4)) == length else { throw FormatError(description: "the lengths differ at \(offset)") }
            try readBlock(number(offset, 4), offset + 8, offset + length - 4)
            offset += length
        }
    }

    private mutating func readByteOrder(_ offset: Int) throws {
        guard Array(bytes[offset..<offset + 4]) == [0x0a, 0x0d, 0x0d, 0x0a] else { throw FormatError(description: "no section header") }
        switch Array(bytes[offset + 8..<offset + 12]) {
        case [0x4d, 0x3c, 0x2b, 0x1a]: isLittleEndian = true
        case [0x1a, 0x2b, 0x3c, 0x4d]: isLittleEndian = false
        default: throw FormatError(description: "no byte order")
        }
    }

    private mutating func readBlock(_ type: UInt64, _ start: Int, _ end: Int) throws {
        switch type {
        case 0x0a0d_0d0a:
            guard number(start + 4, 2) == 1, number(start + 6, 2) == 0 else { throw FormatError(description: "not version 1.0") }
            guard number(start + 8, 8) == .max else { throw FormatError(description: "the section has a length") }
            for (code, value) in try options(start + 16, end) where code == 4 { application = String(decoding: value, as: UTF8.self) }
        case 1:
            var interface = Interface(linkType: Int(number(start, 2)), snapshotByteCount: Int(number(start + 4, 4)))
            for (code, value) in try options(start + 8, end) {
                switch code {
                case 2: interface.name = String(decoding: value, as: UTF8.self)
                case 6: interface.address = value
                case 9: interface.timeResolution = Int(value[0])
                default: break
                }
            }
            interfaces.append(interface)
        case 5:
            let interface = Int(number(start, 4))
            guard interface < interfaces.count else { throw FormatError(description: "statistics of an unknown interface") }
            for (code, value) in try options(start + 12, end) where code == 4 || code == 5 {
                guard value.count == 8 else { throw FormatError(description: "a count of \(value.count) bytes") }
                let count = (isLittleEndian ? Array(value.reversed()) : value).reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
                if code == 4 { interfaces[interface].received = count } else { interfaces[interface].dropped = count }
            }
        case 6:
            let captured = Int(number(start + 12, 4))
            guard captured <= end - start - 20 else { throw FormatError(description: "a packet is longer than its block") }
            var packet = Packet(
                interface: Int(number(start, 4)), time: number(start + 4, 4) << 32 | number(start + 8, 4),
                bytes: Array(bytes[start + 20..<start + 20 + captured]), originalByteCount: Int(number(start + 16, 4)))
            guard packet.interface < interfaces.count else { throw FormatError(description: "a packet of an unknown interface") }
            for (code, value) in try options(start + 20 + (captured + 3) / 4 * 4, end) where code == 2 {
                guard value.count == 4 else { throw FormatError(description: "flags of \(value.count) bytes") }
                packet.direction = UInt32(value[isLittleEndian ? 0 : 3]) & 3
            }
            packets.append(packet)
        default: break
        }
    }

    private func options(_ start: Int, _ end: Int) throws -> [(code: Int, value: [UInt8])] {
        var found: [(Int, [UInt8])] = []
        var offset = start
        while offset < end {
            guard end - offset >= 4 else { throw FormatError(description: "half an option at \(offset)") }
            let (code, length) = (Int(number(offset, 2)), Int(number(offset + 2, 2)))
            if code == 0 {
                guard length == 0, offset + 4 == end else { throw FormatError(description: "something behind the last option at \(offset)") }
                return found
            }
            guard length <= end - offset - 4 else { throw FormatError(description: "an option of \(length) bytes at \(offset)") }
            found.append((code, Array(bytes[offset + 4..<offset + 4 + length])))
            offset += 4 + (length + 3) / 4 * 4
        }
        return found
    }

    private func number(_ offset: Int, _ count: Int) -> UInt64 {
        let digits = bytes[offset..<offset + count]
        return (isLittleEndian ? Array(digits.reversed()) : Array(digits)).reduce(0) { $0 << 8 | UInt64($1) }
    }
}
