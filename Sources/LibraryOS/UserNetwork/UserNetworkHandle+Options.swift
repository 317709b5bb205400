import Glibc
import NetworkStack
import QueueRuntime

/// Socket options.
extension UserNetworkHandle {
    func setOption(_ index: Int, _ name: SocketOption.Name, _ first: Int64, _ second: Int64) -> Int32 {
        let socket = socket(index)
        if name == .joinGroup || name == .leaveGroup { return changeGroups(socket, name, SocketAddress(numbers: (first, second))) }
        if name == .maximumPacingRate { return setMaximumPacingRate(socket, first) }
        guard let value = Int32(exactly: first), let second = Int32(exactly: second) else { return core.refuse(EINVAL, UserNetworkHandle.outOfRange) }
        if name == .hopLimit || name == .differentiatedServices || name == .ipv6Only { return setPacketOption(socket, name, value) }
        if socket.pointee.type == .datagram { return setDatagramOption(socket, name, value) }
        // -1 stands for none where there is such a thing.
        guard value >= (name == .keepAlive || name == .linger ? -1 : 0) else { return core.refuse(EINVAL, UserNetworkHandle.outOfRange) }
        let connection = socket.pointee.index
        switch name {
        case .noDelay:
            updateTime()
            stack.setNoDelay(connection, value != 0)
            flush()
        case .keepAlive:
            if value < 0 {
                stack.setKeepAlive(connection, nil)
            } else {
                // As Linux bounds them.
                guard (1...32_767).contains(value), (1...32_767).contains(second) else { return core.refuse(EINVAL, UserNetworkHandle.outOfRange) }
                updateTime()
                stack.setKeepAlive(connection, (UInt64(value) * 1_000_000_000, UInt64(second) * 1_000_000_000))
            }
        case .linger: stack.setLinger(connection, seconds: value < 0 ? nil : Int(value))
        case .reuseAddress:
            guard value != 0 else { return core.refuse(EOPNOTSUPP, "a port with connections in TIME_WAIT can always be bound here") }
        case .reusePort: stack.setReusePort(connection, value != 0)
        case .sendBuffer: stack.setSendBuffer(connection, byteCount: Int(value))
        case .receiveBuffer:
            stack.setReceiveBuffer(connection, byteCount: Int(value))
            socket.pointee.isReceiveBufferFixed = true
        case .userTimeout: stack.setUserTimeout(connection, UInt64(value) * 1_000_000)
        case .congestionControl:
            guard let algorithm = UInt8(exactly: value).flatMap(SocketOption.CongestionControlName.init(rawValue:)) else {
                return core.refuse(EINVAL, UserNetworkHandle.outOfRange)
            }
            stack.setCongestionControl(connection, CongestionControlAlgorithm(algorithm))
        case .broadcast, .joinGroup, .leaveGroup, .multicastHopLimit, .multicastLoop, .datagramInformation:
            return core.refuse(EOPNOTSUPP, UserNetworkHandle.noStreamOption)
        case .hopLimit, .differentiatedServices, .ipv6Only, .maximumPacingRate: break
        }
        return 0
    }

    private func setMaximumPacingRate(_ socket: UnsafeMutablePointer<NetworkSocket>, _ rate: Int64) -> Int32 {
        guard socket.pointee.type == .stream else { return core.refuse(EOPNOTSUPP, UserNetworkHandle.noDatagramOption) }
        guard rate >= 0 else { return core.refuse(EINVAL, UserNetworkHandle.outOfRange) }
        updateTime()
        stack.setMaximumPacingRate(socket.pointee.index, rate == .max ? .max : UInt64(rate))
        flush()
        return 0
    }

