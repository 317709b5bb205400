import CDatapath
import DatapathMemory
import Glibc
import QueueRuntime
import TaskScheduler

/// Making, connecting and ending sockets.
extension KernelSocketsHandle {
    /// A socket in the descriptor's slot; a negative errno on failure.
    func open(_ family: AddressFamily, _ type: SocketType, _ queue: QueueDescriptor) -> Int64 {
        guard family != .path else { return -Int64(core.refuse(EAFNOSUPPORT, "kernel sockets have IP addresses: paths are for catmem")) }
        let domain = family == .ipv4 ? AF_INET : AF_INET6
        let kind = type == .stream ? Int32(SOCK_STREAM.rawValue) : Int32(SOCK_DGRAM.rawValue)
        let file = Glibc.socket(domain, kind | Int32(SOCK_NONBLOCK.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard file >= 0 else { return -Int64(core.refuse(errno, KernelSocketsHandle.socketMessage(errno))) }
        install(file, family, type, queue, .open)
        if type == .stream {
            setFlag(file, SOL_SOCKET, SO_REUSEADDR, 1)
            setFlag(file, Int32(IPPROTO_TCP), TCP_NODELAY, 1)
        }
        return Int64(queue.slot)
    }

    private static func socketMessage(_ error: Int32) -> StaticString {
        switch error {
        case EMFILE, ENFILE: "the process has no file descriptor left: close some or raise the limit with ulimit -n"
        case EAFNOSUPPORT: "this kernel has no such address family"
        case EACCES, EPERM: "the process may not make this kind of socket"
        default: ""
        }
    }

    private func install(_ file: Int32, _ family: AddressFamily, _ type: SocketType, _ queue: QueueDescriptor, _ phase: KernelSocket.Phase) {
        while state.pointee.carvedSockets <= queue.slot {
            self.socket(state.pointee.carvedSockets).initialize(to: KernelSocket())
            state.pointee.carvedSockets += 1
        }
        let socket = socket(queue.slot)
        let epoch = socket.pointee.epoch &+ 1
        let isStarved = socket.pointee.isStarved
        let nextStarved = socket.pointee.nextStarved
        socket.pointee = KernelSocket()
        socket.pointee.epoch = epoch
        // The slot may still stand in the list of the starved.
        socket.pointee.isStarved = isStarved
        socket.pointee.nextStarved = nextStarved
        socket.pointee.file = file
        socket.pointee.family = family
        socket.pointee.type = type
        socket.pointee.queue = queue
        socket.pointee.phase = phase
    }

    private func setFlag(_ file: Int32, _ level: Int32, _ name: Int32, _ value: Int32) {
        var value = value
        _ = setsockopt(file, level, name, &value, socklen_t(MemoryLayout<Int32>.size))
    }

    func bind(_ index: Int, _ address: SocketAddress) -> Int32 {
        let socket = socket(index)
        guard address.family == socket.pointee.family else {
            return core.refuse(EAFNOSUPPORT, "the address and the socket are of different families")
        }
        let result = address.withSocketAddress { Glibc.bind(socket.pointee.file, $0, $1) }
        guard result == 0 else { return core.refuse(errno, KernelSocketsHandle.bindMessage(errno)) }
        if socket.pointee.type == .datagram { watch(index) }
        return 0
    }

    private static func bindMessage(_ error: Int32) -> StaticString {
        switch error {
        case EADDRINUSE: "another socket has this port: choose another one, or end the program that has it (ss -lntup shows it)"
        case EACCES: "ports below 1024 need root or CAP_NET_BIND_SERVICE: choose a port from 1024 on"
        case EADDRNOTAVAIL: "no interface of this machine has this address (ip address shows them)"
        case EINVAL: "the socket is bound already"
        default: ""
        }
    }

    func listen(_ index: Int, _ backlog: Int32) -> Int32 {
        let socket = socket(index)
        guard socket.pointee.type == .stream else { return core.refuse(EOPNOTSUPP, "a datagram socket has no connections") }
        guard socket.pointee.phase == .open || socket.pointee.phase == .listening else {
            return core.refuse(EINVAL, "the socket is connected or connecting")
        }
        var storage = sockaddr_storage()
        guard localAddress(socket.pointee.file, &storage)?.port != 0 else { return core.refuse(EINVAL, "bind the socket first") }
        guard Glibc.listen(socket.pointee.file, backlog) == 0 else { return core.refuse(errno, KernelSocketsHandle.bindMessage(errno)) }
        socket.pointee.phase = .listening
        watch(index)
        return 0
    }

    // MARK: Accept

    func accept(_ index: Int, _ operation: UInt32) -> Int32 {
        let socket = socket(index)
        guard socket.pointee.phase == .listening else { return core.refuse(EINVAL, "the socket does not listen") }
        core.append(operation, to: &socket.pointee.accepts)
        if socket.pointee.mayBeReadable { serveAccepts(index) }
        return 0
    }

    func serveAccepts(_ index: Int) {
        let listener = socket(index)
        while listener.pointee.mayBeReadable, !listener.pointee.accepts.isEmpty {
            guard core.canAdopt else {
                // The connection stays in the kernel's backlog, for the next accept.
                core.fail(
                    core.removeFirst(from: &listener.pointee.accepts), EMFILE,
                    "all queue descriptors are in use: close some or raise Limits.maximumQueues")
                continue
            }
            var storage = sockaddr_storage()
            var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
            let file = withUnsafeMutablePointer(to: &storage) {
                $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { demi_accept(listener.pointee.file, $0, &length) }
            }
            if file < 0 {
                switch errno {
                case EAGAIN: listener.pointee.mayBeReadable = false
                // The connection was gone before it was taken; the next one may be there.
                case EINTR, ECONNABORTED, EPROTO, ENETDOWN, EHOSTDOWN, EHOSTUNREACH, ENETUNREACH, ENONET: continue
                default:
                    // It stays in the kernel's backlog, for the next accept.
                    core.fail(core.removeFirst(from: &listener.pointee.accepts), errno, KernelSocketsHandle.socketMessage(errno))
                }
                continue
            }
            let queue = core.adopt(beside: listener.pointee.queue).unsafelyUnwrapped
            // The options of the listener, TCP_NODELAY among them, are inherited.
            install(file, listener.pointee.family, .stream, queue, .connected)
            socket(queue.slot).pointee.lingersZero = listener.pointee.lingersZero
            socket(queue.slot).pointee.lingersInKernel = listener.pointee.lingersInKernel
            watch(queue.slot)
            let peer = withUnsafePointer(to: &storage) { SocketAddress($0) } ?? .any(listener.pointee.family, port: 0)
            core.completeAccept(core.removeFirst(from: &listener.pointee.accepts), queue, peer: peer)
        }
    }

    // MARK: Connect

    func connect(_ index: Int, _ operation: UInt32) -> Int32 {
        let socket = socket(index)
        let address = core.operation(operation).pointee.address
        guard address.family == socket.pointee.family else {
            return core.refuse(EAFNOSUPPORT, "the address and the socket are of different families")
        }
        switch socket.pointee.phase {
        case .connecting: return core.refuse(EALREADY, "a connect is under way")
        case .connected: return core.refuse(EISCONN, "the socket is connected")
        case .listening: return core.refuse(EINVAL, "the socket listens")
        case .open, .flushing, .awaitingPeer: break
        }
        let result = address.withSocketAddress { Glibc.connect(socket.pointee.file, $0, $1) }
        if socket.pointee.type == .datagram {
            if result == 0 { core.completeConnect(operation) } else { core.fail(operation, errno) }
            watch(index)
            return 0
        }
        if result == 0 {
            socket.pointee.phase = .connected
            watch(index)
            core.completeConnect(operation)
        } else if errno == EINPROGRESS || errno == EINTR {
            socket.pointee.phase = .connecting
            socket.pointee.connectOperation = operation
            watch(index)
        } else {
            core.fail(operation, errno, KernelSocketsHandle.connectMessage(errno))
        }
        return 0
    }

    func finishConnect(_ index: Int) {
        let socket = socket(index)
        var error: Int32 = 0
        var length = socklen_t(MemoryLayout<Int32>.size)
        _ = getsockopt(socket.pointee.file, SOL_SOCKET, SO_ERROR, &error, &length)
        let operation = socket.pointee.connectOperation
        socket.pointee.connectOperation = 0
        if error == 0 {
            socket.pointee.phase = .connected
            socket.pointee.mayBeWritable = true
            socket.pointee.isEndPending = false
            core.completeConnect(operation)
        } else {
            dissolveConnect(index)
            core.fail(operation, error, KernelSocketsHandle.connectMessage(error))
        }
    }

    /// Ends a connect that failed or was cancelled: connecting to "no address" leaves a socket that can connect again (connect(2)); without it the
    /// next attempt would only bring ECONNABORTED.
    func dissolveConnect(_ index: Int) {
        let socket = socket(index)
        var nowhere = sockaddr()
        nowhere.sa_family = sa_family_t(AF_UNSPEC)
        _ = Glibc.connect(socket.pointee.file, &nowhere, socklen_t(MemoryLayout<sockaddr>.size))
        socket.pointee.phase = .open
    }

    private static func connectMessage(_ error: Int32) -> StaticString {
        switch error {
        case ECONNREFUSED: "nobody listens there: start the server, or mend the address"
        case ETIMEDOUT: "the peer did not answer"
        case EADDRNOTAVAIL: "no local port is left: close connections, or widen net.ipv4.ip_local_port_range"
        case ENETUNREACH, EHOSTUNREACH: "no route leads there (ip route shows them)"
        default: ""
        }
    }

    // MARK: Shutdown and close

    func shutdown(_ index: Int, _ direction: ShutdownDirection) -> Int32 {
        let socket = socket(index)
        guard socket.pointee.phase == .connected else { return core.refuse(ENOTCONN, "the socket is not connected") }
        if direction != .receive, !socket.pointee.isSendShutDown {
            socket.pointee.isSendShutDown = true
            if socket.pointee.firstToSend == nil { _ = Glibc.shutdown(socket.pointee.file, Int32(SHUT_WR)) }
        }
        if direction != .send {
            socket.pointee.hasReceivedEnd = true
            _ = Glibc.shutdown(socket.pointee.file, Int32(SHUT_RD))
            endPops(index)
        }
        return 0
    }

    func close(_ index: Int, _ operation: UInt32) {
        let socket = socket(index)
        socket.pointee.closeOperation = operation
        core.failAll(&socket.pointee.pops, ECANCELED, "the queue was closed")
        core.failAll(&socket.pointee.accepts, ECANCELED, "the queue was closed")
        if socket.pointee.connectOperation != 0 {
            core.fail(socket.pointee.connectOperation, ECANCELED, "the queue was closed")
            socket.pointee.connectOperation = 0
        }
        if let rest = socket.pointee.rest {
            socket.pointee.rest = nil
            rest.releaseArray()
        }
        if socket.pointee.lingersZero {
            dropSends(index, ECANCELED)
            gone(index)
        } else if socket.pointee.firstToSend != nil {
            socket.pointee.phase = .flushing
            armCloseTimer(index)
        } else {
            endSending(index)
        }
    }

    /// Everything that was pushed is sent: the end follows.
    func endSending(_ index: Int) {
        let socket = socket(index)
        guard socket.pointee.type == .stream, socket.pointee.phase == .connected || socket.pointee.phase == .flushing,
            socket.pointee.failure == 0
        else { return gone(index) }
        _ = Glibc.shutdown(socket.pointee.file, Int32(SHUT_WR))
        socket.pointee.phase = .awaitingPeer
        socket.pointee.mayBeReadable = true
        // Bytes that were never popped would turn the kernel's FIN into a reset (RFC 9293, section 3.6.1), which may destroy what the peer has
        // not read yet: so they are read and dropped first.
        discardUntilEnd(index)
        if socket.pointee.file >= 0, socket.pointee.phase == .awaitingPeer {
            if socket.pointee.closeOperation == 0 { gone(index) } else { armCloseTimer(index) }
        }
    }

    /// Reads and drops what the peer still sends, up to 1 MiB at a time, until its end.
    func discardUntilEnd(_ index: Int) {
        let socket = socket(index)
        withUnsafeTemporaryAllocation(byteCount: 16_384, alignment: 64) { scratch in
            for _ in 0..<64 {
                let count = recv(socket.pointee.file, scratch.baseAddress, scratch.count, Int32(MSG_DONTWAIT))
                if count > 0 || count < 0 && errno == EINTR { continue }
                if count < 0 && errno == EAGAIN {
                    socket.pointee.mayBeReadable = false
                    return
                }
                return gone(index)
            }
            // A peer that never stops sending after our end is reset.
            gone(index)
        }
    }

    private func armCloseTimer(_ index: Int) {
        let socket = socket(index)
        guard socket.pointee.closeTimer == .none else { return }
        let armed = core.scheduler.armTimer(
            deadline: core.scheduler.deadline(after: core.limits.closeLinger, from: core.currentTime),
            { context, argument in
                let handle = KernelSocketsHandle(context)
                let index = Int(argument & 0xffff_ffff)
                guard handle.socket(index).pointee.epoch == UInt32(argument >> 32) else { return }
                handle.dropSends(index, ETIMEDOUT)
                handle.gone(index)
            }, context: state, argument: UInt64(index) | UInt64(socket.pointee.epoch) << 32)
        guard let armed else {
            // All of `Limits.maximumTimers` are armed: a close that cannot be bounded ends now.
            dropSends(index, ETIMEDOUT)
            return gone(index)
        }
        socket.pointee.closeTimer = armed
    }

    /// The connection is gone: gives the socket back to the kernel, and tells the runtime.
    func gone(_ index: Int) {
        let socket = socket(index)
        let queue = socket.pointee.queue
        let operation = socket.pointee.closeOperation
        release(index)
        core.finishClose(queue, operation: operation)
    }

    /// Gives the socket back to the kernel.
    func release(_ index: Int) {
        let socket = socket(index)
        core.scheduler.cancelTimer(socket.pointee.closeTimer)
        socket.pointee.closeTimer = .none
        if socket.pointee.isWatched { state.pointee.watchedCount -= 1 }
        socket.pointee.isWatched = false
        if socket.pointee.lingersInKernel {
            // A close(2) that lingers blocks the thread, though the socket is non-blocking (socket(7)).
            var setting = Glibc.linger(l_onoff: 0, l_linger: 0)
            _ = setsockopt(socket.pointee.file, SOL_SOCKET, SO_LINGER, &setting, socklen_t(MemoryLayout<Glibc.linger>.size))
        }
        Glibc.close(socket.pointee.file)
        socket.pointee.file = -1
    }

    // MARK: Addresses and options

    private func localAddress(_ file: Int32, _ storage: inout sockaddr_storage) -> SocketAddress? {
        var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
        return withUnsafeMutablePointer(to: &storage) { storage in
            let result = storage.withMemoryRebound(to: sockaddr.self, capacity: 1) { getsockname(file, $0, &length) }
            return result == 0 ? SocketAddress(storage) : nil
        }
    }

    func address(_ index: Int, isPeer: Bool, _ address: UnsafeMutablePointer<SocketAddress>) -> Int32 {
        var storage = sockaddr_storage()
        let file = socket(index).pointee.file
        if !isPeer {
            guard let local = localAddress(file, &storage) else { return core.refuse(errno, "") }
            address.pointee = local
            return 0
        }
        var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
        return withUnsafeMutablePointer(to: &storage) { storage in
            let result = storage.withMemoryRebound(to: sockaddr.self, capacity: 1) { getpeername(file, $0, &length) }
            guard result == 0, let peer = SocketAddress(storage) else { return core.refuse(errno, "the socket is not connected") }
            address.pointee = peer
            return 0
        }
    }

    func setOption(_ index: Int, _ name: SocketOption.Name, _ first: Int64, _ second: Int64) -> Int32 {
        let socket = socket(index)
        if name.isMulticast {
            guard socket.pointee.type == .datagram else { return core.refuse(EOPNOTSUPP, "a stream has one peer, and no such option") }
            return setMulticastOption(socket.pointee.file, name, first, second)
        }
        if name == .maximumPacingRate { return setMaximumPacingRate(socket, first) }
        guard let value = Int32(exactly: first), let second = Int32(exactly: second) else {
            return core.refuse(EINVAL, "the value is out of range")
        }
        if socket.pointee.type == .datagram, name == .noDelay || name == .keepAlive || name == .linger || name == .userTimeout || name == .congestionControl {
            return core.refuse(EOPNOTSUPP, "a datagram socket has no such option")
        }
        // -1 stands for none where there is such a thing.
        let least: Int32 = name == .keepAlive || name == .linger ? -1 : 0
        guard value >= least, second >= least else { return core.refuse(EINVAL, "the value is out of range") }
        switch name {
        case .noDelay: return set(index, Int32(IPPROTO_TCP), TCP_NODELAY, value)
        case .keepAlive:
            if value < 0 { return set(index, SOL_SOCKET, SO_KEEPALIVE, 0) }
            var error = set(index, Int32(IPPROTO_TCP), TCP_KEEPIDLE, value)
            if error == 0 { error = set(index, Int32(IPPROTO_TCP), TCP_KEEPINTVL, second) }
            return error == 0 ? set(index, SOL_SOCKET, SO_KEEPALIVE, 1) : error
        case .linger:
            var setting = Glibc.linger(l_onoff: value < 0 ? 0 : 1, l_linger: max(value, 0))
            guard setsockopt(socket.pointee.file, SOL_SOCKET, SO_LINGER, &setting, socklen_t(MemoryLayout<Glibc.linger>.size)) == 0 else {
                return core.refuse(errno, "")
            }
            socket.pointee.lingersZero = value == 0
            socket.pointee.lingersInKernel = value > 0
            return 0
        case .reuseAddress: return set(index, SOL_SOCKET, SO_REUSEADDR, value)
        case .reusePort: return set(index, SOL_SOCKET, SO_REUSEPORT, value)
        case .sendBuffer: return set(index, SOL_SOCKET, SO_SNDBUF, value)
        case .receiveBuffer: return set(index, SOL_SOCKET, SO_RCVBUF, value)
        case .userTimeout: return set(index, Int32(IPPROTO_TCP), TCP_USER_TIMEOUT, value)
        case .congestionControl: return setCongestionControl(socket.pointee.file, value)
        case .hopLimit, .differentiatedServices, .ipv6Only: return setPacketOption(index, name, value)
        case .broadcast: return set(index, SOL_SOCKET, SO_BROADCAST, value == 0 ? 0 : 1)
        case .datagramInformation: return setDatagramInformation(index, value != 0)
        case .joinGroup, .leaveGroup, .multicastHopLimit, .multicastLoop, .maximumPacingRate: return core.refuse(EOPNOTSUPP, "")
        }
    }

    /// The kernel has one word for no pacing and for that of the congestion control alone.
    private func setMaximumPacingRate(_ socket: UnsafeMutablePointer<KernelSocket>, _ value: Int64) -> Int32 {
        guard socket.pointee.type == .stream else { return core.refuse(EOPNOTSUPP, "a datagram socket has no such option") }
        guard value >= 0 else { return core.refuse(EINVAL, "the value is out of range") }
        var rate = value == 0 || value == .max ? UInt64.max : UInt64(value)
        let result = setsockopt(socket.pointee.file, SOL_SOCKET, SO_MAX_PACING_RATE, &rate, socklen_t(MemoryLayout<UInt64>.size))
        return result == 0 ? 0 : core.refuse(errno, "the kernel refused the option's value")
    }

    /// By the kernel's names; it refuses an algorithm that it has not loaded.
    private func setCongestionControl(_ file: Int32, _ value: Int32) -> Int32 {
        guard let algorithm = UInt8(exactly: value).flatMap(SocketOption.CongestionControlName.init(rawValue:)) else {
            return core.refuse(EINVAL, "the value is out of range")
        }
        let name = algorithm.kernelName
        let result = setsockopt(file, Int32(IPPROTO_TCP), TCP_CONGESTION, name.utf8Start, socklen_t(name.utf8CodeUnitCount))
        return result == 0 ? 0 : core.refuse(errno, "the kernel has not loaded this congestion control")
    }

    private func congestionControl(_ file: Int32, _ value: UnsafeMutablePointer<Int64>) -> Int32 {
        // TCP_CA_NAME_MAX is 16, with the zero at its end.
        let found = withUnsafeTemporaryAllocation(of: CChar.self, capacity: 17) { name -> Int32 in
            name.initialize(repeating: 0)
            var length: socklen_t = 16
            guard getsockopt(file, Int32(IPPROTO_TCP), TCP_CONGESTION, name.baseAddress!, &length) == 0 else { return -errno }
            for algorithm in SocketOption.CongestionControlName.allCases {
                let other = UnsafeRawPointer(algorithm.kernelName.utf8Start).assumingMemoryBound(to: CChar.self)
                if strcmp(name.baseAddress!, other) == 0 { return Int32(algorithm.rawValue) }
            }
            return -EOPNOTSUPP
        }
        guard found < 0 else {
            value.pointee = Int64(found)
            return 0
        }
        if found != -EOPNOTSUPP { return core.refuse(-found, "") }
        return core.refuse(EOPNOTSUPP, "the kernel's congestion control is another one")
    }

    func set(_ index: Int, _ level: Int32, _ name: Int32, _ value: Int32) -> Int32 {
        var value = value
        let result = setsockopt(socket(index).pointee.file, level, name, &value, socklen_t(MemoryLayout<Int32>.size))
        return result == 0 ? 0 : core.refuse(errno, "the kernel refused the option's value")
    }

    func option(_ index: Int, _ name: SocketOption.Name, _ values: UnsafeMutablePointer<Int64>) -> Int32 {
        let file = socket(index).pointee.file
        if socket(index).pointee.type == .datagram,
            name == .noDelay || name == .keepAlive || name == .linger || name == .userTimeout || name == .congestionControl || name == .maximumPacingRate
        {
            return core.refuse(EOPNOTSUPP, "a datagram socket has no such option")
        }
        func get(_ level: Int32, _ name: Int32) -> Int64 {
            var value: Int32 = 0
            var length = socklen_t(MemoryLayout<Int32>.size)
            return getsockopt(file, level, name, &value, &length) == 0 ? Int64(value) : -1
        }
        switch name {
        case .noDelay: values[0] = get(Int32(IPPROTO_TCP), TCP_NODELAY)
        case .keepAlive:
            let isOn = get(SOL_SOCKET, SO_KEEPALIVE) > 0
            values[0] = isOn ? get(Int32(IPPROTO_TCP), TCP_KEEPIDLE) : -1
            values[1] = isOn ? get(Int32(IPPROTO_TCP), TCP_KEEPINTVL) : -1
        case .linger:
            var setting = Glibc.linger()
            var length = socklen_t(MemoryLayout<Glibc.linger>.size)
            guard getsockopt(file, SOL_SOCKET, SO_LINGER, &setting, &length) == 0 else { return core.refuse(errno, "") }
            values[0] = setting.l_onoff == 0 ? -1 : Int64(setting.l_linger)
        case .reuseAddress: values[0] = get(SOL_SOCKET, SO_REUSEADDR)
        case .reusePort: values[0] = get(SOL_SOCKET, SO_REUSEPORT)
        case .sendBuffer: values[0] = get(SOL_SOCKET, SO_SNDBUF)
        case .receiveBuffer: values[0] = get(SOL_SOCKET, SO_RCVBUF)
        case .userTimeout: values[0] = get(Int32(IPPROTO_TCP), TCP_USER_TIMEOUT)
        case .congestionControl: return congestionControl(file, values)
        case .maximumPacingRate:
            var rate: UInt64 = 0
            var length = socklen_t(MemoryLayout<UInt64>.size)
            guard getsockopt(file, SOL_SOCKET, SO_MAX_PACING_RATE, &rate, &length) == 0 else { return core.refuse(errno, "") }
            values[0] = rate == .max ? 0 : Int64(clamping: rate)
        case .hopLimit, .differentiatedServices, .ipv6Only: return packetOption(index, name, values)
        case .broadcast: values[0] = get(SOL_SOCKET, SO_BROADCAST)
        case .datagramInformation:
            guard socket(index).pointee.type == .datagram else { return core.refuse(EOPNOTSUPP, KernelSocketsHandle.streamInformation) }
            values[0] = socket(index).pointee.tellsInformation ? 1 : 0
        case .joinGroup, .leaveGroup, .multicastHopLimit, .multicastLoop:
            guard socket(index).pointee.type == .datagram else { return core.refuse(EOPNOTSUPP, "a stream has one peer, and no such option") }
            return multicastOption(file, name, values)
        }
        return 0
    }
}

extension SocketOption.CongestionControlName {
    fileprivate var kernelName: StaticString {
        switch self {
        case .cubic: "cubic"
        case .newReno: "reno"
        case .dctcp: "dctcp"
        case .bbr: "bbr"
        }
    }
}
