import DatapathMemory
import Glibc
import QueueRuntime
import WireFormats

/// Datagrams from one host to another: each comes whole and as it was sent, or not at all, and twice only where the network doubles frames.
final class DatagramExchange {
    private let plan: ScenarioPlan.DatagramPlan
    private let number: Int
    private unowned let run: ScenarioRun
    private var sizes: [Int] = []
    private var received: [Int] = []
    private var isSenderDone = false
    private var random: SimulationRandom
    private let record: StreamRecord

    /// Number of the exchange and of the datagram.
    private static let headerByteCount = 8

    init(_ plan: ScenarioPlan.DatagramPlan, number: Int, _ run: ScenarioRun) {
        self.plan = plan
        self.number = number
        self.run = run
        random = SimulationRandom(seed: run.seed).stream("datagrams \(number)")
        record = StreamRecord(name: "datagrams \(number)", number: 1 << 32 | UInt64(number), seed: run.seed)
    }

    func begin() throws {
        let sender = run.hosts[plan.sender]
        try sender.run("datagram sender \(number)") { [self] runtime in
            if plan.startsAt > 0 { sender.sleep(nanoseconds: plan.startsAt) }
            do {
                try send(sender, runtime)
            } catch {
                run.fail("datagram sender \(number): \(error)")
            }
            isSenderDone = true
            run.finishedDatagrams()
        }
        guard !plan.isPortClosed, !plan.isNowhere else { return }
        let receiver = run.hosts[plan.receiver]
        try receiver.run("datagram receiver \(number)") { [self] runtime in
            do {
                try receive(receiver, runtime)
            } catch {
                run.fail("datagram receiver \(number): \(error)")
            }
            run.finishedDatagrams()
        }
    }

    private func send(_ host: SimulatedHost, _ runtime: borrowing Runtime) throws {
        let queue = try runtime.socket(plan.family, .datagram)
        if plan.senderPort != 0 { try runtime.bind(queue, to: .any(plan.family, port: plan.senderPort)) }
        let stranger = try runtime.socket(plan.family, .datagram)
        let nobody = IPAddress.ipv4(10, 0, 99, 99)
        let address = plan.isNowhere ? plan.family == .ipv4 ? nobody : Simulation.ipv6Address(of: nobody) : run.hosts[plan.receiver].address(plan.family)
        let target = Endpoint(address: address, port: plan.port).asSocketAddress
        for index in 0..<plan.count {
            let size = DatagramExchange.headerByteCount + random.between(0...plan.largest - DatagramExchange.headerByteCount)
            sizes.append(size)
            received.append(0)
            do throws(DemikernelError) {
                // With headroom for the headers, and without, they go different ways.
                let buffer = index % 2 == 0 ? try runtime.allocate(size, for: queue) : try runtime.allocate(size)
                buffer.address.storeBytes(of: UInt32(number), as: UInt32.self)
                buffer.address.storeBytes(of: UInt32(index), toByteOffset: 4, as: UInt32.self)
                record.fill(buffer.address + 8, from: 2_048 * index, count: size - 8)
                try runtime.wait(try runtime.pushTo(queue, try ScatterGatherArray(buffer), target), timeout: run.patience(of: host)).succeeded()
            } catch {
                // Without memory, or told by ICMP that nobody is there: a datagram may be lost.
                let isExpected = error.errno == ENOBUFS || plan.isPortClosed || plan.isNowhere || run.plan.mayLoseConnections
                if !isExpected { run.fail("datagram sender \(number): \(error.errnoName)") }
                host.sleep(nanoseconds: 1_000_000)
            }
            if plan.senderPort != 0, index % 8 == 0, let buffer = try? runtime.allocate(4) {
                // From another port: the receiver must not get it.
                buffer.address.storeBytes(of: UInt32.max, as: UInt32.self)
                if let token = try? runtime.pushTo(stranger, ScatterGatherArray(buffer), target) { _ = try? runtime.wait(token) }
            }
            if (index + 1) % plan.burst == 0 { host.sleep(nanoseconds: plan.pause) }
        }
        try runtime.close(stranger)
        try runtime.close(queue)
    }