    /// Options of the IP layer, which sockets of both types have.
    private func setPacketOption(_ socket: UnsafeMutablePointer<NetworkSocket>, _ name: SocketOption.Name, _ value: Int32) -> Int32 {
        var options = packetOptions(socket)
        switch name {
        case .hopLimit:
            guard (1...255).contains(value) else { return core.refuse(EINVAL, "a hop limit is between 1 and 255") }
            options.hopLimit = UInt8(value)
        case .differentiatedServices:
            guard (0...63).contains(value) else { return core.refuse(EINVAL, "a codepoint is between 0 and 63") }
            options.differentiatedServices = UInt8(value)
        default:
            guard socket.pointee.family == .ipv6 else { return core.refuse(EOPNOTSUPP, UserNetworkHandle.ipv6Alone) }
            guard socket.pointee.phase == .open, !isBound(socket) else { return core.refuse(EINVAL, "the families are chosen before bind") }
            socket.pointee.isIPv6Only = value != 0
            return 0
        }
        if socket.pointee.type == .stream {
            stack.setPacketOptions(socket.pointee.index, options)
        } else {
            stack.setDatagramPacketOptions(socket.pointee.index, options)
        }
        return 0
    }

    private func isBound(_ socket: UnsafeMutablePointer<NetworkSocket>) -> Bool {
        (socket.pointee.type == .stream ? stack.connectionLocal(socket.pointee.index) : stack.datagramLocal(socket.pointee.index)).port != 0
    }

    private func packetOptions(_ socket: UnsafeMutablePointer<NetworkSocket>) -> PacketOptions {
        socket.pointee.type == .stream ? stack.packetOptions(socket.pointee.index) : stack.datagramPacketOptions(socket.pointee.index)
    }

    private func packetOption(_ socket: UnsafeMutablePointer<NetworkSocket>, _ name: SocketOption.Name, _ values: UnsafeMutablePointer<Int64>) -> Int32 {
        let options = packetOptions(socket)
        values[1] = 0
        switch name {
        case .hopLimit: values[0] = Int64(options.hopLimit ?? 64)
        case .differentiatedServices: values[0] = Int64(options.differentiatedServices)
        default:
            guard socket.pointee.family == .ipv6 else { return core.refuse(EOPNOTSUPP, UserNetworkHandle.ipv6Alone) }
            values[0] = socket.pointee.isIPv6Only ? 1 : 0
        }
        return 0
    }

    private func setDatagramOption(_ socket: UnsafeMutablePointer<NetworkSocket>, _ name: SocketOption.Name, _ value: Int32) -> Int32 {
        switch name {
        case .reusePort:
            guard value >= 0 else { return core.refuse(EINVAL, UserNetworkHandle.outOfRange) }
            socket.pointee.reusesPort = value != 0
            return 0
        case .reuseAddress:
            return value == 0 ? 0 : core.refuse(EOPNOTSUPP, "datagram sockets share a port by reusePort")
        case .sendBuffer, .receiveBuffer: return core.refuse(EOPNOTSUPP, UserNetworkHandle.noDatagramBuffer)
        case .noDelay, .keepAlive, .linger, .userTimeout, .congestionControl, .hopLimit, .differentiatedServices, .ipv6Only, .maximumPacingRate:
            return core.refuse(EOPNOTSUPP, UserNetworkHandle.noDatagramOption)
        case .broadcast:
            stack.setBroadcast(socket.pointee.index, value != 0)
            return 0
        case .multicastHopLimit:
            guard let hopLimit = UInt8(exactly: value) else { return core.refuse(EINVAL, UserNetworkHandle.outOfRange) }
            stack.setMulticastHopLimit(socket.pointee.index, hopLimit)
            return 0
        case .multicastLoop:
            stack.setMulticastLoop(socket.pointee.index, value != 0)
            return 0
        case .datagramInformation:
            socket.pointee.tellsInformation = value != 0
            stack.setTellsHeaders(socket.pointee.index, value != 0)
            return 0
        case .joinGroup, .leaveGroup: return core.refuse(EOPNOTSUPP, UserNetworkHandle.noDatagramOption)
        }
    }

    private func changeGroups(_ socket: UnsafeMutablePointer<NetworkSocket>, _ name: SocketOption.Name, _ group: SocketAddress) -> Int32 {
        guard socket.pointee.type == .datagram else { return core.refuse(EOPNOTSUPP, UserNetworkHandle.noStreamOption) }
        guard group.family == .ipv4 || socket.pointee.family == .ipv6 else { return core.refuse(EAFNOSUPPORT, ErrorMessages.otherFamily) }
        updateTime()
        let address = group.endpoint.address
        let error = name == .joinGroup ? stack.joinGroup(socket.pointee.index, address) : stack.leaveGroup(socket.pointee.index, address)
        flush()
        return error == 0 ? 0 : core.refuse(error, ErrorMessages.group(error))
    }

