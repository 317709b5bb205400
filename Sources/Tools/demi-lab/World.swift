import DatapathMemory
import EthernetDevice
import NetworkStack
import QueueRuntime
import TaskScheduler
import UserNetwork

/// One host in virtual time: a runtime over the user-level network, whose device is the script and whose clock the script moves.
///
/// Everything is the production's own but the device, the clock and the seed.
final class World {
    let runtime: Runtime
    private let clock: VirtualClock
    private let device: ScriptDevice
    private let libraryOS: LibraryOS
    /// What was redeemed, to be told again, and the order in which it was.
    private var records: [UInt64: OperationRecord] = [:]
    private var redeemed: [UInt64] = []

    /// The latest results, which are kept at least; older ones are forgotten.
    static let maximumRecords = 4_096
    /// Turns of one poll; more is a stack that never comes to rest.
    static let maximumTurns = 100_000

    /// - Throws: what is wrong with an `init` request.
    init(_ request: Request) throws(RequestError) {
        guard request.version ?? 1 == 1 else { throw RequestError("this adapter speaks version 1 of the protocol") }
        let network = try NetworkConfiguration(request)
        clock = VirtualClock(now: request.nowNanoseconds ?? 0)
        device = ScriptDevice(macAddress: network.macAddress.value, maximumTransmissionUnit: network.maximumTransmissionUnit)
        var configuration = RuntimeConfiguration()
        configuration.clock = clock.makeRuntimeClock()
        configuration.idle = .spin
        configuration.seed = network.seed
        configuration.memory.arenaByteCount = 16 << 20
        configuration.memory.commitsAtStart = false
        do throws(DemikernelError) {
            runtime = try Runtime(configuration)
            libraryOS = try UserNetwork.make(for: runtime.core, device: device.makeHandle(), configuration: network)
            try runtime.register(libraryOS)
        } catch {
            throw RequestError("the stack was not made: \(error)")
        }
    }

    // MARK: Time and frames

    /// Sets the time. Runs nothing.
    func setTime(_ now: UInt64) throws(RequestError) {
        guard clock.move(to: now) else { throw RequestError("the clock must not go back from \(clock.now) to \(now)") }
    }

    /// Puts a frame into the device. Runs nothing.
    func receive(_ frame: [UInt8]) throws(RequestError) {
        guard device.arrive(frame) else { throw RequestError("\(ScriptDevice.maximumArrived) frames wait already: poll") }
    }

    /// Takes turns until nothing more is to be done at this instant.
    func poll() throws(RequestError) {
        var turns = 0
        while runtime.poll() {
            turns += 1
            guard turns < World.maximumTurns else { throw RequestError("the stack is not at rest after \(turns) turns") }
        }
    }

    /// The frames that the stack has sent since the last call, oldest first.
    func takeTransmitted() -> [[UInt8]] { device.takeSent() }

    /// When the earliest timer is due, in nanoseconds; nil for none.
    var nextDeadline: UInt64? {
        [runtime.core.scheduler.nextDeadline, UserNetwork.nextDeadline(of: libraryOS)].compactMap(\.self).min()
    }

    /// The counts of the runtime and of its network.
    var statistics: (runtime: RuntimeStatistics, network: NetworkStatistics) {
        (runtime.statistics, UserNetwork.statistics(of: libraryOS).network)
    }

    // MARK: Operations

    /// The result of an operation if it has completed. Runs nothing; the same answer each time.
    func result(of token: UInt64) throws(RequestError) -> Reply {
        if let record = records[token] { return .completed(record) }
        do throws(DemikernelError) {
            guard let completion = try runtime.redeem(QueueToken(rawValue: token)) else { return .pending }
            let record = OperationRecord(completion)
            keep(record, of: token)
            return .completed(record)
        } catch {
            throw RequestError("no operation has token \(token)")
        }
    }

    private func keep(_ record: OperationRecord, of token: UInt64) {
        records[token] = record
        redeemed.append(token)
        guard redeemed.count >= 2 * World.maximumRecords else { return }
        for old in redeemed.prefix(World.maximumRecords) { records[old] = nil }
        redeemed.removeFirst(World.maximumRecords)
    }
}
