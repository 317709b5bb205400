import CDatapath
import DatapathMemory
import Glibc
import QueueRuntime

/// What the kernel tells of a received datagram beside its bytes and its sender, for the sockets that ask for it.
extension KernelSocketsHandle {
    static let streamInformation: StaticString = "a stream has no datagrams to tell of"

    /// An IPv6 socket that takes both families asks for those of both.
    func setDatagramInformation(_ index: Int, _ isOn: Bool) -> Int32 {
        let socket = socket(index)
        guard socket.pointee.type == .datagram else { return core.refuse(EOPNOTSUPP, KernelSocketsHandle.streamInformation) }
        let value: Int32 = isOn ? 1 : 0
        var error = set(index, Int32(IPPROTO_IP), IP_PKTINFO, value)
        if error == 0 { error = set(index, Int32(IPPROTO_IP), IP_RECVTTL, value) }
        if error == 0 { error = set(index, Int32(IPPROTO_IP), IP_RECVTOS, value) }
        if socket.pointee.family == .ipv6 {
            if error == 0 { error = set(index, Int32(IPPROTO_IPV6), IPV6_RECVPKTINFO, value) }
            if error == 0 { error = set(index, Int32(IPPROTO_IPV6), IPV6_RECVHOPLIMIT, value) }
            if error == 0 { error = set(index, Int32(IPPROTO_IPV6), IPV6_RECVTCLASS, value) }
        }
        if error == 0 { socket.pointee.tellsInformation = isOn }
        return error
    }

    /// As `receiveDatagram`, with a record in front of the bytes of what the kernel tells; false when the heap is full.
    func receiveDatagramWithInformation(_ index: Int) -> Bool {
        let socket = socket(index)
        let largest = 65_536
        if state.pointee.datagramBlock == nil { state.pointee.datagramBlock = try? core.heap.allocate(largest, priority: .datagram) }
        guard let buffer = state.pointee.datagramBlock.take() else {
            starve(index)
            return false
        }
        var sender = sockaddr_storage()
        var information = ReceivedInformation()
        let count = information.receive(socket.pointee.file, buffer.address, largest, &sender)
        if count >= 0 {
            let record = DatagramInformation.recordByteCount
            guard let smaller = try? core.heap.allocate(count, headroom: record, priority: .datagram), let array = try? ScatterGatherArray(smaller) else {
                // No memory for it: a datagram is lost, as a full socket buffer would lose it.
                state.pointee.datagramBlock = consume buffer
                return true
            }
            let taken = array.takeOver()
            taken.segmentAddress.copyMemory(from: buffer.address, byteCount: count)
            state.pointee.datagramBlock = consume buffer
            let from = withUnsafePointer(to: &sender) { SocketAddress($0) } ?? .any(socket.pointee.family, port: 0)
            if let destination = information.destination {
                DatagramInformation.write(
                    to: taken.segmentAddress - record, destination: destination, interfaceIndex: information.interfaceIndex,
                    hopLimit: information.hopLimit, trafficClass: information.trafficClass)
                DatagramInformation.attachRecord(record, to: taken)
            }
            deliver(socket, taken, from: from)
            return true
        }
        let error = errno
        state.pointee.datagramBlock = consume buffer
        noteNoDatagram(socket, error)
        return true
    }
}

/// The control messages of one datagram (cmsg(3)).
private struct ReceivedInformation {
    /// Nil where the kernel has not told: the option was off when the datagram came.
    var destination: SocketAddress?
    var interfaceIndex: UInt32 = 0
    var hopLimit: UInt8 = 0
    var trafficClass: UInt8 = 0

    /// recvmsg(2), and what its control messages say.
    mutating func receive(_ file: Int32, _ bytes: UnsafeMutableRawPointer, _ byteCount: Int, _ sender: inout sockaddr_storage) -> Int {
        withUnsafeTemporaryAllocation(byteCount: 512, alignment: MemoryLayout<cmsghdr>.alignment) { control in
            withUnsafeMutablePointer(to: &sender) { sender in
                var vector = iovec(iov_base: bytes, iov_len: byteCount)
                return withUnsafeMutablePointer(to: &vector) { vector in
                    var message = msghdr()
                    message.msg_name = UnsafeMutableRawPointer(sender)
                    message.msg_namelen = socklen_t(MemoryLayout<sockaddr_storage>.size)
                    message.msg_iov = vector
                    message.msg_iovlen = 1
                    message.msg_control = control.baseAddress
                    message.msg_controllen = control.count
                    let count = recvmsg(file, &message, Int32(MSG_DONTWAIT))
                    if count >= 0 { parse(UnsafeRawBufferPointer(rebasing: control.prefix(message.msg_controllen))) }
                    return count
                }
            }
        }
    }

    /// Each message is a header of 16 bytes with its length, its level and its type, then its data, and begins at a multiple of 8.
    private mutating func parse(_ control: UnsafeRawBufferPointer) {
        var offset = 0
        let header = MemoryLayout<cmsghdr>.size
        while control.count - offset >= header {
            let message = control.load(fromByteOffset: offset, as: cmsghdr.self)
            guard message.cmsg_len >= header, Int(message.cmsg_len) <= control.count - offset else { return }
            take(message.cmsg_level, message.cmsg_type, UnsafeRawBufferPointer(rebasing: control[offset + header..<offset + Int(message.cmsg_len)]))
            offset += (Int(message.cmsg_len) + 7) & ~7
        }
    }

    private mutating func take(_ level: Int32, _ type: Int32, _ data: UnsafeRawBufferPointer) {
        switch (level, type) {
        case (Int32(IPPROTO_IP), IP_PKTINFO):
            guard data.count >= MemoryLayout<in_pktinfo>.size, destination == nil else { return }
            let information = data.loadUnaligned(as: in_pktinfo.self)
            // `ipi_addr` is the address in the header; `ipi_spec_dst` is that of the interface where it differs.
            destination = SocketAddress(family: .ipv4, bytes: (UInt64(information.ipi_addr.s_addr), 0), port: 0)
            interfaceIndex = UInt32(bitPattern: information.ipi_ifindex)
        case (Int32(IPPROTO_IPV6), IPV6_PKTINFO):
            // in6_pktinfo: the address, and the index.
            guard data.count >= 20 else { return }
            // An IPv4 address comes as an IPv4-mapped one, as the sender's does.
            destination = SocketAddress(
                family: .ipv6, bytes: (data.loadUnaligned(as: UInt64.self), data.loadUnaligned(fromByteOffset: 8, as: UInt64.self)), port: 0)
            interfaceIndex = data.loadUnaligned(fromByteOffset: 16, as: UInt32.self)
        case (Int32(IPPROTO_IP), IP_TTL), (Int32(IPPROTO_IPV6), IPV6_HOPLIMIT):
            if data.count >= 4 { hopLimit = UInt8(truncatingIfNeeded: data.loadUnaligned(as: Int32.self)) }
        // One byte over IPv4, an int over IPv6.
        case (Int32(IPPROTO_IP), IP_TOS): if let first = data.first { trafficClass = first }
        case (Int32(IPPROTO_IPV6), IPV6_TCLASS):
            if data.count >= 4 { trafficClass = UInt8(truncatingIfNeeded: data.loadUnaligned(as: Int32.self)) }
        default: break
        }
    }
}
