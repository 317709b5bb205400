import Demikernel
import EthernetDevice
import Glibc
import NetworkStack
import Testing
import UserNetwork

/// What a runtime that goes to sleep has to know.
@Suite("Sleep") struct SleepTests {
    private func prepare(_ library: LibraryOS) throws -> Int32 {
        guard let prepareToSleep = library.prepareToSleep else { throw DemikernelError(EOPNOTSUPP, .wait) }
        return prepareToSleep(library.context)
    }

    @Test("the stack's next deadline is a timer of the runtime's: it is armed once, moves, and goes")
    func deadline() throws {
        let pair = try Pair()
        let connection = try pair.connection()
        pair.clock.advance(seconds: 1)
        pair.settle()
        _ = try prepare(pair.libraryB)
        #expect(pair.runtime.statistics.timers <= 1)
        // One segment in order: its acknowledgement waits for a companion.
        try pair.runtime.push(connection.client, pair.runtime.buffer([1]), completion: .discarded)
        #expect(try pair.runtime.result(pair.runtime.pop(connection.server)) == .popped([1]))
        let now = pair.clock.now
        for _ in 0..<3 { _ = try prepare(pair.libraryB) }
        #expect(pair.runtime.statistics.timers == 1)
        let deadline = try #require(pair.runtime.core.scheduler.nextDeadline)
        #expect(deadline > now && deadline <= now + 40_000_000)
        // Its turn sends the acknowledgement, and the client's retransmission is not needed.
        let sent = UserNetwork.statistics(of: pair.libraryB).device.transmittedFrames
        pair.clock.advance(seconds: 0.04)
        pair.runtime.poll()
        #expect(UserNetwork.statistics(of: pair.libraryB).device.transmittedFrames == sent + 1)
        try pair.runtime.close(connection.client)
        try pair.runtime.close(connection.server)
        pair.expectNothingLeft()
        // Until the neighbour, which is not needed any more, is forgotten.
        for _ in 0..<30 {
            pair.clock.advance(seconds: 60)
            pair.settle(turns: 10)
        }
        _ = try prepare(pair.libraryB)
        #expect(pair.runtime.core.scheduler.nextDeadline == nil)
        #expect(pair.runtime.statistics.timers == 0)
    }

    @Test("the device says whether it can wake; what waits for the device cannot")
    func wakeUp() throws {
        let device = SleepingDevice()
        let runtime = try Runtime(making: [])
        let library = try UserNetwork.make(for: runtime.core, device: device.handle, addresses: [Host.a])
        try runtime.register(library)
        for (answer, expected) in [(17, 17), (EthernetDevice.cannotWake, LibraryOS.cannotWake), (EthernetDevice.nothingToAwait, LibraryOS.nothingToAwait)] {
            device.answer = answer
            #expect(try prepare(library) == expected)
        }
        device.answer = 17
        device.room = 0
        let socket = try runtime.socket(.ipv4, .datagram)
        try runtime.pushTo(socket, ScatterGatherArray(runtime.allocate(10)), Host.b(port: 9), completion: .discarded)
        #expect(try prepare(library) == LibraryOS.cannotWake, "the request for the neighbour's address has no room")
        device.room = 10
        runtime.poll()
        #expect(try prepare(library) == 17)
    }

    @Test("a configuration that the device cannot serve is EINVAL, and the device is closed")
    func configurations() throws {
        for change in 0..<3 {
            let device = SleepingDevice()
            let runtime = try Runtime(making: [])
            #expect(
                errorNumber { () throws(DemikernelError) in
                    _ = try UserNetwork.make(for: runtime.core, device: device.handle, addresses: [Host.a]) { configuration in
                        switch change {
                        case 0: configuration.offloads = .transmitChecksumTCP
                        case 1: configuration.maximumTransmitSegments = 5
                        default: configuration.maximumTransmissionUnit = 1_501
                        }
                    }
                } == EINVAL)
            #expect(device.isClosed)
        }
    }

    @Test("the configuration for a device has its address, MTU, offloads and segments; the seed is the runtime's")
    func defaultConfiguration() {
        let configuration = NetworkConfiguration(for: SleepingDevice().handle, addresses: [Host.a], seed: 5)
        #expect(configuration.macAddress.value == 0x0200_0000_0001)
        #expect(configuration.maximumTransmissionUnit == 1_500)
        #expect(configuration.maximumTransmitSegments == 4)
        #expect(configuration.offloads.isEmpty)
    }
}

/// A device without a link, which takes as many frames as it has room for.
final class SleepingDevice {
    private struct State {
        var answer: Int32 = 17
        var room: Int32 = 10
        var isClosed = false
    }

    /// Lives as long as the process.
    private let state: UnsafeMutablePointer<State>

    init() {
        state = .allocate(capacity: 1)
        state.initialize(to: State())
    }

    var answer: Int32 {
        get { state.pointee.answer }
        set { state.pointee.answer = newValue }
    }

    var room: Int32 {
        get { state.pointee.room }
        set { state.pointee.room = newValue }
    }

    var isClosed: Bool { state.pointee.isClosed }

    var handle: EthernetDevice {
        EthernetDevice(
            name: "sleeping", context: state,
            capabilities: DeviceCapabilities(
                macAddress: 0x0200_0000_0001, maximumFrameByteCount: 1_514, maximumTransmitSegments: 4, driverMode: "none", receiveMode: "none",
                transmitMode: "none"),
            close: { $0.assumingMemoryBound(to: State.self).pointee.isClosed = true },
            attach: { _, _ in 0 },
            transmit: { context, frames, count in
                let taken = min(count, context.assumingMemoryBound(to: State.self).pointee.room)
                for index in 0..<Int(taken) { frames.assumingMemoryBound(to: Frame.self)[index].releaseArray() }
                return taken
            },
            receive: { _, _, _ in 0 },
            prepareToSleep: { $0.assumingMemoryBound(to: State.self).pointee.answer },
            statistics: { _, _ in })
    }
}
