import DatapathMemory
import Glibc
import NetworkStack
import QueueRuntime
import TaskScheduler
import WireFormats

/// Making and connecting sockets.
extension UserNetworkHandle {
    /// A socket in the descriptor's slot; a negative errno on failure.
    func open(_ family: AddressFamily, _ type: SocketType, _ queue: QueueDescriptor) -> Int64 {
        guard family != .path else { return -Int64(core.refuse(EAFNOSUPPORT, "this network stack has IP addresses: paths are for catmem")) }
        guard family == .ipv4 || stack.speaksIPv6 else {
            return -Int64(core.refuse(EAFNOSUPPORT, "this network stack speaks IPv4 only: configure NetworkConfiguration.ipv6, or use an IPv4 address"))
        }
        let owner = UInt32(truncatingIfNeeded: queue.slot)
        let index = type == .stream ? stack.makeConnection(owner: owner) : stack.makeDatagramSocket(owner: owner, isIPv6: family == .ipv6)
        guard index != 0 else { return -Int64(core.refuse(ENOBUFS, UserNetworkHandle.noRoom)) }
        install(index, family, type, queue, .open)
        return Int64(queue.slot)
    }

    private static let noRoom: StaticString =
        "the network stack has no room for another socket: close some or raise NetworkLimits.maximumConnections or maximumDatagramSockets"

    private func install(_ index: UInt32, _ family: AddressFamily, _ type: SocketType, _ queue: QueueDescriptor, _ phase: NetworkSocket.Phase) {
        while state.pointee.carvedSockets <= queue.slot {
            socket(state.pointee.carvedSockets).initialize(to: NetworkSocket())
            state.pointee.carvedSockets += 1
        }
        let socket = socket(queue.slot)
        let isStarved = socket.pointee.isStarved
        let nextStarved = socket.pointee.nextStarved
        socket.pointee = NetworkSocket()
        // The slot may still stand in the list of the starved.
        socket.pointee.isStarved = isStarved
        socket.pointee.nextStarved = nextStarved
        socket.pointee.index = index
        socket.pointee.family = family
        socket.pointee.type = type
        socket.pointee.queue = queue
        socket.pointee.phase = phase
        socket.pointee.pops.awaits = type == .stream ? stack.awaitsDataFlag(index) : stack.awaitsDatagramFlag(index)
        if type == .datagram {
            socket.pointee.pops.result = family == .ipv4 ? .poppedBehindHeaders : .poppedBehindMappedHeaders
            socket.pointee.pops.headroom = UInt8(family == .ipv4 ? NetworkStack.datagramHeadroom : NetworkStack.ipv6DatagramHeadroom)
        }
        core.setWaitingPops(socket.pointer(to: \.pops).unsafelyUnwrapped, of: queue)
    }

    func bind(_ index: Int, _ address: SocketAddress) -> Int32 {
        let socket = socket(index)
        guard address.family == socket.pointee.family else { return core.refuse(EAFNOSUPPORT, ErrorMessages.otherFamily) }
        let error: Int32
        if socket.pointee.type == .datagram {
            error = stack.bindDatagram(socket.pointee.index, to: address.endpoint, reusePort: socket.pointee.reusesPort, isIPv6Only: socket.pointee.isIPv6Only)
        } else {
            guard renew(socket) == 0 else { return core.refuse(ENOBUFS, UserNetworkHandle.noRoom) }
            error = stack.bind(socket.pointee.index, to: address.endpoint, isIPv6Only: socket.pointee.isIPv6Only)
            if error == 0 { socket.pointee.bound = stack.connectionLocal(socket.pointee.index) }
        }
        return error == 0 ? 0 : core.refuse(error, ErrorMessages.bind(error))
    }

    func listen(_ index: Int, _ backlog: Int32) -> Int32 {
        let socket = socket(index)
        guard socket.pointee.type == .stream else { return core.refuse(EOPNOTSUPP, "a datagram socket has no connections") }
        guard socket.pointee.phase == .open || socket.pointee.phase == .listening else {
            return core.refuse(EINVAL, "the socket is connected or connecting")
        }
        guard socket.pointee.bound.port != 0 else { return core.refuse(EINVAL, "bind the socket first") }
        var error = renew(socket)
        if error == 0 { error = stack.listen(socket.pointee.index, backlog: Int(backlog)) }
        guard error == 0 else { return core.refuse(error, ErrorMessages.bind(error)) }
        socket.pointee.phase = .listening
        return 0
    }

    // MARK: Accept

    func accept(_ index: Int, _ operation: UInt32) -> Int32 {
        let socket = socket(index)
        guard socket.pointee.phase == .listening else { return core.refuse(EINVAL, "the socket does not listen") }
        core.append(operation, to: &socket.pointee.accepts)
        serveAccepts(index)
        return 0
    }

    func serveAccepts(_ index: Int) {
        let listener = socket(index)
        while !listener.pointee.accepts.isEmpty, stack.hasAcceptable(listener.pointee.index) {
            let operation = core.removeFirst(from: &listener.pointee.accepts)
            guard let queue = core.adopt(beside: listener.pointee.queue) else {
                // The connection stays in the backlog, for the next accept.
                core.fail(operation, EMFILE, "all queue descriptors are in use: close some or raise Limits.maximumQueues")
                continue
            }
            let connection = stack.accept(listener.pointee.index, owner: UInt32(truncatingIfNeeded: queue.slot))
            install(connection, listener.pointee.family, .stream, queue, .connected)
            core.completeAccept(operation, queue, peer: SocketAddress(stack.connectionRemote(connection), as: listener.pointee.family))
        }
    }

