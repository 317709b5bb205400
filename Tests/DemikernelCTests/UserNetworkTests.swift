import CDemikernel
import DatapathMemory
@testable import DemikernelC
import EthernetDevice
import Glibc
import NetworkStack
import QueueRuntime
import TaskScheduler
import Testing
import UserNetwork
import WireFormats

/// The calls over the user-level network: two hosts in one runtime, over a link in memory and in virtual time.
@Suite struct UserNetworkTests {
    /// The clock's words: its time, and by how much it goes on with each reading.
    private static func clock() -> RuntimeClock {
        let words = UnsafeMutablePointer<UInt64>.allocate(capacity: 1)
        words.pointee = 1_000_000_000
        return RuntimeClock(
            injected: { context in
                let words = context.unsafelyUnwrapped.assumingMemoryBound(to: UInt64.self)
                words.pointee &+= 20_000
                return words.pointee
            }, context: words)
    }

    /// Runs `body` with the two hosts, 10.0.0.1 and 10.0.0.2.
    private static func withHosts(
        faults: FaultConfiguration, _ body: (_ one: LibraryOSIdentifier, _ other: LibraryOSIdentifier, _ network: () -> NetworkStatistics) throws -> Void
    ) throws {
        try withLibraries(faults: faults) { one, other, library in try body(one, other) { UserNetwork.statistics(of: library).network } }
    }

    /// As `withHosts`; `library` is that of 10.0.0.1.
    private static func withLibraries(
        faults: FaultConfiguration, _ body: (_ one: LibraryOSIdentifier, _ other: LibraryOSIdentifier, _ library: LibraryOS) throws -> Void
    ) throws {
        var configuration = RuntimeConfiguration()
        configuration.memory = MemoryConfiguration(arenaByteCount: 16 << 20, commitsAtStart: false)
        configuration.seed = 42
        configuration.clock = clock()
        let runtime = try Runtime(configuration)
        let (deviceA, deviceB) = MemoryEthernetPair.make()
        let faulty = FaultyDevice.wrap(deviceA, faults: faults, seed: 7)
        let libraryA = try UserNetwork.make(for: runtime.core, device: faulty.device, addresses: [IPv4Prefix(address: .ipv4(10, 0, 0, 1), length: 24)])
        let a = try runtime.register(libraryA)
        let b = try runtime.register(
            try UserNetwork.make(for: runtime.core, device: deviceB, addresses: [IPv4Prefix(address: .ipv4(10, 0, 0, 2), length: 24)]))
        try CInterface.begin(over: runtime)
        defer { CInterface.end() }
        try body(a, b, libraryA)
    }

    private static func connection(_ one: LibraryOSIdentifier, _ other: LibraryOSIdentifier) throws -> (client: Int32, server: Int32) {
        CInterface.setSocketLibraryOS(other)
        let listener = try descriptor { demi_socket($0, AF_INET, Int32(SOCK_STREAM.rawValue), 0) }
        #expect(try bind(listener, "10.0.0.2:7") == "10.0.0.2:7")
        try call(demi_listen(listener, 4))
        let accept = try token { demi_accept($0, listener) }
        CInterface.setSocketLibraryOS(one)
        let client = try descriptor { demi_socket($0, AF_INET, Int32(SOCK_STREAM.rawValue), 0) }
        let connect = try withAddress("10.0.0.2:7") { address, size in try token { demi_connect($0, client, address, size) } }
        #expect(try wait(connect, patience).qr_opcode == DEMI_OPC_CONNECT)
        let accepted = try wait(accept, patience)
        try #require(accepted.qr_opcode == DEMI_OPC_ACCEPT)
        return (client, accepted.qr_value.ares.qd)
    }

    /// Virtual seconds.
    private static let patience = timespec(tv_sec: 3_600, tv_nsec: 0)

    /// Bytes that differ from place to place, with a period that no segment has.
    private static func pattern(_ position: Int) -> UInt8 { UInt8(truncatingIfNeeded: position % 251 &* 7) }

