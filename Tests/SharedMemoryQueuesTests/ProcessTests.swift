import CommandProcess
import Demikernel
import Glibc
import Testing

/// Two processes: peers come, go, crash and come back in any order.
@Suite(.serialized) struct ProcessTests {
    let folder = Folder()

    private func echoServer(_ arguments: [String] = []) throws -> CommandProcess {
        let server = try CommandProcess(["echo", "--libos", "catmem", "--path", folder.file()] + arguments)
        #expect(server.waitForLine(containing: "listening on \(folder.file()) (catmem)"))
        return server
    }

    @Test(arguments: ["spin", "adaptive"]) func unitsGoToAnotherProcessAndBack(idle: String) throws {
        let server = try echoServer(["--idle", idle])
        defer { server.kill() }
        // No spinning here: with an adaptive server, both sleep between any two units.
        let world = try World { $0.idle = .adaptive(spinNanoseconds: 0) }
        let queue = try world.runtime.connected(folder.address())
        for round in 0..<500 {
            let unit = pattern(round * 7 % 3_000, seed: round)
            _ = try world.runtime.push(queue, bytes: unit)
            #expect(try world.runtime.result(world.runtime.pop(queue)) == .popped(unit))
        }
    }

    @Test func aKilledServerIsNoticedAndComesBack() throws {
        let world = try World()
        for round in 0..<5 {
            let server = try echoServer()
            let queue = try world.runtime.connected(folder.address())
            // At any moment: with echoes on their way, and pops that wait.
            var pops: [QueueToken] = []
            for index in 0..<round * 10 {
                _ = try? world.runtime.push(queue, bytes: pattern(3_000, seed: index))
                if let pop = try? world.runtime.pop(queue) { pops.append(pop) }
            }
            let last = try world.runtime.pop(queue)
            for _ in 0..<round { pops.append(try world.runtime.pop(queue)) }
            server.kill()
            // Echoes that were in the ring are still popped.
            for pop in pops.prefix(round * 10) {
                let outcome = try world.runtime.result(pop)
                #expect(outcome.isPopped || outcome == .failed(ECONNRESET))
            }
            #expect(try world.runtime.result(last) == .failed(ECONNRESET))
            #expect(refusal { () throws(DemikernelError) in _ = try world.runtime.push(queue, bytes: [1]) }?.errno == EPIPE)
            #expect(world.statistics.peersLost == UInt64(round + 1))
            #expect(folder.exists(), "a killed process removes nothing")
            #expect(refusal { () throws(DemikernelError) in _ = try world.runtime.connected(folder.address()) }?.errno == ECONNREFUSED)
            try world.runtime.close(queue)
        }
    }

    @Test func aServerThatStopsEndsTheStream() throws {
        let world = try World()
        let server = try echoServer()
        let queue = try world.runtime.connected(folder.address())
        _ = try world.runtime.push(queue, bytes: [1])
        #expect(try world.runtime.result(world.runtime.pop(queue)) == .popped([1]))
        server.terminate()
        #expect(try world.runtime.result(world.runtime.pop(queue)) == .endOfStream)
        #expect(!folder.exists())
    }

    @Test func aRingThatIsTooLargeForTheServerIsNamed() throws {
        let world = try World()
        let listener = try world.runtime.listener(folder.address())
        _ = try world.runtime.accept(listener)
        let client = try CommandProcess(["bench", "echo", "--path", folder.file(), "--duration", "60"])
        try world.runtime.turns { world.statistics.refusedHellos == 1 }
        #expect(client.waitForLine(containing: "lower Limits.sharedRingByteCount"))
        #expect(client.waitForEnd() != 0)
    }

    @Test func killedClientsAreNoticedAndOthersServed() throws {
        let world = try World { $0.limits.sharedRingByteCount = 1 << 20 }
        let listener = try world.runtime.listener(folder.address())
        var accept = try world.runtime.accept(listener)
        for round in 0..<5 {
            let client = try CommandProcess(["bench", "echo", "--path", folder.file(), "--duration", "60", "--warmup", "0", "--pipeline", "8", "--size", "1000"])
            let queue = try world.runtime.accepted(accept)
            accept = try world.runtime.accept(listener)
            var outcome = Outcome.connected
            for index in 0... {
                if index == round * 1_000 { client.kill() }
                outcome = try world.runtime.result(world.runtime.pop(queue))
                guard case .popped(let bytes) = outcome else { break }
                try? world.runtime.push(queue, world.runtime.allocate(copying: bytes.span), completion: .discarded)
            }
            #expect(outcome == .failed(ECONNRESET))
            try world.runtime.close(queue)
        }
        #expect(world.statistics.peersLost == 5)
        let client = try world.runtime.connected(folder.address())
        let server = try world.runtime.accepted(accept)
        _ = try world.runtime.push(client, bytes: [6])
        #expect(try world.runtime.result(world.runtime.pop(server)) == .popped([6]))
    }

    @Test func theKeyValueServerAnswersOverSharedMemory() throws {
        let server = try CommandProcess(["kv", "--libos", "catmem", "--path", folder.file()])
        defer { server.kill() }
        #expect(server.waitForLine(containing: "listening on \(folder.file()) (catmem)"))
        // Every reply is checked; values larger than a unit come in several.
        let load = try CommandProcess([
            "bench", "kv", "--libos", "catmem", "--path", folder.file(), "--duration", "0.2", "--warmup", "0", "--connections", "3", "--keys", "20", "--size",
            "400000",
        ])
        #expect(load.waitForEnd() == 0)
    }

    @Test func aTakenPathIsOneLineWithItsMend() throws {
        let server = try echoServer()
        defer { server.kill() }
        let second = try CommandProcess(["echo", "--libos", "catmem", "--path", folder.file()])
        #expect(second.waitForLine(containing: "choose another path"))
        #expect(second.waitForEnd() != 0)
    }
}
