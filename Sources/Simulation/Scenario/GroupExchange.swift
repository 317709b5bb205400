import DatapathMemory
import Glibc
import QueueRuntime
import WireFormats

/// Datagrams from one host to a group of others, over a switch that sends them where somebody has told of the group: members get what comes while they are
/// members, as it was sent, and those who have left nothing.
final class GroupExchange {
    private let plan: ScenarioPlan.GroupPlan
    private let number: Int
    private unowned let run: ScenarioRun
    private var sentAt: [UInt64] = []
    private let record: StreamRecord

    private static let byteCount = 64
    /// By then the switch knows, and by then nothing is under way any more.
    private static let margin: UInt64 = 1_000_000_000

    init(_ plan: ScenarioPlan.GroupPlan, number: Int, _ run: ScenarioRun) {
        self.plan = plan
        self.number = number
        self.run = run
        record = StreamRecord(name: "group \(number)", number: 2 << 32 | UInt64(number), seed: run.seed)
    }

    /// The programs of an exchange.
    var programs: Int { 1 + plan.members.count }

    private var group: SocketAddress { Endpoint(address: plan.group, port: plan.port).asSocketAddress }

    func begin() throws {
        for member in plan.members { try begin("group member \(number)", on: member) { [self] in try receive($0, $1, member) } }
        try begin("group sender \(number)", on: plan.sender) { [self] in try send($0, $1) }
    }

    private func begin(_ name: String, on index: Int, _ body: @escaping (SimulatedHost, borrowing Runtime) throws -> Void) throws {
        let host = run.hosts[index]
        try host.run(name) { [self] runtime in
            do {
                try body(host, runtime)
            } catch {
                run.fail("\(name) on \(host.name): \(error)")
            }
            run.finishedDatagrams()
        }
    }

    private func send(_ host: SimulatedHost, _ runtime: borrowing Runtime) throws {
        let queue = try runtime.socket(group.family, .datagram)
        try runtime.setOption(.multicastHopLimit(2), on: queue)
        host.sleep(nanoseconds: plan.startsAt)
        for index in 0..<plan.count {
            sentAt.append(run.world.now)
            do throws(DemikernelError) {
                let buffer = try runtime.allocate(GroupExchange.byteCount)
                buffer.address.storeBytes(of: UInt64(index), as: UInt64.self)
                record.fill(buffer.address + 8, from: 64 * index, count: GroupExchange.byteCount - 8)
                try runtime.wait(try runtime.pushTo(queue, try ScatterGatherArray(buffer), group), timeout: ScenarioRun.patience).succeeded()
            } catch {
                // Without memory a datagram may be lost: nobody waits for it.
                guard error.errno == ENOBUFS || run.plan.mayLoseConnections else { throw error }
                sentAt[index] = .max
            }
            host.sleep(nanoseconds: plan.pause)
        }
        try runtime.close(queue)
    }

    private func receive(_ host: SimulatedHost, _ runtime: borrowing Runtime, _ member: Int) throws {
        let queue = try runtime.socket(group.family, .datagram)
        try runtime.bind(queue, to: .any(group.family, port: plan.port))
        try runtime.setOption(.datagramInformation(true), on: queue)
        // Every host is in that one, and says nothing of it.
        if group.family == .ipv4 { try runtime.setOption(.joinGroup(.ipv4(224, 0, 0, 1, port: 0)), on: queue) }
        try runtime.setOption(.joinGroup(group), on: queue)
        let joinedAt = run.world.now
        let leavesAt = run.start + plan.startsAt + UInt64(plan.count) * plan.pause / (plan.leavesEarly ? 2 : 1) + 5 * GroupExchange.margin
        var received: Set<Int> = []
        var leftAt: UInt64?
        var token = try runtime.pop(queue)
        while run.world.now < leavesAt + 10 * GroupExchange.margin {
            if leftAt == nil, run.world.now >= leavesAt {
                try runtime.setOption(.leaveGroup(group), on: queue)
                leftAt = run.world.now
            }
            do throws(DemikernelError) {
                let completion = try runtime.wait(token, timeout: .seconds(1))
                switch consume completion.result {
                case .popped(let array, let source): check(array, from: source, leftAt: leftAt, &received)
                case .failed(let error, _): throw error
                default: preconditionFailure("a pop completes as one")
                }
                token = try runtime.pop(queue)
            } catch {
                guard error.errno == ETIMEDOUT else { throw error }
            }
        }
        try runtime.close(queue)
        _ = try runtime.wait(token)
        checkComplete(host, member, joinedAt, leavesAt, received)
    }

    private func check(_ array: borrowing ScatterGatherArray, from source: SocketAddress?, leftAt: UInt64?, _ received: inout Set<Int>) {
        let bytes = [UInt8](unsafeUninitializedCapacity: array.byteCount) { buffer, count in
            count = array.copyBytes(to: UnsafeMutableRawBufferPointer(buffer))
        }
        let expectsFrom = run.hosts[plan.sender].address(group.family)
        guard bytes.count == GroupExchange.byteCount, source?.asEndpoint.address == expectsFrom else {
            return run.fail("group \(number): a datagram of \(bytes.count) bytes from \(source.map(\.description) ?? "nobody"), which nobody sent")
        }
        let index = Int(truncatingIfNeeded: bytes.withUnsafeBytes { $0.loadUnaligned(as: UInt64.self) })
        let expected = [UInt8](unsafeUninitializedCapacity: GroupExchange.byteCount - 8) { buffer, count in
            record.fill(UnsafeMutableRawPointer(buffer.baseAddress!), from: 64 * index, count: GroupExchange.byteCount - 8)
            count = GroupExchange.byteCount - 8
        }
        guard sentAt.indices.contains(index), bytes.dropFirst(8).elementsEqual(expected) else {
            return run.fail("group \(number): datagram \(index) is not what was sent")
        }
        if let leftAt, sentAt[index] > leftAt + GroupExchange.margin { run.fail("group \(number): datagram \(index) after the group was left") }
        if !received.insert(index).inserted, !run.plan.duplicatesFrames { run.fail("group \(number): datagram \(index) came twice") }
        let information = array.datagramInformation
        if information?.destination.asEndpoint.address != plan.group || information?.hopLimit != 2 {
            run.fail("group \(number): datagram \(index) is told to be for \(information.map { "\($0.destination)" } ?? "nobody")")
        }
    }

    /// In a network that loses nothing, everything comes that was sent while the host was a member.
    private func checkComplete(_ host: SimulatedHost, _ member: Int, _ joinedAt: UInt64, _ leavesAt: UInt64, _ received: Set<Int>) {
        let device = host.deviceStatistics
        let sender = run.hosts[plan.sender].deviceStatistics
        guard !run.plan.losesFrames, run.plan.conduct(ofHost: member) != nil, run.plan.conduct(ofHost: plan.sender) != nil,
            device.receiveRingFull == 0, device.receiveOutOfMemory == 0, sender.transmitRingFull == 0,
            host.networkStatistics.drops[.outOfMemory] == 0, host.networkStatistics.drops[.receiveQueueFull] == 0
        else { return }
        for (index, time) in sentAt.enumerated()
        where time != .max && time > joinedAt + GroupExchange.margin && time + GroupExchange.margin < leavesAt && !received.contains(index) {
            return run.fail("group \(number): \(host.name) has not got datagram \(index), which was sent while it was a member")
        }
    }
}
