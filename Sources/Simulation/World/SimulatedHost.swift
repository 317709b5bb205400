import DatapathMemory
import EthernetDevice
import NetworkStack
import QueueRuntime
import TaskScheduler
import UserNetwork
import WireFormats

/// A host of a simulation: a runtime of its own over a user-level network stack, and programs that run on it unchanged.
public final class SimulatedHost: SimulatedNode {
    public let name: String
    public let macAddress: MACAddress
    public let address: IPAddress
    /// Of a host that speaks IPv6, too.
    public let ipv6Address: IPAddress?
    /// Programs that have not ended.
    public private(set) var runningPrograms: [SimulatedProgram] = []
    /// Of the runtime; what it does with it is the host's own business.
    public let core: RuntimeCore

    private unowned let simulation: Simulation
    private let clock: SimulatedClock
    private let device: SimulatedDevice
    private let libraryOS: LibraryOS
    private var box: RuntimeBox?
    private var end1: LinkEnd?
    private(set) var needsPoll = true
    private var wakeTime = UInt64.max
    private var wakeGeneration: UInt64 = 0
    private var grabbed: [Grab] = []
    private let refillInterval: UInt64
    private var isRefillScheduled = false
    /// The device has refused frames: what leaves when it has room may have been made before.
    private var framesMayWait = false

    /// A host that takes more turns than this at one instant does something in a circle.
    private static let maximumTurns = 20_000
    /// After which a host polls again that waits for room in its device, or for memory: nothing wakes it then.
    private static let retryInterval: UInt64 = 200_000

    /// How a host is made.
    public struct Settings {
        /// Small, and not backed before it is used: a world is made in less than a millisecond.
        public var memory = MemoryConfiguration(arenaByteCount: 8 << 20, commitsAtStart: false, maximumSegments: 1 << 15)
        public var limits: Limits
        public var tcp = TCPConfiguration()
        public var networkLimits = NetworkLimits()
        public var maximumTransmissionUnit = 1_500
        /// Nil for the host's number in 10.0.0.0/16.
        public var address: IPAddress?
        /// Gives the host the IPv6 address that belongs to its IPv4 address, without duplicate address detection. What the settings say of other IPv4
        /// addresses then holds for the IPv6 addresses that belong to them, too. The maximum transmission unit must be 1,280 at least.
        public var speaksIPv6 = false
        public var routes: [NetworkConfiguration.Route] = []
        public var staticNeighbors: [NetworkConfiguration.StaticNeighbor] = []
        /// What the device computes and verifies for the stack: checksums of TCP and UDP.
        public var offloads = DeviceOffloads()
        /// The most segments of one frame that the device gathers.
        public var maximumTransmitSegments = 8
        /// Nanoseconds by which the host's clock is ahead of the world's.
        public var clockOffset: UInt64 = 0
        /// Frames that wait in the device at most; a further one is dropped.
        public var receiveQueueLength = 1_024
        /// Bytes of the blocks that frames are received in; nil for blocks that fit.
        public var receiveBlockByteCount: Int?
        /// Frames that the device takes every `transmitInterval` nanoseconds at most; nil for no limit.
        public var transmitQueueLength: Int?
        public var transmitInterval: UInt64 = 20_000

        public init() {
            limits = Limits()
            limits.maximumQueues = 4_096
            limits.maximumOperations = 16_384
            limits.maximumTasks = 4_096
            limits.maximumTimers = 8_192
            limits.maximumWaiters = 4_096
            networkLimits.maximumConnections = 4_096
            networkLimits.maximumDatagramSockets = 256
        }
    }

    private final class RuntimeBox {
        let runtime: Runtime

        init(_ runtime: consuming Runtime) { self.runtime = runtime }
    }

    private struct Grab {
        let buffers: [Frame]
    }

