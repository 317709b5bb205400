import Glibc
import Testing

@testable import DatapathMemory

/// A device that writes down what it is told.
private final class RecordingDevice {
    struct Region: Equatable {
        var base: UnsafeMutableRawPointer
        var byteCount: Int
        var key: UInt64
    }

    var registered: [Region] = []
    var unregistered: [(base: UnsafeMutableRawPointer, key: UInt64)] = []
    private let firstKey: UInt64

    init(firstKey: UInt64) { self.firstKey = firstKey }

    var registration: DeviceRegistration {
        DeviceRegistration(
            context: Unmanaged.passUnretained(self).toOpaque(),
            register: { context, base, byteCount in
                let device = Unmanaged<RecordingDevice>.fromOpaque(context).takeUnretainedValue()
                let key = device.firstKey + UInt64(device.registered.count)
                device.registered.append(Region(base: base, byteCount: byteCount, key: key))
                return key
            },
            unregister: { context, base, key in
                let device = Unmanaged<RecordingDevice>.fromOpaque(context).takeUnretainedValue()
                device.unregistered.append((base, key))
            })
    }
}

@Suite struct DeviceRegistrationTests {
    @Test func theArenaIsRegisteredWholeAndFoundByAddress() throws {
        let device = RecordingDevice(firstKey: 100)
        let heap = try DatapathHeap(smallConfiguration())
        let identifier = heap.register(device.registration)
        #expect(device.registered.count == 1)
        let region = device.registered[0]
        #expect(region.byteCount == 4 << 20)
        #expect(UInt(bitPattern: region.base) % 4096 == 0)
        do {
            let held = fill(heap, 5000, .reserve) + fill(heap, 64, .reserve)
            for block in held {
                let first = block.buffer.address
                let last = first + (block.buffer.count + block.buffer.tailroom - 1)
                #expect(first >= region.base && last < region.base + region.byteCount, "every block lies in what the device knows")
                #expect(heap.registration(of: first, with: identifier) == 100)
                #expect(heap.registration(of: last, with: identifier) == 100)
            }
            #expect(heap.registration(of: region.base, with: identifier) == 100)
            #expect(heap.registration(of: region.base - 1, with: identifier) == nil)
            #expect(heap.registration(of: region.base + region.byteCount, with: identifier) == nil)
            #expect(!heap.contains(region.base - 1) && heap.contains(region.base))
            withUnsafeBytes(of: heap) { #expect(heap.registration(of: $0.baseAddress!, with: identifier) == nil) }
        }
        #expect(device.unregistered.isEmpty)
        heap.close()
        #expect(device.unregistered.map(\.base) == [region.base])
        #expect(device.unregistered.map(\.key) == [100])
    }

    @Test func eachDeviceHasItsOwnRegistrationOfEachArena() throws {
        let early = RecordingDevice(firstKey: 100)
        let late = RecordingDevice(firstKey: 200)
        let heap = try DatapathHeap(smallConfiguration())
        let earlyIdentifier = heap.register(early.registration)
        try heap.addArena(smallConfiguration())
        let lateIdentifier = heap.register(late.registration)
        #expect(earlyIdentifier != lateIdentifier)
        #expect(early.registered.map(\.key) == [100, 101])
        #expect(late.registered.map(\.key) == [200, 201])
        #expect(early.registered.map(\.base) == late.registered.map(\.base))
        for index in 0..<2 {
            let inside = early.registered[index].base + 12345
            #expect(heap.registration(of: inside, with: earlyIdentifier) == UInt64(100 + index))
            #expect(heap.registration(of: inside, with: lateIdentifier) == UInt64(200 + index))
        }
        heap.unregister(earlyIdentifier)
        #expect(early.unregistered.map(\.key).sorted() == [100, 101])
        #expect(late.unregistered.isEmpty)
        #expect(heap.registration(of: early.registered[0].base, with: earlyIdentifier) == nil, "a registration that was taken back is no more")
        #expect(heap.registration(of: early.registered[0].base, with: lateIdentifier) == 200)

        heap.unregister(earlyIdentifier)
        try heap.addArena(smallConfiguration())
        #expect(early.registered.count == 2, "a device that is gone learns of no more arenas")
        #expect(late.registered.count == 3)
        heap.close()
        #expect(early.unregistered.count == 2, "nor is it told twice")
        #expect(late.unregistered.map(\.key).sorted() == [200, 201, 202])
    }

    /// From 1 KiB up nothing is copied: what the device would transmit lies where the application wrote it.
    @Test func aBufferReachesTheDeviceByAddress() throws {
        let device = RecordingDevice(firstKey: 1)
        try withHeap { heap in
            _ = heap.register(device.registration)
            let region = device.registered[0]
            for byteCount in [1024, 1500, 4096, 65536] {
                let held = try HeldBuffer(heap, byteCount, headroom: 64)
                let address = held.buffer.address
                let array = ScatterGatherArray(unsafelyTakingOver: try ScatterGatherArray(held.buffer.slice(0..<byteCount)).takeOver())
                let transmitted = array.withUnsafeBytes(ofSegment: 0) { $0.baseAddress }
                #expect(transmitted == UnsafeRawPointer(address))
                #expect(address >= region.base && address + byteCount <= region.base + region.byteCount)
            }
        }
    }
}
