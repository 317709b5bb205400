import CLinuxDevices
import DatapathMemory
import Glibc
import NetworkInterface

/// The steering program on an interface, and its map from queues to sockets. It is there as long as its descriptors are open: it goes with the process,
/// however that ends.
struct XDPAttachment {
    let map: Int32
    let link: Int32
    /// Whether it runs in the driver.
    let isNative: Bool

    init(_ configuration: XDPConfiguration, interface: Int, queueCount: Int) throws(DemikernelError) {
        let map = linux_bpf_make_socket_map(UInt32(queueCount))
        guard map >= 0 else { throw DemikernelError(-map, .initialize, XDPAttachment.message(-map)) }
        let program: Int32
        do throws(DemikernelError) {
            program = try XDPAttachment.load(SteeringProgram.instructions(configuration.steering, map: map))
        } catch {
            close(map)
            throw error
        }
        defer { close(program) }
        // XDP_FLAGS_DRV_MODE and XDP_FLAGS_SKB_MODE.
        let native: UInt32 = 1 << 2
        let generic: UInt32 = 1 << 1
        var link: Int32 = -EOPNOTSUPP
        var isNative = false
        if configuration.mode != .generic {
            link = linux_bpf_link_xdp(program, Int32(interface), native)
            isNative = link >= 0
        }
        // EBUSY and EPERM hold for both.
        if configuration.mode == .generic || configuration.mode == .automatic && link < 0 && link != -EBUSY && link != -EPERM {
            link = linux_bpf_link_xdp(program, Int32(interface), generic)
        }
        guard link >= 0 else {
            close(map)
            throw DemikernelError(-link, .initialize, XDPAttachment.message(-link))
        }
        self.map = map
        self.link = link
        self.isNative = isNative
    }

    /// Loads a program that steers something, and takes it back.
    static func check() throws(DemikernelError) {
        let map = linux_bpf_make_socket_map(1)
        guard map >= 0 else { throw DemikernelError(-map, .initialize, message(-map)) }
        defer { close(map) }
        var steering = XDPSteering()
        steering.ipv4Addresses = [0x0100_007f]
        close(try load(SteeringProgram.instructions(steering, map: map)))
    }

    /// Lets the frames of a queue go to a bound socket.
    static func set(_ socket: Int32, queue: Int, in map: Int32) throws(DemikernelError) {
        let result = linux_bpf_set_socket(map, UInt32(queue), socket)
        guard result == 0 else { throw DemikernelError(-result, .initialize, "the AF_XDP socket cannot be entered into the steering map") }
    }

    /// Takes the program from the interface, unless there are duplicates of the descriptors.
    func detach() {
        close(link)
        close(map)
    }

    /// Returns the program's descriptor.
    static func load(_ instructions: [UInt64]) throws(DemikernelError) -> Int32 {
        let count = UInt32(instructions.count)
        var program = -EAGAIN
        // The verifier gives up for any signal.
        for _ in 0..<20 where program == -EAGAIN { program = linux_bpf_load_xdp(instructions, count, 1) }
        // Before Linux 5.18 there is no such flag.
        if program == -EINVAL { program = linux_bpf_load_xdp(instructions, count, 0) }
        guard program >= 0 else { throw DemikernelError(-program, .initialize, message(-program)) }
        return program
    }

    private static func message(_ code: Int32) -> StaticString {
        switch code {
        case EPERM: "an XDP program needs root (CAP_BPF and CAP_NET_ADMIN of the machine, not of a user namespace): run it with sudo, or use tap"
        case EBUSY: "the interface has an XDP program already: stop the process that attached it, or `ip link set dev NAME xdp off`"
        case EOPNOTSUPP: "the driver of the interface runs no XDP programs: leave mode= out, or use mode=generic"
        case ENOSPC: "the interface has fewer receive queues than its peer has transmit queues: `ethtool -L PEER tx 1`"
        case ERANGE, EMSGSIZE: "the MTU of the interface is too large for its driver's XDP: lower it, or use mode=generic"
        case EINVAL, ENOSYS: "the kernel is too old for this XDP program: Linux 5.9 or newer is needed; or use tap"
        default: "the XDP program cannot be attached to the interface"
        }
    }
}
