import CDemikernel
import DatapathMemory
import Glibc
import QueueRuntime

// Opening, connecting and closing queues.

@c @implementation
public func demi_socket(_ sockqd_out: UnsafeMutablePointer<Int32>?, _ domain: Int32, _ type: Int32, _ protocol: Int32) -> Int32 {
    guard let thread = CurrentRuntime.enter() else { return CurrentRuntime.refusal() }
    guard let sockqd_out else { return thread.refuse(EINVAL, CurrentRuntime.nullPointer) }
    let family: AddressFamily
    switch domain {
    case AF_INET: family = .ipv4
    case AF_INET6: family = .ipv6
    case AF_UNIX: family = .path
    default: return thread.refuse(EAFNOSUPPORT, "a domain is AF_INET, AF_INET6 or AF_UNIX")
    }
    let socketType: SocketType
    // What says how a descriptor of the kernel blocks, and what becomes of it on exec, means nothing here.
    switch type & ~Int32(SOCK_NONBLOCK.rawValue | SOCK_CLOEXEC.rawValue) {
    case Int32(SOCK_STREAM.rawValue): socketType = .stream
    case Int32(SOCK_DGRAM.rawValue): socketType = .datagram
    // Connections that keep the boundaries of what is pushed: what queues in shared memory have.
    case Int32(SOCK_SEQPACKET.rawValue) where family == .path: socketType = .stream
    default: return thread.refuse(ESOCKTNOSUPPORT, "a type is SOCK_STREAM or SOCK_DGRAM")
    }
    guard `protocol` == 0 || family != .path && `protocol` == Int32(socketType == .stream ? IPPROTO_TCP : IPPROTO_UDP) else {
        return thread.refuse(EPROTONOSUPPORT, "the protocol of a stream is TCP, that of datagrams UDP; 0 says the same")
    }
    do throws(DemikernelError) {
        let queue = try thread.state.pointee.runtime.socket(family, socketType, on: thread.state.pointee.socketLibraryOS)
        do throws(DemikernelError) {
            if socketType == .stream { try thread.setDefaults(of: queue) }
        } catch {
            try? thread.state.pointee.runtime.close(queue)
            throw error
        }
        UnsafeMutableRawPointer(sockqd_out).storeBytes(of: queue.rawValue, as: Int32.self)
        thread.leave()
        return 0
    } catch {
        return thread.refuse(error)
    }
}

@c @implementation
public func demi_queue(_ qd_out: UnsafeMutablePointer<Int32>?) -> Int32 {
    guard let thread = CurrentRuntime.enter() else { return CurrentRuntime.refusal() }
    guard let qd_out else { return thread.refuse(EINVAL, CurrentRuntime.nullPointer) }
    do throws(DemikernelError) {
        let queue = try thread.state.pointee.runtime.queue()
        UnsafeMutableRawPointer(qd_out).storeBytes(of: queue.rawValue, as: Int32.self)
        thread.leave()
        return 0
    } catch {
        return thread.refuse(error)
    }
}

@c @implementation
public func demi_bind(_ sockqd: Int32, _ addr: UnsafePointer<sockaddr>?, _ size: socklen_t) -> Int32 {
    guard let thread = CurrentRuntime.enter() else { return CurrentRuntime.refusal() }
    let (address, errno, sentence) = SocketAddress.read(addr, size)
    guard let address else { return thread.refuse(errno, sentence) }
    return thread.finish { (runtime) throws(DemikernelError) in try runtime.bind(QueueDescriptor(rawValue: sockqd), to: address) }
}

@c @implementation
public func demi_listen(_ sockqd: Int32, _ backlog: Int32) -> Int32 {
    guard let thread = CurrentRuntime.enter() else { return CurrentRuntime.refusal() }
    return thread.finish { (runtime) throws(DemikernelError) in try runtime.listen(QueueDescriptor(rawValue: sockqd), backlog: Int(backlog)) }
}

@c @implementation
public func demi_accept(_ qt_out: UnsafeMutablePointer<demi_qtoken_t>?, _ sockqd: Int32) -> Int32 {
    guard let thread = CurrentRuntime.enter() else { return CurrentRuntime.refusal() }
    guard let qt_out else { return thread.refuse(EINVAL, CurrentRuntime.nullPointer) }
    return thread.issue(to: qt_out) { (runtime) throws(DemikernelError) in try runtime.accept(QueueDescriptor(rawValue: sockqd)) }
}