    /// Every array is freed as soon as it was pushed, and its memory overwritten by the next ones if it were not kept; what is lost is sent again from it.
    @Test(arguments: [64, 1_000, 9_000, 40_000]) func whatWasPushedMayBeFreedWhileItIsSentAgain(size: Int) throws {
        var losses = FrameFaults()
        losses.drop = 100_000
        losses.duplicate = 50_000
        try UserNetworkTests.withHosts(faults: FaultConfiguration(both: losses)) { one, other, network in
            let (client, server) = try UserNetworkTests.connection(one, other)
            let total = max(400_000 / size, 20) * size
            var sent = 0
            var received = 0
            var push: demi_qtoken_t?
            while received < total {
                if push == nil && sent < total {
                    var sga = demi_sgaalloc(size)
                    try #require(sga.sga_numsegs == 1)
                    let room = sga.sga_segs.sgaseg_buf.assumingMemoryBound(to: UInt8.self)
                    for index in 0..<size { room[index] = UserNetworkTests.pattern(sent + index) }
                    push = try token { demi_push($0, client, &sga) }
                    try free(sga)
                    // Takes the same memory, were it free, and spoils it.
                    var spoiler = demi_sgaalloc(size)
                    memset(spoiler.sga_segs.sgaseg_buf, 0xee, size)
                    try call(demi_sgafree(&spoiler))
                    sent += size
                }
                if let token = push {
                    var short = timespec(tv_sec: 0, tv_nsec: 1_000_000)
                    var result = demi_qresult_t()
                    let error = demi_wait(&result, token, &short)
                    if error == 0 {
                        try #require(result.qr_opcode == DEMI_OPC_PUSH)
                        push = nil
                        continue
                    }
                    try #require(error == ETIMEDOUT)
                }
                let result = try wait(try token { demi_pop($0, server) }, UserNetworkTests.patience)
                try #require(result.qr_opcode == DEMI_OPC_POP)
                let found = bytes(result.qr_value.sga)
                try #require(!found.isEmpty)
                for (index, byte) in found.enumerated() where byte != UserNetworkTests.pattern(received + index) {
                    Issue.record("byte \(received + index) is another one")
                    return
                }
                received += found.count
                try free(result.qr_value.sga)
            }
            #expect(received == total)
            #expect(network().tcp.retransmittedSegments > 0)
            let counts = try statistics()
            #expect(counts.live_arrays == 0)
        }
    }

    /// What the kernel does for its sockets when a process is gone: here the thread stays for it.
    @Test func aThreadThatEndsStaysUntilItsBytesHaveArrived() throws {
        var losses = FrameFaults()
        losses.drop = 100_000
        try UserNetworkTests.withLibraries(faults: FaultConfiguration(both: losses)) { one, other, library in
            let (client, _) = try UserNetworkTests.connection(one, other)
            for _ in 0..<50 { try push(client, [UInt8](repeating: 7, count: 1_024)) }
            let thread = try #require(CurrentRuntime.enter())
            defer { thread.leave() }
            #expect(!UserNetwork.isSettled(library))
            // Nobody waits that has no patience.
            Parting(userNetwork: library, patience: 0).sendRest(of: thread.state.pointee.runtime)
            #expect(!UserNetwork.isSettled(library))
            let start = thread.state.pointee.runtime.now
            Parting(userNetwork: library, patience: 600_000_000_000).sendRest(of: thread.state.pointee.runtime)
            #expect(UserNetwork.isSettled(library))
            #expect(thread.state.pointee.runtime.now - start < 600_000_000_000)
            #expect(thread.state.pointee.runtime.statistics.openQueues == 1, "the queue that the end itself waits on")
        }
    }

