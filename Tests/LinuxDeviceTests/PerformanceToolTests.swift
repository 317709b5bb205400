import Demikernel
import Glibc
import Synchronization
import Testing

@Suite("iperf3", .serialized, .enabled(if: reasonToSkip == nil, reasonToSkip)) struct PerformanceToolTests {
    @Test(
        "iperf3 streams in both directions over both families, and both ends count the same", .enabled(if: Shell.has("iperf3"), "needs iperf3"),
        arguments: KernelLink.Kind.allCases)
    func streams(_ kind: KernelLink.Kind) throws {
        struct Counts: Sendable {
            var isReverse: Bool
            var server: Int
            var client: Int
        }
        final class Log: Sendable { let counts = Mutex<[Counts]>([]) }
        let log = Log()
        let wanted = 20_000_000
        try inNetworkNamespace {
            let link = try KernelLink(kind)
            let server = try StackServer(link.interface) { (runtime, whenReady) throws(DemikernelError) in
                try PerformanceServer.run(
                    on: runtime,
                    outcomes: { outcome in
                        let counts = Counts(isReverse: outcome.isReverse, server: outcome.byteCount, client: outcome.clientByteCount)
                        log.counts.withLock { $0.append(counts) }
                    }, whenReady: whenReady)
            }
            defer { server.stop() }
            for address in ["10.0.0.2", "2001:db8::2"] {
                for direction in ["", "--reverse"] {
                    let result = Shell.run("timeout 60 iperf3 --client \(address) --bytes \(wanted) \(direction)")
                    #expect(result.status == 0 && result.output.contains("iperf Done."), "\(address) \(direction): \(result.output)")
                }
            }
            #expect(server.stop().error == nil)
        }
        let counts = log.counts.withLock { $0 }
        #expect(counts.map(\.isReverse) == [false, true, false, true])
        for count in counts {
            #expect(count.client >= wanted)
            // With data on the way to it a client ends a test when it has enough, and what is still under way counts for the server alone.
            #expect(count.isReverse ? count.server + 65_536 >= count.client : count.server == count.client, "\(count)")
        }
    }
}
