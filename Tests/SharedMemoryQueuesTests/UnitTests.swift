import Demikernel
import Glibc
import Testing

/// What is pushed is popped: units with their boundaries, in order, in both directions (DESIGN, "PDPIX, decided").
@Suite struct UnitTests {
    let folder = Folder()

    @Test func aUnitKeepsItsBoundaries() throws {
        let world = try World()
        let connection = try world.runtime.connection(folder.address())
        for (index, size) in [1, 7, 8, 9, 64, 4_095, 20_000].enumerated() {
            #expect(try world.runtime.result(world.runtime.push(connection.client, bytes: pattern(size, seed: index))) == .pushed(size))
        }
        for (index, size) in [1, 7, 8, 9, 64, 4_095, 20_000].enumerated() {
            #expect(try world.runtime.result(world.runtime.pop(connection.server)) == .popped(pattern(size, seed: index)))
        }
    }

    @Test func unitsGoBothWays() throws {
        let world = try World()
        let connection = try world.runtime.connection(folder.address())
        for round in 0..<3_000 {
            let request = pattern(round % 200, seed: round)
            let pop = try world.runtime.pop(connection.server)
            try world.runtime.push(connection.client, world.runtime.allocate(copying: request.span), completion: .discarded)
            #expect(try world.runtime.result(pop) == .popped(request))
            _ = try world.runtime.result(world.runtime.push(connection.server, bytes: request + [1]))
            #expect(try world.runtime.result(world.runtime.pop(connection.client)) == .popped(request + [1]))
        }
    }

    @Test func anEmptyUnitIsAUnit() throws {
        let world = try World()
        let connection = try world.runtime.connection(folder.address())
        #expect(try world.runtime.result(world.runtime.push(connection.client, bytes: [])) == .pushed(0))
        #expect(try world.runtime.result(world.runtime.push(connection.client, bytes: [5])) == .pushed(1))
        #expect(try world.runtime.result(world.runtime.pop(connection.server)) == .popped([]))
        #expect(try world.runtime.result(world.runtime.pop(connection.server)) == .popped([5]))
    }

    @Test func anArrayOfSeveralSegmentsIsOneUnit() throws {
        let world = try World()
        let connection = try world.runtime.connection(folder.address())
        var array = try ScatterGatherArray(world.runtime.allocate(copying: [1, 2, 3].span))
        for segment in 1..<16 { try array.append(world.runtime.allocate(copying: [UInt8](repeating: UInt8(segment), count: segment).span)) }
        let expected = bytes(array)
        #expect(expected.count == 3 + 120)
        _ = try world.runtime.result(world.runtime.push(connection.client, array))
        let completion = try world.runtime.wait(world.runtime.pop(connection.server), timeout: generous)
        guard case .popped(let unit, _) = consume completion.result else {
            Issue.record("the pop brought no unit")
            return
        }
        #expect(unit.segmentCount == 1)
        #expect(bytes(unit) == expected)
    }

    @Test func theLargestUnitFitsAndALargerOneIsRefused() throws {
        let world = try World { $0.limits.maximumUnitSize = 40_000 }
        let connection = try world.runtime.connection(folder.address())
        let error = refusal { () throws(DemikernelError) in _ = try world.runtime.push(connection.client, bytes: pattern(40_001)) }
        #expect(error?.errno == EMSGSIZE)
        // Also where the ring is what limits: three quarters of 64 KiB.
        for round in 0..<20 {
            _ = try world.runtime.result(world.runtime.push(connection.client, bytes: pattern(40_000, seed: round)))
            #expect(try world.runtime.result(world.runtime.pop(connection.server)) == .popped(pattern(40_000, seed: round)))
        }
    }

    @Test func theRingLimitsAUnitToThreeQuarters() throws {
        let world = try World()
        let connection = try world.runtime.connection(folder.address())
        let largest = 49_152 - 16
        let error = refusal { () throws(DemikernelError) in _ = try world.runtime.push(connection.client, bytes: pattern(largest + 1)) }
        #expect(error?.errno == EMSGSIZE)
        for round in 0..<20 {
            let push = try world.runtime.push(connection.server, bytes: pattern(largest, seed: round))
            #expect(try world.runtime.result(world.runtime.pop(connection.client)) == .popped(pattern(largest, seed: round)))
            #expect(try world.runtime.result(push) == .pushed(largest))
        }
    }

    @Test func thePeersLimitCountsAsWell() throws {
        let server = try World { $0.limits.maximumUnitSize = 1_000 }
        let client = try World()
        let listener = try server.runtime.listener(folder.address())
        let accept = try server.runtime.accept(listener)
        let socket = try client.runtime.socket(.path, .stream)
        let connect = try client.runtime.connect(socket, to: folder.address())
        _ = try server.runtime.accepted(accept)
        #expect(try client.runtime.result(connect) == .connected)
        #expect(refusal { () throws(DemikernelError) in _ = try client.runtime.push(socket, bytes: pattern(1_001)) }?.errno == EMSGSIZE)
        #expect(try client.runtime.result(client.runtime.push(socket, bytes: pattern(1_000))) == .pushed(1_000))
    }