    private func receive(_ host: SimulatedHost, _ runtime: borrowing Runtime) throws {
        let queue = try runtime.socket(plan.family, .datagram)
        try runtime.bind(queue, to: .any(plan.family, port: plan.port))
        if plan.senderPort != 0 {
            let sender = Endpoint(address: run.hosts[plan.sender].address(plan.family), port: plan.senderPort)
            try runtime.wait(try runtime.connect(queue, to: sender.asSocketAddress)).succeeded()
        }
        if plan.readerDelay > 0 { host.sleep(nanoseconds: plan.readerDelay) }
        var token = try runtime.pop(queue)
        while true {
            do throws(DemikernelError) {
                let completion = try runtime.wait(token, timeout: .seconds(5))
                switch consume completion.result {
                case .popped(let array, let source): check(array, from: source)
                case .failed(let error, _): if error.errno != ECONNREFUSED { throw error }
                default: preconditionFailure("a pop completes as one")
                }
                token = try runtime.pop(queue)
            } catch {
                guard error.errno == ETIMEDOUT else { throw error }
                if isSenderDone { break }
            }
        }
        try runtime.close(queue)
        _ = try runtime.wait(token)
    }

    private func check(_ array: borrowing ScatterGatherArray, from source: SocketAddress?) {
        let size = array.byteCount
        let bytes = [UInt8](unsafeUninitializedCapacity: size) { buffer, count in
            count = array.copyBytes(to: UnsafeMutableRawBufferPointer(buffer))
        }
        let isFromSender = source?.asEndpoint.address == run.hosts[plan.sender].address(plan.family)
        guard size >= DatagramExchange.headerByteCount, isFromSender else {
            return run.fail("datagram receiver \(number): a datagram of \(size) bytes from \(source.map(\.description) ?? "nobody"), which nobody sent")
        }
        let (exchange, index) = bytes.withUnsafeBytes { ($0.loadUnaligned(as: UInt32.self), Int($0.loadUnaligned(fromByteOffset: 4, as: UInt32.self))) }
        guard exchange == number, sizes.indices.contains(index), sizes[index] == size else {
            return run.fail("datagram receiver \(number): datagram \(index) of \(size) bytes, which nobody sent")
        }
        let expected = [UInt8](unsafeUninitializedCapacity: size) { buffer, count in
            record.fill(UnsafeMutableRawPointer(buffer.baseAddress!), from: 2_048 * index, count: size - 8)
            count = size - 8
        }
        let isUnnoticed = run.plan.damagesFrames && DatagramExchange.isHiddenDamage(Array(bytes.dropFirst(8)), of: expected, in: frameCount(size))
        guard bytes.dropFirst(8).elementsEqual(expected) || isUnnoticed else {
            return run.fail("datagram receiver \(number): datagram \(index) is not what was sent")
        }
        received[index] += 1
        if received[index] > 1, !run.plan.duplicatesFrames { run.fail("datagram receiver \(number): datagram \(index) came twice") }
    }

    /// Frames that a datagram of so many bytes leaves in.
    private func frameCount(_ size: Int) -> Int {
        let isIPv4 = plan.family == .ipv4
        let room = run.plan.hosts[plan.sender].maximumTransmissionUnit - (isIPv4 ? IPv4Header.byteCount : IPv6Header.byteCount)
        let byteCount = size + UDPHeader.byteCount
        if byteCount <= room { return 1 }
        // A fragment header of 8 bytes, and a multiple of 8 in each but the last.
        let fragment = (room - (isIPv4 ? 0 : 8)) & ~7
        return (byteCount + fragment - 1) / fragment
    }

    /// Whether bytes may be those of a datagram of which several fragments were damaged: a word in each, so that their checksum is the same.
    //= RFC 768 section Checksum
    //# Checksum is the 16-bit one's complement of the one's complement sum
    // It finds what a link does to one frame, but not what two do to each other.
    static func isHiddenDamage(_ bytes: [UInt8], of expected: [UInt8], in frames: Int) -> Bool {
        guard frames > 1, bytes.count == expected.count else { return false }
        let words = stride(from: 0, to: bytes.count, by: 2).count { bytes[$0..<min($0 + 2, bytes.count)] != expected[$0..<min($0 + 2, bytes.count)] }
        func sum(_ bytes: [UInt8]) -> UInt16 { bytes.withUnsafeBytes { InternetChecksum.fold(InternetChecksum.sum($0.baseAddress!, count: $0.count)) } }
        return words > 1 && words <= frames && sum(bytes) == sum(expected)
    }
}
