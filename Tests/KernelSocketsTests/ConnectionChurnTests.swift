import Demikernel
import Glibc
import Testing

/// A hundred thousand connections opened and closed: no descriptor, token, block or segment is left over.
@Suite("Connection churn") struct ConnectionChurnTests {
    @Test("a hundred thousand connections", .timeLimit(.minutes(2)))
    func hundredThousand() async {
        // A process of its own, whose descriptors can be counted.
        await #expect(processExitsWith: .success) {
            let descriptors = openDescriptorCount()
            do {
                let runtime = try makeRuntime { $0.limits.maximumQueues = 64 }
                let listening = try runtime.listener(backlog: 64)
                try churn(runtime, listening.queue, listening.address, count: 100)
                let before = runtime.snapshot()
                let descriptorsBefore = openDescriptorCount()
                try churn(runtime, listening.queue, listening.address, count: 100_000)
                #expect(runtime.snapshot() == before)
                #expect(before.liveOperations == 0 && before.openQueues == 1 && before.closingQueues == 0)
                #expect(before.liveBlocks == 0 && before.liveSegments == 0 && before.timers == 0)
                #expect(openDescriptorCount() <= descriptorsBefore + foreignDescriptors)
                #expect(runtime.statistics.retiredTokenSlots == 0)
            }
            #expect(openDescriptorCount() <= descriptors + foreignDescriptors)
        }
    }
}

/// Opens and closes `count` connections, each with a byte to and fro where the way of its end allows it. Ends by a reset, so that no port stays in
/// TIME_WAIT: once by the client, once by the server, once with bytes and operations left pending.
private func churn(_ runtime: borrowing Runtime, _ listener: QueueDescriptor, _ address: SocketAddress, count: Int) throws {
    for round in 0..<count {
        let accept = try runtime.accept(listener)
        let client = try runtime.socket(.ipv4, .stream)
        let connect = try runtime.connect(client, to: address)
        let server = try runtime.accepted(accept).queue
        guard try runtime.result(connect) == .connected else { throw DemikernelError(EPROTO, .connect) }
        try runtime.setOption(.linger(seconds: 0), on: client)
        try runtime.setOption(.linger(seconds: 0), on: server)
        switch round % 3 {
        case 0:
            try runtime.push(client, runtime.buffer([1]), completion: .discarded)
            guard try runtime.result(runtime.pop(server)) == .popped([1]) else { throw DemikernelError(EPROTO, .pop) }
            try runtime.close(client)
            try runtime.close(server)
        case 1:
            try runtime.close(server)
            try runtime.close(client)
        default:
            let pop = try runtime.pop(client)
            try runtime.push(client, runtime.buffer([2]), completion: .discarded)
            let close = try runtime.closeToken(client)
            guard try runtime.result(pop) == .failed(ECANCELED, byteCount: 0), try runtime.result(close) == .closed else {
                throw DemikernelError(EPROTO, .close)
            }
            try runtime.close(server)
        }
    }
}
