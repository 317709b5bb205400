import Demikernel
import Glibc
import Testing

/// Idle: who sleeps is woken, and who polls costs the sender no call into the kernel (DESIGN, "Runtime").
@Suite struct SleepTests {
    let folder = Folder()

    @Test func aPollingReceiverCostsNoWakeUp() throws {
        let world = try World { $0.idle = .spin }
        let connection = try world.runtime.connection(folder.address())
        let before = world.statistics.wakeUpsSent
        for _ in 0..<1_000 {
            let pop = try world.runtime.pop(connection.server)
            _ = try world.runtime.result(world.runtime.push(connection.client, bytes: [1]))
            #expect(try world.runtime.result(pop) == .popped([1]))
        }
        #expect(world.statistics.wakeUpsSent == before)
    }

    @Test func aReadyDescriptorTellsOfAUnit() throws {
        let server = try World()
        let client = try World()
        let listener = try server.runtime.listener(folder.address())
        let accept = try server.runtime.accept(listener)
        let queue = try client.runtime.socket(.path, .stream)
        let connect = try client.runtime.connect(queue, to: folder.address())
        let accepted = try server.runtime.accepted(accept)
        #expect(try client.runtime.result(connect) == .connected)
        let pop = try server.runtime.pop(accepted)
        let event = try server.runtime.eventDescriptor()
        for _ in 0..<4 { server.runtime.poll() }
        func isReady() -> Bool {
            var descriptor = pollfd(fd: event, events: Int16(POLLIN), revents: 0)
            return poll(&descriptor, 1, 0) > 0
        }
        #expect(!isReady())
        _ = try client.runtime.push(queue, bytes: [8])
        #expect(client.statistics.wakeUpsSent == 1)
        #expect(isReady())
        #expect(try server.runtime.result(pop) == .popped([8]))
    }

    @Test func aSleepingPusherIsWokenByRoom() throws {
        let server = try World()
        let client = try World()
        let listener = try server.runtime.listener(folder.address())
        let accept = try server.runtime.accept(listener)
        let queue = try client.runtime.socket(.path, .stream)
        let connect = try client.runtime.connect(queue, to: folder.address())
        let accepted = try server.runtime.accepted(accept)
        #expect(try client.runtime.result(connect) == .connected)
        var pushes: [QueueToken] = []
        for index in 0..<20 { pushes.append(try client.runtime.push(queue, bytes: pattern(4_096, seed: index))) }
        let event = try client.runtime.eventDescriptor()
        for _ in 0..<4 { client.runtime.poll() }
        for index in 0..<15 { #expect(try server.runtime.result(server.runtime.pop(accepted)) == .popped(pattern(4_096, seed: index))) }
        #expect(server.statistics.wakeUpsSent >= 1)
        var descriptor = pollfd(fd: event, events: Int16(POLLIN), revents: 0)
        #expect(poll(&descriptor, 1, 0) > 0)
        #expect(try client.runtime.result(pushes[19]) == .pushed(4_096))
    }
}