    func option(_ index: Int, _ name: SocketOption.Name, _ values: UnsafeMutablePointer<Int64>) -> Int32 {
        let socket = socket(index)
        if name == .hopLimit || name == .differentiatedServices || name == .ipv6Only { return packetOption(socket, name, values) }
        if socket.pointee.type == .datagram { return datagramOption(socket, name, values) }
        let connection = socket.pointee.index
        values[1] = 0
        switch name {
        case .noDelay: values[0] = stack.isNoDelay(connection) ? 1 : 0
        case .keepAlive:
            let times = stack.keepAlive(connection)
            values[0] = times.map { Int64($0.idle / 1_000_000_000) } ?? -1
            values[1] = times.map { Int64($0.interval / 1_000_000_000) } ?? -1
        case .linger: values[0] = stack.linger(connection).map(Int64.init) ?? -1
        case .reuseAddress: values[0] = 1
        case .reusePort: values[0] = stack.reusePort(connection) ? 1 : 0
        case .sendBuffer: values[0] = Int64(stack.sendBuffer(connection))
        case .receiveBuffer: values[0] = Int64(stack.receiveBuffer(connection))
        case .userTimeout: values[0] = Int64(stack.userTimeout(connection) / 1_000_000)
        case .congestionControl: values[0] = Int64(SocketOption.CongestionControlName(stack.congestionControl(connection)).rawValue)
        case .maximumPacingRate: values[0] = Int64(clamping: stack.maximumPacingRate(connection))
        case .hopLimit, .differentiatedServices, .ipv6Only: break
        case .broadcast, .joinGroup, .leaveGroup, .multicastHopLimit, .multicastLoop, .datagramInformation:
            return core.refuse(EOPNOTSUPP, UserNetworkHandle.noStreamOption)
        }
        return 0
    }

    private func datagramOption(_ socket: UnsafeMutablePointer<NetworkSocket>, _ name: SocketOption.Name, _ values: UnsafeMutablePointer<Int64>) -> Int32 {
        values[1] = 0
        switch name {
        case .reusePort: values[0] = socket.pointee.reusesPort ? 1 : 0
        case .reuseAddress: values[0] = 0
        case .sendBuffer, .receiveBuffer: return core.refuse(EOPNOTSUPP, UserNetworkHandle.noDatagramBuffer)
        case .noDelay, .keepAlive, .linger, .userTimeout, .congestionControl, .hopLimit, .differentiatedServices, .ipv6Only, .maximumPacingRate:
            return core.refuse(EOPNOTSUPP, UserNetworkHandle.noDatagramOption)
        case .broadcast: values[0] = stack.isBroadcast(socket.pointee.index) ? 1 : 0
        case .multicastHopLimit: values[0] = Int64(stack.multicastHopLimit(socket.pointee.index))
        case .multicastLoop: values[0] = stack.multicastLoop(socket.pointee.index) ? 1 : 0
        case .datagramInformation: values[0] = socket.pointee.tellsInformation ? 1 : 0
        case .joinGroup, .leaveGroup: return core.refuse(EOPNOTSUPP, "which groups a socket has joined cannot be read")
        }
        return 0
    }

    private static let outOfRange: StaticString = "the value is out of range"
    private static let ipv6Alone: StaticString = "only an IPv6 socket has this option"
    private static let noDatagramOption: StaticString = "a datagram socket has no such option"
    private static let noStreamOption: StaticString = "a stream has one peer, and no such option"
    private static let noDatagramBuffer: StaticString = "all datagram sockets have the same bounds: configure NetworkLimits.datagramQueueByteCount"
}

extension CongestionControlAlgorithm {
    init(_ name: SocketOption.CongestionControlName) {
        switch name {
        case .cubic: self = .cubic
        case .newReno: self = .newReno
        case .dctcp: self = .dctcp
        case .bbr: self = .bbr
        }
    }
}

extension SocketOption.CongestionControlName {
    init(_ algorithm: CongestionControlAlgorithm) {
        switch algorithm {
        case .cubic: self = .cubic
        case .newReno: self = .newReno
        case .dctcp: self = .dctcp
        case .bbr: self = .bbr
        }
    }
}
