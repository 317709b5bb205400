import Demikernel
import Echo
import Glibc
import KeyValue
import NetworkStack
import Testing
import UserNetwork

/// What a server over the user-level stack leaves behind.
struct StackReport {
    var error: DemikernelError?
    var runtime = RuntimeStatistics()
    var network: UserNetworkStatistics?
}

/// A server over the user-level stack, on a thread of its own in the network namespace of the caller.
final class StackServer: @unchecked Sendable {
    // Unchecked: what the thread writes is read only after it has told so, or after it was joined.
    private var report = StackReport()
    private var interrupter: Interrupter?
    private var thread: OwnThread?

    /// Returns when the server listens; throws when it cannot.
    /// - Parameter serve: runs a server until it is interrupted, and calls its last argument when it listens.
    init(
        _ interface: InterfaceConfiguration, idle: IdlePolicy? = nil, arenaByteCount: Int = 32 << 20,
        serve: @escaping (borrowing Runtime, @escaping () -> Void) throws(DemikernelError) -> Void
    ) throws {
        let ready = Signal()
        thread = OwnThread { [self] in
            do throws(DemikernelError) {
                var configuration = RuntimeConfiguration()
                configuration.memory.arenaByteCount = arenaByteCount
                if let idle { configuration.idle = idle }
                let runtime = try Runtime(configuration)
                let device = try interface.openDevice(heap: runtime.core.heap)
                var network = interface.networkConfiguration(for: device, seed: 42)
                // Nobody else is on these links.
                network.ipv6.duplicateAddressDetectionTransmits = 0
                let libraryOS = try UserNetwork.make(for: runtime.core, device: device, configuration: network)
                try runtime.register(libraryOS)
                interrupter = runtime.interrupter
                do throws(DemikernelError) {
                    try serve(runtime) { ready.raise() }
                } catch {
                    report.error = error
                }
                report.network = UserNetwork.statistics(of: libraryOS)
                report.runtime = runtime.statistics
            } catch {
                report.error = error
            }
            ready.raise()
        }
        ready.wait()
        if interrupter == nil {
            thread?.join()
            thread = nil
            throw report.error ?? DemikernelError(EINVAL, .initialize)
        }
    }

    /// Interrupts the server, and returns when its thread has ended.
    @discardableResult
    func stop() -> StackReport {
        interrupter?.interrupt()
        thread?.join()
        thread = nil
        return report
    }

    static func echo(
        _ interface: InterfaceConfiguration, _ transport: EchoServer.Transport, _ address: SocketAddress, idle: IdlePolicy? = nil
    ) throws -> StackServer {
        try StackServer(interface, idle: idle) { (runtime, whenReady) throws(DemikernelError) in
            var server = EchoServer(transport, listen: address, socketOptions: [])
            try server.run(on: runtime) { _ in whenReady() }
        }
    }

    static func keyValue(_ interface: InterfaceConfiguration, _ address: SocketAddress) throws -> StackServer {
        try StackServer(interface) { (runtime, whenReady) throws(DemikernelError) in
            var server = KeyValueServer(listen: address, socketOptions: [], seed: 42, maximumQueues: 1024)
            try server.run(on: runtime) { _ in whenReady() }
        }
    }
}

/// A link between the stack at 10.0.0.2 and 2001:db8::2 and the kernel at 10.0.0.1 and 2001:db8::1, in the network namespace of the caller.
struct KernelLink {
    enum Kind: String, CaseIterable, CustomTestStringConvertible {
        case tap, xdp
        #if DPDK
        case dpdk
        #endif
        var testDescription: String { rawValue }
        /// The kernel's own. DPDK's drivers tell of no link, wake nobody, and cut the fragments that they have put together.
        static let ofTheKernel: [Kind] = [.tap, .xdp]
        /// DPDK's driver for packet sockets asks the kernel to put IPv4's fragments together (PACKET_FANOUT_FLAG_DEFRAG), and cuts what is too long then.
        var passesIPv4Fragments: Bool {
            #if DPDK
            self != .dpdk
            #else
            true
            #endif
        }
    }

    let kind: Kind
    let interface: InterfaceConfiguration
    /// The interface that the kernel's address is on.
    let kernelInterface: String

    /// Makes the link, with the kernel's side ready.
    init(_ kind: Kind, mtu: Int = 1500) throws {
        self.kind = kind
        let device: String
        switch kind {
        case .tap:
            device = "tap:demi0"
            kernelInterface = "demi0"
            // Stays for one test, with its addresses, until the namespace goes.
            try Shell.check("ip tuntap add dev demi0 mode tap")
        case .xdp:
            device = "xdp:demi0"
            // The device is on demi0, and the kernel's address on the other end of the cable.
            kernelInterface = "demi1"
            try Shell.check("ip link add demi0 type veth peer name demi1", "ip link set demi0 mtu \(mtu) up")
        #if DPDK
        case .dpdk:
            device = "dpdk:\(DPDKName.make("net_af_packet")),iface=demi0,qdisc_bypass=1"
            kernelInterface = "demi1"
            // The driver does not tell that the kernel at the other end of a veth leaves its checksums to be completed.
            try Shell.check("ip link add demi0 type veth peer name demi1", "ip link set demi0 mtu \(mtu) up", "ethtool -K demi1 tx off")
        #endif
        }
        try Shell.check(
            "ip link set \(kernelInterface) mtu \(mtu) up", "ip address add 10.0.0.1/24 dev \(kernelInterface)",
            "ip -6 address add 2001:db8::1/64 dev \(kernelInterface) nodad")
        interface = try InterfaceConfiguration(device: device, addresses: ["10.0.0.2/24", "2001:db8::2/64"])
    }
}