    /// A peer that is gone for good keeps a thread for as long as it may, and no longer.
    @Test func aThreadThatEndsDoesNotStayForEver() throws {
        var silence = FrameFaults()
        try UserNetworkTests.withLibraries(faults: FaultConfiguration(both: silence)) { one, other, library in
            _ = try UserNetworkTests.connection(one, other)
            let thread = try #require(CurrentRuntime.enter())
            defer { thread.leave() }
            Parting(userNetwork: library, patience: 60_000_000_000).sendRest(of: thread.state.pointee.runtime)
            #expect(UserNetwork.isSettled(library))
        }
        silence.drop = 1_000_000
        try UserNetworkTests.withLibraries(faults: FaultConfiguration(both: silence)) { one, _, library in
            CInterface.setSocketLibraryOS(one)
            let sender = try descriptor { demi_socket($0, AF_INET, Int32(SOCK_DGRAM.rawValue), 0) }
            var sga = try array([1])
            let push = try withAddress("10.0.0.2:9") { address, length in try token { demi_pushto($0, sender, &sga, address, length) } }
            try free(sga)
            #expect(try wait(push, UserNetworkTests.patience).qr_opcode == DEMI_OPC_PUSH)
            let thread = try #require(CurrentRuntime.enter())
            defer { thread.leave() }
            // The datagram waits for a neighbour who never answers.
            #expect(!UserNetwork.isSettled(library))
            let start = thread.state.pointee.runtime.now
            Parting(userNetwork: library, patience: 100_000_000).sendRest(of: thread.state.pointee.runtime)
            let time = thread.state.pointee.runtime.now - start
            #expect((100_000_000..<200_000_000).contains(time), "\(time) ns")
        }
    }

    @Test func aPoppedArrayIsEchoedAndFreedAtOnce() throws {
        var losses = FrameFaults()
        losses.drop = 50_000
        try UserNetworkTests.withHosts(faults: FaultConfiguration(both: losses)) { one, other, _ in
            let (client, server) = try UserNetworkTests.connection(one, other)
            for round in 0..<200 {
                let message = [UInt8](repeating: UInt8(truncatingIfNeeded: round), count: 1_200)
                var sga = try array(message)
                _ = try wait(try token { demi_push($0, client, &sga) }, UserNetworkTests.patience)
                try free(sga)
                var echoed = 0
                while echoed < message.count {
                    var result = try wait(try token { demi_pop($0, server) }, UserNetworkTests.patience)
                    echoed += Int(result.qr_value.sga.sga_segs.sgaseg_len)
                    let push = try token { demi_push($0, server, &result.qr_value.sga) }
                    try free(result.qr_value.sga)
                    _ = try wait(push, UserNetworkTests.patience)
                }
                var answer: [UInt8] = []
                while answer.count < message.count {
                    let result = try wait(try token { demi_pop($0, client) }, UserNetworkTests.patience)
                    answer += bytes(result.qr_value.sga)
                    try free(result.qr_value.sga)
                }
                try #require(answer == message)
            }
        }
    }

    @Test func datagramsCrossTheUserLevelNetwork() throws {
        try UserNetworkTests.withHosts(faults: .none) { one, other, _ in
            CInterface.setSocketLibraryOS(other)
            let receiver = try descriptor { demi_socket($0, AF_INET, Int32(SOCK_DGRAM.rawValue), 0) }
            _ = try bind(receiver, "0.0.0.0:9")
            CInterface.setSocketLibraryOS(one)
            let sender = try descriptor { demi_socket($0, AF_INET, Int32(SOCK_DGRAM.rawValue), 0) }
            _ = try bind(sender, "0.0.0.0:8")
            // Also none at all is a datagram.
            for size in [1, 1_400, 0] {
                var sga = try array([UInt8](repeating: 3, count: max(size, 1)))
                sga.sga_segs.sgaseg_len = UInt32(size)
                let push = try withAddress("10.0.0.2:9") { address, length in try token { demi_pushto($0, sender, &sga, address, length) } }
                try free(sga)
                #expect(try wait(push, UserNetworkTests.patience).qr_opcode == DEMI_OPC_PUSH)
                let result = try wait(try token { demi_pop($0, receiver) }, UserNetworkTests.patience)
                #expect(bytes(result.qr_value.sga) == [UInt8](repeating: 3, count: size))
                var popped = result.qr_value.sga
                #expect(try readAddress { demi_sga_address(&popped, $0, $1) } == "10.0.0.1:8")
                try free(popped)
            }
            var option: Int32 = 0
            var length: socklen_t = 4
            #expect(demi_getsockopt(sender, Int32(IPPROTO_TCP), TCP_NODELAY, &option, &length) == EOPNOTSUPP)
        }
    }
}