@c @implementation
public func demi_connect(
    _ qt_out: UnsafeMutablePointer<demi_qtoken_t>?, _ sockqd: Int32, _ addr: UnsafePointer<sockaddr>?, _ size: socklen_t
) -> Int32 {
    guard let thread = CurrentRuntime.enter() else { return CurrentRuntime.refusal() }
    guard let qt_out else { return thread.refuse(EINVAL, CurrentRuntime.nullPointer) }
    let (address, errno, sentence) = SocketAddress.read(addr, size)
    guard let address else { return thread.refuse(errno, sentence) }
    return thread.issue(to: qt_out) { (runtime) throws(DemikernelError) in try runtime.connect(QueueDescriptor(rawValue: sockqd), to: address) }
}

@c @implementation
public func demi_shutdown(_ qd: Int32, _ how: Int32) -> Int32 {
    guard let thread = CurrentRuntime.enter() else { return CurrentRuntime.refusal() }
    let direction: ShutdownDirection
    switch how {
    case Int32(SHUT_RD): direction = .receive
    case Int32(SHUT_WR): direction = .send
    case Int32(SHUT_RDWR): direction = .both
    default: return thread.refuse(EINVAL, "how is SHUT_RD, SHUT_WR or SHUT_RDWR")
    }
    return thread.finish { (runtime) throws(DemikernelError) in try runtime.shutdown(QueueDescriptor(rawValue: qd), direction) }
}

@c @implementation
public func demi_close(_ qd: Int32) -> Int32 {
    guard let thread = CurrentRuntime.enter() else { return CurrentRuntime.refusal() }
    return thread.finish { (runtime) throws(DemikernelError) in try runtime.close(QueueDescriptor(rawValue: qd)) }
}

@c @implementation
public func demi_async_close(_ qt_out: UnsafeMutablePointer<demi_qtoken_t>?, _ qd: Int32) -> Int32 {
    guard let thread = CurrentRuntime.enter() else { return CurrentRuntime.refusal() }
    guard let qt_out else { return thread.refuse(EINVAL, CurrentRuntime.nullPointer) }
    return thread.issue(to: qt_out) { (runtime) throws(DemikernelError) in try runtime.closeToken(QueueDescriptor(rawValue: qd)) }
}

@c @implementation
public func demi_getsockname(_ qd: Int32, _ addr: UnsafeMutablePointer<sockaddr>?, _ addrlen: UnsafeMutablePointer<socklen_t>?) -> Int32 {
    tellAddress(addr, addrlen) { (runtime) throws(DemikernelError) in try runtime.localAddress(QueueDescriptor(rawValue: qd)) }
}

@c @implementation
public func demi_getpeername(_ qd: Int32, _ addr: UnsafeMutablePointer<sockaddr>?, _ addrlen: UnsafeMutablePointer<socklen_t>?) -> Int32 {
    tellAddress(addr, addrlen) { (runtime) throws(DemikernelError) in try runtime.peerAddress(QueueDescriptor(rawValue: qd)) }
}

private func tellAddress(
    _ addr: UnsafeMutablePointer<sockaddr>?, _ addrlen: UnsafeMutablePointer<socklen_t>?,
    _ find: (borrowing Runtime) throws(DemikernelError) -> SocketAddress
) -> Int32 {
    guard let thread = CurrentRuntime.enter() else { return CurrentRuntime.refusal() }
    guard let addr, let addrlen else { return thread.refuse(EINVAL, CurrentRuntime.nullPointer) }
    do throws(DemikernelError) {
        guard try find(thread.state.pointee.runtime).write(to: addr, addrlen) else { return thread.refuse(EINVAL, CurrentRuntime.addressDoesNotFit) }
        thread.leave()
        return 0
    } catch {
        return thread.refuse(error)
    }
}

extension CurrentRuntime {
    /// Does the work of a call that gives nothing, and ends it.
    @inline(__always)
    func finish(_ body: (borrowing Runtime) throws(DemikernelError) -> Void) -> Int32 {
        do throws(DemikernelError) {
            try body(state.pointee.runtime)
        } catch {
            return refuse(error)
        }
        leave()
        return 0
    }

    /// Does the work of a call that gives a token, and ends it.
    @inline(__always)
    func issue(to qt_out: UnsafeMutablePointer<demi_qtoken_t>, _ body: (borrowing Runtime) throws(DemikernelError) -> QueueToken) -> Int32 {
        do throws(DemikernelError) {
            UnsafeMutableRawPointer(qt_out).storeBytes(of: try body(state.pointee.runtime).rawValue, as: UInt64.self)
        } catch {
            return refuse(error)
        }
        leave()
        return 0
    }
}
