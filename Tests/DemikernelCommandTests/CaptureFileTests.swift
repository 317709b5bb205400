import Glibc
import PcapngReader
import Testing

@testable import DemikernelCommand

/// Captures of several runtimes in one file.
@Suite struct CaptureFileTests {
    private let path = "/tmp/demikernel-capture-\(getpid())-\(UInt64.random(in: .min ... .max)).pcapng"

    private static func number(_ value: UInt32) -> [UInt8] { withUnsafeBytes(of: value) { Array($0) } }

    private static func block(_ type: UInt32, _ body: [UInt8]) -> [UInt8] {
        number(type) + number(UInt32(body.count + 12)) + body + number(UInt32(body.count + 12))
    }

    private static let section = block(0x0a0d_0d0a, number(0x1a2b_3c4d) + [1, 0, 0, 0] + [UInt8](repeating: 0xff, count: 8))
    private static let interface = block(1, [1, 0, 0, 0, 0, 0, 0, 0])
    private static func packet(_ interface: UInt32, _ byte: UInt8) -> [UInt8] {
        block(6, number(interface) + number(0) + number(0) + number(4) + number(4) + [byte, byte, byte, byte])
    }
    private static func statistics(_ interface: UInt32, dropped: UInt8) -> [UInt8] {
        block(5, number(interface) + number(0) + number(0) + [5, 0, 8, 0, dropped, 0, 0, 0, 0, 0, 0, 0] + [0, 0, 0, 0])
    }

    private func content() throws -> PcapngReader {
        let file = try #require(fopen(path, "r"))
        defer { fclose(file) }
        var bytes = [UInt8](repeating: 0, count: 1 << 20)
        let count = fread(&bytes, 1, bytes.count, file)
        return try PcapngReader(Array(bytes[..<count]))
    }

    @Test func capturesAreMergedUnderNumbersOfTheirOwnInWhateverPieces() throws {
        defer { unlink(path) }
        var file = try CaptureFile(path: path, replaces: false, captures: 2)
        let first = Self.section + Self.interface + Self.packet(0, 1) + Self.packet(0, 2) + Self.statistics(0, dropped: 3)
        let second = Self.section + Self.interface + Self.packet(0, 3) + Self.statistics(0, dropped: 4)
        for place in first.indices {
            #expect(try file.append(first[place...place], of: 0))
            if place < second.count { #expect(try file.append(second[place...place], of: 1)) }
        }
        #expect(file.packetCount == 3 && file.droppedCount == 7)
        try file.close()
        let content = try content()
        #expect(content.interfaces.count == 2)
        #expect(content.packets.map { [UInt8($0.interface), $0.bytes[0]] }.sorted { $0[1] < $1[1] } == [[0, 1], [0, 2], [1, 3]])
        #expect(content.interfaces.map(\.dropped) == [3, 4])
    }

    @Test func aFileHasNoMorePacketsThanItIsToHave() throws {
        defer { unlink(path) }
        var file = try CaptureFile(path: path, replaces: false, captures: 1, maximumPacketCount: 2)
        let capture = Self.section + Self.interface + (1...5).flatMap { Self.packet(0, $0) }
        #expect(try file.append(capture[...], of: 0) == false)
        try file.close()
        #expect(try content().packets.map { $0.bytes[0] } == [1, 2])
    }

    private static let malformed: [[UInt8]] = [
        block(6, [UInt8](repeating: 0, count: 20)),
        section + packet(0, 1),
        section + interface + packet(1, 1),
        section + interface + statistics(9, dropped: 1),
        [0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 13, 0, 0, 0, 0, 0, 0, 0, 0],
        number(6) + number(1 << 30) + [0, 0, 0, 0],
        section + interface + block(6, [0, 0, 0, 0]),
        Array(section.dropLast(4)) + [1, 1, 1, 1],
        block(0x0a0d_0d0a, number(0x4d3c_2b1a) + [UInt8](repeating: 0, count: 12)),
    ]

    @Test(arguments: malformed)
    func whatIsNoCaptureIsRefused(bytes: [UInt8]) throws {
        defer { unlink(path) }
        var file = try CaptureFile(path: path, replaces: false, captures: 1)
        #expect(throws: CommandFailure.self) { _ = try file.append(bytes[...], of: 0) }
        try file.close()
    }

    @Test func aFullFileSystemIsTold() throws {
        var file = try CaptureFile(path: "/dev/full", replaces: true, captures: 1)
        let failure = #expect(throws: CommandFailure.self) { _ = try file.append((Self.section + Self.interface)[...], of: 0) }
        #expect(failure?.description.contains("No space left on device") == true)
    }

    @Test func anExistingFileIsReplacedOnRequestAlone() throws {
        defer { unlink(path) }
        try CaptureFile(path: path, replaces: false, captures: 1).close()
        let failure = #expect(throws: CommandFailure.self) { _ = try CaptureFile(path: path, replaces: false, captures: 1) }
        #expect(failure?.description.contains("--force") == true)
        try CaptureFile(path: path, replaces: true, captures: 1).close()
    }
}