    init(
        _ name: String, number: UInt32, _ settings: Settings, simulation: Simulation, capture: PacketCaptureWriter?
    ) throws(DemikernelError) {
        self.name = name
        self.simulation = simulation
        let standard = Simulation.addresses(ofHost: number)
        (macAddress, address) = (standard.macAddress, settings.address ?? standard.address)
        ipv6Address = settings.speaksIPv6 ? Simulation.ipv6Address(of: address) : nil
        refillInterval = settings.transmitInterval
        clock = SimulatedClock(simulation, offset: settings.clockOffset)
        device = SimulatedDevice(macAddress, settings)
        var random = simulation.random("host \(name)")
        var configuration = RuntimeConfiguration()
        configuration.limits = settings.limits
        configuration.memory = settings.memory
        configuration.idle = .spin
        configuration.seed = random.next()
        configuration.clock = clock.runtimeClock
        var network = NetworkConfiguration(macAddress: macAddress, addresses: [IPv4Prefix(address: address, length: 16)], seed: random.next())
        network.tcp = settings.tcp
        network.limits = settings.networkLimits
        network.maximumTransmissionUnit = settings.maximumTransmissionUnit
        network.routes = settings.routes
        network.staticNeighbors = settings.staticNeighbors
        if let ipv6Address {
            network.ipv6Addresses = [IPv6Prefix(address: ipv6Address, length: 64)]
            network.ipv6.duplicateAddressDetectionTransmits = 0
            network.ipv6.routes = settings.routes.map {
                IPv6Configuration.Route(destination: Simulation.ipv6Prefix(of: $0.destination), gateway: Simulation.ipv6Address(of: $0.gateway))
            }
            network.staticNeighbors += settings.staticNeighbors.map {
                NetworkConfiguration.StaticNeighbor(address: Simulation.ipv6Address(of: $0.address), macAddress: $0.macAddress)
            }
        }
        network.offloads = settings.offloads
        network.maximumTransmitSegments = settings.maximumTransmitSegments
        let handle = device.makeHandle()
        let runtime = try Runtime(configuration)
        let libraryOS = try UserNetwork.make(for: runtime.core, device: handle, configuration: network)
        try runtime.register(libraryOS)
        self.libraryOS = libraryOS
        core = runtime.core
        box = RuntimeBox(runtime)
        if let capture {
            let interface = try capture.addInterface(
                name: name, macAddress: macAddress.value, snapshotByteCount: settings.maximumTransmissionUnit + EthernetHeader.byteCount)
            device.observe = { [unowned simulation] frame, direction in
                capture.write(frame, interface: interface, direction: direction, time: simulation.now, snapshotByteCount: 65_536)
            }
        }
        device.transmitted = { [unowned self] frame in
            self.simulation.checker.transmitted(frame.bytes, by: self, at: self.simulation.now, mayHaveWaited: framesMayWait)
            end1?.send(frame.padded)
        }
        device.received = { [unowned self] frame in self.simulation.checker.received(frame, by: self, at: self.simulation.now) }
        device.refused = { [unowned self] in
            framesMayWait = true
            scheduleRefill()
        }
    }

    // MARK: Node

    public func attach(_ end: LinkEnd) -> Int {
        precondition(end1 == nil, "a host has one link")
        end1 = end
        return 0
    }

    public func receive(_ frame: SimulatedFrame, port: Int) {
        needsPoll = true
        device.arrive(frame)
    }

    private func scheduleRefill() {
        guard !isRefillScheduled else { return }
        isRefillScheduled = true
        simulation.schedule(after: refillInterval) { [unowned self] in
            isRefillScheduled = false
            device.refill()
            needsPoll = true
        }
    }

    /// The host's address of a family. One that does not speak IPv6 has none.
    public func address(_ family: AddressFamily) -> IPAddress {
        guard family == .ipv6 else { return address }
        guard let ipv6Address else { preconditionFailure("\(name) does not speak IPv6") }
        return ipv6Address
    }

    // MARK: Programs

    /// Starts a program as a coroutine of the host's runtime: it runs while the world does.
    ///
    /// A program that has not ended when the world does is interrupted: every wait throws `EINTR` then. One that goes on in spite of it is left where it
    /// stands, and what it holds is never released.
    /// - Throws: as `Runtime.spawn`. What the program throws is in `SimulatedProgram.error`.
    @discardableResult
    public func run(_ name: String = "program", _ body: @escaping (borrowing Runtime) throws -> Void) throws(DemikernelError) -> SimulatedProgram {
        let program = SimulatedProgram(name: name)
        runningPrograms.append(program)
        needsPoll = true
        try runtime.spawn { [unowned self] runtime in
            do {
                try body(runtime)
            } catch {
                program.error = error
            }
            program.isFinished = true
            runningPrograms.removeAll { $0 === program }
        }
        return program
    }

    /// Calls `body` with the host's runtime, outside of any program. It must not wait.
    public func perform<Result>(_ body: (borrowing Runtime) throws -> Result) rethrows -> Result {
        needsPoll = true
        return try body(runtime)
    }