    // MARK: Connect

    func connect(_ index: Int, _ operation: UInt32) -> Int32 {
        let socket = socket(index)
        let address = core.operation(operation).pointee.address
        guard address.family == socket.pointee.family else { return core.refuse(EAFNOSUPPORT, ErrorMessages.otherFamily) }
        switch socket.pointee.phase {
        case .connecting: return core.refuse(EALREADY, "a connect is under way")
        case .connected: return core.refuse(EISCONN, "the socket is connected")
        case .listening: return core.refuse(EINVAL, "the socket listens")
        case .free, .open, .flushing, .awaitingEnd: break
        }
        updateTime()
        var error: Int32
        if socket.pointee.type == .datagram {
            error = stack.connectDatagram(socket.pointee.index, to: address.endpoint)
            if error == 0 { core.completeConnect(operation) }
        } else {
            error = renew(socket)
            if error == 0 { error = stack.connect(socket.pointee.index, to: address.endpoint) }
            if error == 0 {
                socket.pointee.phase = .connecting
                socket.pointee.connectOperation = operation
                flush()
            }
        }
        if error != 0 { core.fail(operation, error, ErrorMessages.connect(error)) }
        return 0
    }

    func finishConnect(_ index: Int) {
        let socket = socket(index)
        let operation = socket.pointee.connectOperation
        socket.pointee.connectOperation = 0
        socket.pointee.phase = .connected
        core.completeConnect(operation)
    }

    func failConnect(_ index: Int) {
        let socket = socket(index)
        let error = stack.connectionError(socket.pointee.index)
        let operation = socket.pointee.connectOperation
        dissolveConnect(socket)
        core.fail(operation, error, ErrorMessages.connect(error))
    }

    /// Ends a connect that failed or was cancelled: the socket is as it was before, and can connect again.
    func dissolveConnect(_ socket: UnsafeMutablePointer<NetworkSocket>) {
        stack.abort(socket.pointee.index)
        socket.pointee.connectOperation = 0
        socket.pointee.phase = .open
        socket.pointee.needsRenewal = true
        // The port that it is bound to stays its own; should there be no room now, the next call tries again.
        _ = renew(socket)
    }

    /// Gives a socket whose connect has ended a connection of the same options and address, because the stack's connections live once.
    /// - Returns: 0, or an errno; then it is as it was.
    private func renew(_ socket: UnsafeMutablePointer<NetworkSocket>) -> Int32 {
        guard socket.pointee.needsRenewal else { return 0 }
        let old = socket.pointee.index
        let new = stack.makeConnection(owner: UInt32(truncatingIfNeeded: socket.pointee.queue.slot))
        guard new != 0 else { return ENOBUFS }
        stack.setReusePort(new, stack.reusePort(old))
        if socket.pointee.bound.port != 0 {
            let error = stack.bind(new, to: socket.pointee.bound, isIPv6Only: socket.pointee.isIPv6Only)
            guard error == 0 else {
                stack.release(new)
                return error
            }
        }
        stack.setNoDelay(new, stack.isNoDelay(old))
        stack.setKeepAlive(new, stack.keepAlive(old))
        stack.setLinger(new, seconds: stack.linger(old))
        stack.setUserTimeout(new, stack.userTimeout(old))
        stack.setCongestionControl(new, stack.congestionControl(old))
        stack.setMaximumPacingRate(new, stack.maximumPacingRate(old))
        stack.setPacketOptions(new, stack.packetOptions(old))
        if stack.isSendBufferFixed(old) { stack.setSendBuffer(new, byteCount: stack.sendBuffer(old)) }
        if socket.pointee.isReceiveBufferFixed { stack.setReceiveBuffer(new, byteCount: stack.receiveBuffer(old)) }
        stack.release(old)
        socket.pointee.index = new
        socket.pointee.pops.awaits = stack.awaitsDataFlag(new)
        socket.pointee.needsRenewal = false
        return 0
    }

    // MARK: Addresses

    func address(_ index: Int, isPeer: Bool, _ address: UnsafeMutablePointer<SocketAddress>) -> Int32 {
        let socket = socket(index)
        if socket.pointee.type == .datagram {
            if !isPeer {
                address.pointee = SocketAddress(stack.datagramLocal(socket.pointee.index), as: socket.pointee.family)
            } else if let peer = stack.datagramPeer(socket.pointee.index) {
                address.pointee = SocketAddress(peer, as: socket.pointee.family)
            } else {
                return core.refuse(ENOTCONN, ErrorMessages.notConnected)
            }
        } else if isPeer {
            guard socket.pointee.phase == .connected else { return core.refuse(ENOTCONN, ErrorMessages.notConnected) }
            address.pointee = SocketAddress(stack.connectionRemote(socket.pointee.index), as: socket.pointee.family)
        } else if socket.pointee.phase == .open {
            // The address of a socket that is not bound is the unspecified one of its family.
            let isUnbound = socket.pointee.bound.port == 0 && socket.pointee.family == .ipv6
            address.pointee = isUnbound ? .any(.ipv6, port: 0) : SocketAddress(socket.pointee.bound, as: socket.pointee.family)
        } else {
            address.pointee = SocketAddress(stack.connectionLocal(socket.pointee.index), as: socket.pointee.family)
        }
        return 0
    }
}
