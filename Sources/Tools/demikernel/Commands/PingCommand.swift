import ArgumentParser
import Demikernel
import EthernetDevice
import Glibc
import UserNetwork
import WireFormats

struct PingCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "ping",
        abstract: "Send ICMP echo requests from the user-level stack over a device.",
        discussion: """
            Shows whether a device, its addresses and its gateway are right, and the time to a host and back. Meanwhile the stack answers for its addresses.

            EXAMPLES
              sudo demikernel ping --device tap:demi0,host=10.0.0.1/24 --address 10.0.0.2/24 10.0.0.1
              sudo demikernel ping --device xdp:eth0 --address 192.0.2.9/24 --gateway 192.0.2.1 -c 3 198.51.100.7

            Exit codes: 0 when an answer came, 1 when none did, 64 a mistake in arguments or settings.
            """)

    @Argument(help: ArgumentHelp("The host.", valueName: "address"))
    var host: String

    @Option(name: .shortAndLong, help: ArgumentHelp("How many requests.", valueName: "count"))
    var count = 4

    @Option(name: .shortAndLong, help: ArgumentHelp("Seconds between requests, and to wait for the last answer.", valueName: "seconds"))
    var interval = 1.0

    @Option(name: .shortAndLong, help: ArgumentHelp("Bytes of data in a request.", valueName: "bytes"))
    var size = 56

    @OptionGroup var settings: SettingsOptions

    func validate() throws {
        guard IPAddress(parsing: host) != nil else { throw ValidationError("\"\(host)\" must be an IPv4 or IPv6 address") }
        guard (1...65_535).contains(count) else { throw ValidationError("--count must be 1 to 65535") }
        guard interval >= 0.001, interval <= 3600 else { throw ValidationError("--interval must be 0.001 to 3600 seconds") }
        guard (0...65_000).contains(size) else { throw ValidationError("--size must be 0 to 65000 bytes") }
    }

    func run() throws {
        var options = settings
        // Nothing else sends from a device.
        if options.libos == nil { options.libos = LibraryOSName.catnip.rawValue }
        let settings = try options.read()
        guard let interface = settings.interface, let destination = IPAddress(parsing: host) else {
            throw ValidationError("ping needs the library OS catnip")
        }
        let (source, nextHop) = try Self.route(to: destination, over: interface)
        Interruption.watch()
        do throws(DemikernelError) {
            let runtime = try Runtime(settings.runtimeConfiguration)
            let (device, observation) = ObservedDevice.wrap(try interface.openDevice(heap: runtime.core.heap))
            guard size + (destination.isIPv4 ? 28 : 48) + EthernetHeader.byteCount <= device.capabilities.maximumFrameByteCount else {
                device.close()
                throw DemikernelError(EMSGSIZE, .push, "a request with so much data is longer than the MTU: lower --size")
            }
            var network = interface.networkConfiguration(for: device, seed: runtime.core.nextRandom())
            // The time to find out whether somebody has the address would be longer than a ping.
            network.ipv6.duplicateAddressDetectionTransmits = 0
            try runtime.register(try UserNetwork.make(for: runtime.core, device: device, configuration: network))
            let probe = EchoProbe(
                device, heap: runtime.core.heap, source: source, destination: destination, nextHop: nextHop, identifier: UInt16(truncatingIfNeeded: getpid()))
            observation.observe = probe.observe
            probe.nextHopStation = interface.neighbors.first { $0.address == nextHop }?.macAddress
            defer { observation.observe = nil }
            let times = try ping(runtime, probe, nextHop)
            report(times)
            if times.isEmpty { throw DemikernelError(ETIMEDOUT, .wait, "no request was answered: is the host up, and does it answer echo requests?") }
        } catch {
            throw CommandFailure("\(settings.carrier): \(error)")
        }
    }

    /// The address to send from, and the neighbour that takes it.
    private static func route(to destination: IPAddress, over interface: InterfaceConfiguration) throws -> (source: IPAddress, nextHop: IPAddress) {
        if destination.isIPv4 {
            if let prefix = interface.addresses.first(where: { $0.contains(destination) }) { return (prefix.address, destination) }
            if let prefix = interface.addresses.first, let gateway = interface.gateway { return (prefix.address, gateway) }
        } else {
            if let prefix = interface.ipv6Addresses.first(where: { $0.contains(destination) }) { return (prefix.address, destination) }
            if let prefix = interface.ipv6Addresses.first, let gateway = interface.ipv6Gateway { return (prefix.address, gateway) }
        }
        throw CommandFailure("\(destination) is not on the link, and no gateway of its family leads there: give one with --gateway")
    }

    /// The nanoseconds of each answer.
    private func ping(_ runtime: borrowing Runtime, _ probe: EchoProbe, _ nextHop: IPAddress) throws(DemikernelError) -> [Double] {
        try resolve(runtime, probe)
        var times: [Double] = []
        for number in 1...count where !Interruption.isRequested {
            let sequence = UInt16(number)
            let start = MonotonicClock.now()
            let end = start + UInt64(interval * 1e9)
            probe.request(sequence: sequence, payloadByteCount: size)
            var isAnswered = false
            while MonotonicClock.now() < end, !Interruption.isRequested, !(isAnswered && number == count) {
                _ = runtime.poll()
                guard let reply = probe.takeReply(), reply.sequence == sequence, !isAnswered else { continue }
                isAnswered = true
                let time = Double(MonotonicClock.now() - start)
                times.append(time)
                print("\(reply.byteCount) bytes from \(host): number \(number), hop limit \(reply.hops), \(NumberText.microseconds(time)) us")
            }
            if !isAnswered { print("no answer from \(host) to number \(number)") }
        }
        return times
    }

    /// Asks for the next hop's hardware address until it answers, ten times at most.
    private func resolve(_ runtime: borrowing Runtime, _ probe: EchoProbe) throws(DemikernelError) {
        for _ in 0..<10 where probe.nextHopStation == nil && !Interruption.isRequested {
            probe.solicit()
            let end = MonotonicClock.now() + 300_000_000
            while MonotonicClock.now() < end, probe.nextHopStation == nil, !Interruption.isRequested { _ = runtime.poll() }
        }
        guard probe.nextHopStation != nil else {
            throw DemikernelError(EHOSTUNREACH, .connect, "nobody on the link has the address: is the host (or the gateway) there, and up?")
        }
    }

    private func report(_ times: [Double]) {
        print("\(count) sent, \(times.count) answered, \((count - times.count) * 100 / count) % lost")
        guard let least = times.min(), let most = times.max() else { return }
        print("""
            least \(NumberText.microseconds(least)) us, mean \(NumberText.microseconds(times.reduce(0, +) / Double(times.count))) us, \
            most \(NumberText.microseconds(most)) us
            """)
    }
}