    /// Lets the running program sleep. It is woken by the host's clock, which may jump, or by the end of the world.
    public func sleep(nanoseconds: UInt64) {
        let scheduler = core.scheduler
        guard let task = scheduler.currentCoroutine else { preconditionFailure("only a program of this host can sleep") }
        let deadline = scheduler.deadline(after: nanoseconds, from: core.now)
        let timer = scheduler.armTimer(
            deadline: deadline,
            { host, task in
                Unmanaged<SimulatedHost>.fromOpaque(host).takeUnretainedValue().core.scheduler.wake(UInt32(truncatingIfNeeded: task))
            }, context: Unmanaged.passUnretained(self).toOpaque(), argument: UInt64(task.index))
        // A wait that has just ended may have left a wake-up behind.
        while core.now < deadline {
            if core.interruptsCoroutines { scheduler.wake(task.index) }
            scheduler.suspendCurrent()
            if core.interruptsCoroutines { break }
        }
        if let timer { scheduler.cancelTimer(timer) }
    }

    private var runtime: Runtime {
        _read {
            guard let box else { preconditionFailure("the world has ended") }
            yield box.runtime
        }
    }

    // MARK: Faults

    /// The host's time, in nanoseconds.
    public var now: UInt64 { clock.now }

    /// Lets the host's clock jump forward.
    public func jumpClock(nanoseconds: UInt64) {
        clock.jump(nanoseconds)
        needsPoll = true
    }

    /// Takes memory of the host's heap away until `returnMemory`: blocks of `blockByteCount` bytes, until less than `leaving` bytes are left, or none that
    /// `priority` may have.
    public func grabMemory(leaving: Int, blockByteCount: Int = 2_048, priority: AllocationPriority = .application) {
        var buffers: [Frame] = []
        let limit = core.heap.statistics.limitByteCount
        while core.heap.usedByteCount + blockByteCount < limit - leaving,
            let buffer = Frame.makeSegment(core.heap, byteCount: blockByteCount, priority: priority)
        { buffers.append(buffer) }
        grabbed.append(Grab(buffers: buffers))
    }

    /// Gives back all memory that was taken away.
    public func returnMemory() {
        for grab in grabbed {
            for buffer in grab.buffers { buffer.releaseArray() }
        }
        grabbed = []
        needsPoll = true
    }

    // MARK: State

    /// The counts of the host's network stack.
    public var networkStatistics: NetworkStatistics { UserNetwork.statistics(of: libraryOS).network }
    /// Whether the stack has no connection, the program no queue and nobody a block of memory. A host that knows its neighbours may still ask for them.
    public var isIdle: Bool {
        let memory = core.heap.statistics
        return memory.liveBlocks == 0 && memory.liveSegments == 0 && runtime.statistics.liveOperations == 0 && networkStatistics.connections == 0
    }
    /// The counts of the host's runtime.
    public var runtimeStatistics: RuntimeStatistics { runtime.statistics }
    /// The counts of the host's device.
    public var deviceStatistics: DeviceStatistics { device.statistics }

    // MARK: The world's side

    func wake(_ generation: UInt64) {
        guard generation == wakeGeneration else { return }
        wakeTime = .max
        needsPoll = true
    }

    /// Polls until there is nothing left to do at this time, then says when to be woken.
    func settle() throws(SimulationFailure) {
        needsPoll = false
        var turns = 0
        while runtime.poll() {
            turns += 1
            guard turns < SimulatedHost.maximumTurns else {
                throw simulation.failure("\(name) never becomes quiet: it has taken \(turns) turns at one instant")
            }
        }
        // With room, all that has waited has left.
        if !isRefillScheduled { framesMayWait = false }
        // As before a sleep: the library OS puts the stack's next deadline among the runtime's timers.
        let waitsForRoom = libraryOS.prepareToSleep.map { $0(libraryOS.context) == LibraryOS.cannotWake } ?? false
        var time = core.scheduler.nextDeadline.map { clock.worldTime($0) } ?? .max
        if waitsForRoom { time = min(time, simulation.now + SimulatedHost.retryInterval) }
        guard time != wakeTime else { return }
        wakeTime = time
        wakeGeneration += 1
        if time != .max { simulation.wake(self, at: time, generation: wakeGeneration) }
    }

    /// Has the programs end, at this time.
    func interruptPrograms() {
        returnMemory()
        runtime.interruptCoroutines()
    }

    func end() {
        box = nil
    }
}

/// A program that was started on a host.
public final class SimulatedProgram {
    public let name: String
    public internal(set) var isFinished = false
    /// What it ended with, unless it returned.
    public internal(set) var error: (any Error)?
    /// Where it stands, in the program's own words: said when it never ends.
    public var stage: String = ""

    init(name: String) { self.name = name }
}
