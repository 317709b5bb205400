/// The XDP program of a device: frames for it are redirected to the socket of their receive queue; all others, and those of a queue without a socket, go on
/// to the kernel.
struct SteeringProgram {
    private var program = BPFProgram()
    private let steering: XDPSteering
    private let pass: BPFProgram.Label
    private let redirect: BPFProgram.Label
    /// r5 holds the destination port, in host order.
    private let port: BPFProgram.Label
    /// For one of our addresses, without ports that could be seen.
    private let withoutPort: BPFProgram.Label

    // Registers: r2 is the start of the frame, r3 its end, r6 the context; r4, r5, r7, r8 are for whoever needs them.

    /// - Parameters:
    ///   - map: the descriptor of the map from queues to sockets.
    ///   - withoutSocket: what becomes of a frame for a queue without a socket.
    static func instructions(_ steering: XDPSteering, map: Int32, withoutSocket: Int32 = passToKernel) -> [UInt64] {
        var builder = SteeringProgram(steering)
        builder.build(map, withoutSocket)
        return builder.program.assembled()
    }

    private init(_ steering: XDPSteering) {
        self.steering = steering
        pass = program.makeLabel()
        redirect = program.makeLabel()
        port = program.makeLabel()
        withoutPort = program.makeLabel()
    }

    private mutating func build(_ map: Int32, _ withoutSocket: Int32) {
        let arp = program.makeLabel()
        let ipv4 = program.makeLabel()
        let ipv6 = program.makeLabel()
        program.move(.r6, .r1)
        program.load(.word, .r2, .r1, 0)
        program.load(.word, .r3, .r1, 4)
        // The shortest frame of interest is an IPv4 header; the last fragment of a datagram may have a byte behind it.
        requireBytes(34, orGoTo: pass)
        program.load(.half, .r5, .r2, 12)
        if !steering.ipv4Addresses.isEmpty {
            program.jump(to: ipv4, if: .r5, equals: 0x0008)
            if !steering.sharesAddresses { program.jump(to: arp, if: .r5, equals: 0x0608) }
        }
        if !steering.ipv6Addresses.isEmpty { program.jump(to: ipv6, if: .r5, equals: 0xdd86) }
        program.place(pass)
        program.move(.r0, SteeringProgram.passToKernel)
        program.exit()
        if program.isUsed(arp) {
            program.place(arp)
            // The address that is asked for, or that is answered: RFC 826's ar$tpa.
            let short = program.makeLabel()
            requireBytes(42, orGoTo: short)
            program.load(.word, .r5, .r2, 38)
            for address in steering.ipv4Addresses { program.jump(to: redirect, if: .r5, equals: address) }
            program.place(short)
            goOnToKernel()
        }
        if program.isUsed(ipv4) { buildIPv4(ipv4) }
        if program.isUsed(ipv6) { buildIPv6(ipv6) }
        buildPorts()
        guard program.isUsed(redirect) else { return }
        program.place(redirect)
        program.loadMap(.r1, descriptor: map)
        program.load(.word, .r2, .r6, 16)
        program.move(.r3, withoutSocket)
        program.call(51 /* bpf_redirect_map */)
        program.exit()
    }

    /// XDP_PASS.
    static let passToKernel: Int32 = 2

    /// The kernel's verifier wants to see this before a load.
    private mutating func requireBytes(_ count: Int32, orGoTo label: BPFProgram.Label) {
        program.move(.r4, .r2)
        program.add(.r4, count)
        program.jump(to: label, if: .r4, isAbove: .r3)
    }

    /// XDP_PASS of its own: jumps go ahead only.
    private mutating func goOnToKernel() {
        program.move(.r0, SteeringProgram.passToKernel)
        program.exit()
    }

    private mutating func buildIPv4(_ label: BPFProgram.Label) {
        program.place(label)
        let ours = program.makeLabel()
        program.load(.word, .r5, .r2, 30)
        for address in steering.ipv4Addresses { program.jump(to: ours, if: .r5, equals: address) }
        goOnToKernel()
        program.place(ours)
        guard !steering.ports.isEmpty else { return program.jump(to: redirect) }
        let transport = program.makeLabel()
        // Options move the ports; and of a fragmented datagram, whose ports are in the first fragment alone, all go the same way.
        program.load(.byte, .r5, .r2, 14)
        program.jump(to: withoutPort, if: .r5, differsFrom: 0x45)
        program.load(.half, .r5, .r2, 20)
        program.and(.r5, 0xff3f)
        program.jump(to: withoutPort, if: .r5, differsFrom: 0)
        program.load(.byte, .r5, .r2, 23)
        program.jump(to: transport, if: .r5, equals: 6)
        program.jump(to: withoutPort, if: .r5, differsFrom: 17)
        program.place(transport)
        requireBytes(38, orGoTo: withoutPort)
        program.load(.half, .r5, .r2, 36)
        program.jump(to: port)
    }

    private mutating func buildIPv6(_ label: BPFProgram.Label) {
        program.place(label)
        let ours = program.makeLabel()
        let short = program.makeLabel()
        requireBytes(54, orGoTo: short)
        jumpIfOurs(at: 38, to: ours)
        if !steering.sharesAddresses {
            // A neighbour solicitation goes to a group that others may be in, and an advertisement by which another node says that it has our address
            // goes to all: their target counts (RFC 4861, sections 4.3 and 4.4; RFC 4862, section 5.4.4).
            program.load(.byte, .r5, .r2, 20)
            program.jump(to: short, if: .r5, differsFrom: 58)
            let target = program.makeLabel()
            requireBytes(78, orGoTo: short)
            program.load(.byte, .r5, .r2, 54)
            program.jump(to: short, if: .r5, isBelow: 135)
            program.jump(to: target, if: .r5, isAtMost: 136)
            goOnToKernel()
            program.place(target)
            jumpIfOurs(at: 62, to: redirect)
        }
        program.place(short)
        goOnToKernel()
        program.place(ours)
        guard !steering.ports.isEmpty else { return program.jump(to: redirect) }
        let transport = program.makeLabel()
        program.load(.byte, .r5, .r2, 20)
        program.jump(to: transport, if: .r5, equals: 6)
        program.jump(to: withoutPort, if: .r5, differsFrom: 17)
        program.place(transport)
        requireBytes(58, orGoTo: withoutPort)
        program.load(.half, .r5, .r2, 56)
        program.jump(to: port)
    }

    private mutating func jumpIfOurs(at offset: Int16, to label: BPFProgram.Label) {
        program.load(.doubleWord, .r5, .r2, offset)
        program.load(.doubleWord, .r7, .r2, offset + 8)
        for address in steering.ipv6Addresses {
            let next = program.makeLabel()
            program.loadImmediate(.r8, address.words.0)
            program.jump(to: next, if: .r5, differsFrom: .r8)
            program.loadImmediate(.r8, address.words.1)
            program.jump(to: label, if: .r7, equals: .r8)
            program.place(next)
        }
    }

    private mutating func buildPorts() {
        if program.isUsed(port) {
            program.place(port)
            program.fromBigEndian16(.r5)
            for range in steering.ports {
                let next = program.makeLabel()
                program.jump(to: next, if: .r5, isBelow: UInt32(range.lowerBound))
                program.jump(to: redirect, if: .r5, isAtMost: UInt32(range.upperBound))
                program.place(next)
            }
            goOnToKernel()
        }
        if program.isUsed(withoutPort) {
            program.place(withoutPort)
            if steering.sharesAddresses { goOnToKernel() } else { program.jump(to: redirect) }
        }
    }
}