    @Test func aFullRingKeepsThePushPending() throws {
        let world = try World()
        let connection = try world.runtime.connection(folder.address())
        var tokens: [QueueToken] = []
        for index in 0..<40 { tokens.append(try world.runtime.push(connection.client, bytes: pattern(4_096, seed: index))) }
        let isPending = refusal { () throws(DemikernelError) in _ = try world.runtime.wait(tokens[39], timeout: .milliseconds(1)) }
        #expect(isPending?.errno == ETIMEDOUT)
        for index in 0..<40 { #expect(try world.runtime.result(world.runtime.pop(connection.server)) == .popped(pattern(4_096, seed: index))) }
        for token in tokens { #expect(try world.runtime.result(token) == .pushed(4_096)) }
    }

    @Test func pushesThatNobodyWaitsForAreLimited() throws {
        let world = try World { $0.limits.discardedPushByteCount = 10_000 }
        let connection = try world.runtime.connection(folder.address())
        var taken = 0
        var error: DemikernelError?
        while error == nil, taken < 1_000 {
            error = refusal { () throws(DemikernelError) in
                try world.runtime.push(connection.client, world.runtime.allocate(copying: pattern(1_000, seed: taken).span), completion: .discarded)
            }
            if error == nil { taken += 1 }
        }
        #expect(error?.errno == EAGAIN)
        for index in 0..<taken { #expect(try world.runtime.result(world.runtime.pop(connection.server)) == .popped(pattern(1_000, seed: index))) }
    }

    @Test func whatExceedsAPopStaysQueued() throws {
        let world = try World()
        let connection = try world.runtime.connection(folder.address())
        _ = try world.runtime.result(world.runtime.push(connection.client, bytes: pattern(100)))
        _ = try world.runtime.result(world.runtime.push(connection.client, bytes: [9]))
        #expect(try world.runtime.result(world.runtime.pop(connection.server, maximumBytes: 30)) == .popped(Array(pattern(100)[..<30])))
        #expect(try world.runtime.result(world.runtime.pop(connection.server)) == .popped(Array(pattern(100)[30...])))
        #expect(try world.runtime.result(world.runtime.pop(connection.server)) == .popped([9]))
    }

    @Test func aCancelledPopLosesNothing() throws {
        let world = try World()
        let connection = try world.runtime.connection(folder.address())
        let first = try world.runtime.pop(connection.server)
        let second = try world.runtime.pop(connection.server)
        try world.runtime.cancel(first)
        #expect(try world.runtime.result(first) == .failed(ECANCELED))
        _ = try world.runtime.result(world.runtime.push(connection.client, bytes: [4]))
        #expect(try world.runtime.result(second) == .popped([4]))
    }

    @Test func aCancelledPushIsNotInTheRing() throws {
        let world = try World()
        let connection = try world.runtime.connection(folder.address())
        var tokens: [QueueToken] = []
        for index in 0..<20 { tokens.append(try world.runtime.push(connection.client, bytes: pattern(4_096, seed: index))) }
        try world.runtime.cancel(tokens[18])
        #expect(try world.runtime.result(tokens[18]) == .failed(ECANCELED))
        // A push that is in the ring is not cancelled.
        try world.runtime.cancel(tokens[0])
        #expect(try world.runtime.result(tokens[0]) == .pushed(4_096))
        for index in 0..<20 where index != 18 {
            #expect(try world.runtime.result(world.runtime.pop(connection.server)) == .popped(pattern(4_096, seed: index)))
        }
    }

    @Test func aFullHeapSlowsThePeerAndLosesNothing() throws {
        let world = try World {
            $0.memory.arenaByteCount = 4 << 20
            $0.limits.sharedRingByteCount = 1 << 20
        }
        let connection = try world.runtime.connection(folder.address())
        for index in 0..<4 { _ = try world.runtime.result(world.runtime.push(connection.client, bytes: pattern(60_000, seed: index))) }
        var held: [QueueToken] = []
        // Whole blocks until there is no room for another unit.
        let keep = try world.runtime.queue()
        while let buffer = try? world.runtime.allocate(60_000) { held.append(try world.runtime.push(keep, buffer)) }
        let pop = try world.runtime.pop(connection.server)
        #expect(refusal { () throws(DemikernelError) in _ = try world.runtime.wait(pop, timeout: .milliseconds(2)) }?.errno == ETIMEDOUT)
        for _ in held { _ = try world.runtime.result(world.runtime.pop(keep)) }
        #expect(try world.runtime.result(pop) == .popped(pattern(60_000)))
        for index in 1..<4 { #expect(try world.runtime.result(world.runtime.pop(connection.server)) == .popped(pattern(60_000, seed: index))) }
    }
}
