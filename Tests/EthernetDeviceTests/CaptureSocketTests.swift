import DatapathMemory
import Glibc
import PcapngReader
import Testing

@testable import EthernetDevice

/// Captures that go to a socket, of devices in use.
@Suite struct CaptureSocketTests {
    private func socketPair() throws -> (writer: Int32, reader: Int32) {
        var ends: [Int32] = [-1, -1]
        try #require(socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &ends) == 0)
        return (ends[0], ends[1])
    }

    private func readAll(_ socket: Int32) -> [UInt8] {
        var all: [UInt8] = []
        var bytes = [UInt8](repeating: 0, count: 65_536)
        while case let count = recv(socket, &bytes, bytes.count, 0), count > 0 { all += bytes[..<count] }
        return all
    }

    @Test func aDeviceIsCapturedForAWhileAndIsItselfAgain() throws {
        try withHeap { heap in
            try withPair(heap) { first, second in
                let ends = try socketPair()
                #expect(first.transmit(makeFrame(heap, pattern(0))))
                let writer = PacketCaptureWriter(socket: ends.writer, clock: ManualClock(1).clock)
                let device = try CapturingDevice.wrap(first, writer: writer, interfaceName: "a", snapshotByteCount: 20)
                #expect(device.transmit(makeFrame(heap, pattern(1))))
                #expect(second.transmit(makeFrame(heap, pattern(2))))
                #expect(device.collect() == [pattern(2)])
                let unwrapped = CapturingDevice.unwrap(device)
                #expect(unwrapped.context == first.context)
                #expect(unwrapped.transmit(makeFrame(heap, pattern(3))))
                #expect(second.collect() == [pattern(0), pattern(1), pattern(3)])

                let rest = writer.closeReturningRest(0)
                let capture = try PcapngReader(readAll(ends.reader) + rest)
                #expect(capture.packets.map(\.bytes) == [Array(pattern(1)[..<20]), Array(pattern(2)[..<20])])
                #expect(capture.packets.map(\.originalByteCount) == [60, 60])
                #expect(capture.interfaces[0].received == 2 && capture.interfaces[0].dropped == 0)
                close(ends.reader)
            }
        }
    }

    @Test func aDeviceWithNothingToDoGivesTheSocketWhatItHas() throws {
        try withHeap { heap in
            try withPair(heap) { first, second in
                let ends = try socketPair()
                let writer = PacketCaptureWriter(socket: ends.writer, clock: ManualClock(1).clock)
                let device = try CapturingDevice.wrap(first, writer: writer, interfaceName: "a")
                #expect(second.transmit(makeFrame(heap, pattern(2))))
                #expect(device.collect().count == 1)
                var byte: UInt8 = 0
                #expect(recv(ends.reader, &byte, 1, Int32(MSG_DONTWAIT)) == -1)
                #expect(device.collect().isEmpty)
                #expect(recv(ends.reader, &byte, 1, Int32(MSG_DONTWAIT)) == 1)
                _ = CapturingDevice.unwrap(device)
                _ = writer.closeReturningRest(0)
                close(ends.reader)
            }
        }
    }

    @Test func whoDoesNotReadLosesPacketsAndNobodyWaits() throws {
        try withHeap { heap in
            try withPair(heap) { first, second in
                let ends = try socketPair()
                let writer = PacketCaptureWriter(socket: ends.writer, clock: ManualClock(1).clock, bufferByteCount: 64 << 10)
                let device = try CapturingDevice.wrap(first, writer: writer, interfaceName: "a")
                for index in 0..<2_000 {
                    #expect(device.transmit(makeFrame(heap, pattern(index, count: 1_500))))
                    #expect(second.collect().count == 1)
                }
                _ = CapturingDevice.unwrap(device)
                let dropped = writer.statistics.droppedPackets
                #expect(dropped > 0 && writer.statistics.failedWrites == 0)
                let rest = writer.closeReturningRest(0)
                let capture = try PcapngReader(readAll(ends.reader) + rest)
                // The first ones are whole, and the counts add up.
                #expect(capture.packets.count == 2_000 - Int(dropped))
                for (index, packet) in capture.packets.enumerated() { #expect(packet.bytes == pattern(index, count: 1_500)) }
                #expect(capture.interfaces[0].received == 2_000 && capture.interfaces[0].dropped == dropped)
                close(ends.reader)
            }
        }
    }

    @Test func aReaderThatGoesIsNoSignalAndNoLoad() throws {
        try withHeap { heap in
            try withPair(heap) { first, second in
                let ends = try socketPair()
                let writer = PacketCaptureWriter(socket: ends.writer, clock: ManualClock(1).clock)
                let device = try CapturingDevice.wrap(first, writer: writer, interfaceName: "a")
                close(ends.reader)
                for index in 0..<10 {
                    #expect(device.transmit(makeFrame(heap, pattern(index))))
                    #expect(second.collect().count == 1)
                    // Idle turns: only the first of them tries.
                    for _ in 0..<3 { #expect(device.collect().isEmpty) }
                }
                #expect(writer.statistics.failedWrites == 1 && writer.statistics.lastError == EPIPE)
                _ = CapturingDevice.unwrap(device)
                _ = writer.closeReturningRest(0)
            }
        }
    }
}
