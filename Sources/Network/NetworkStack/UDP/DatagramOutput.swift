import DatapathMemory
import EthernetDevice
import Glibc
import WireFormats

extension NetworkStack {
    /// Bytes in front of a payload that save a block and a copy: a buffer with that much headroom, which nobody else holds, becomes the frame itself.
    /// What `receiveDatagram` gives has them.
    public static var datagramHeadroom: Int { DatagramTemplate.byteCount }
    /// The same for datagrams over IPv6, and enough for those over IPv4.
    public static var ipv6DatagramHeadroom: Int { IPv6DatagramTemplate.byteCount }

    /// Sends an array as one datagram; it may be empty. O(bytes) for the checksum, O(segments) where the device computes it.
    ///
    /// One segment with `datagramHeadroom` gets its headers in front of it. Else what is below 1 KiB, and what the device cannot gather, is copied
    /// behind its headers; of the rest the frame is made of the array's own segments, whose bytes must not change until the device is done with them.
    /// A datagram that is too large for the way to its destination is copied into fragments, which leave together.
    /// - Parameter destination: nil for the endpoint that the socket is connected to. A socket that is not bound gets a port.
    /// - Returns: 0 when the array was taken over. Else it is still the caller's, and this is an errno: `EDESTADDRREQ` without a destination,
    ///   `EAFNOSUPPORT` for another family than the socket's, `EINVAL` for port 0 or a loopback source on its way out, `EACCES` for a broadcast address
    ///   before `setBroadcast`, `EMSGSIZE` above `maximumDatagramByteCount` or `maximumIPv6DatagramByteCount`, and to a group or a
    ///   broadcast address for what the link does not take whole, `ENETUNREACH` without a route, `EHOSTUNREACH` for a neighbour
    ///   that has just not answered, `EADDRINUSE` when no port is left, `ENOBUFS` when the output or the heap is full.
    //= RFC 768 section User Interface
    //# an operation that allows a datagram to be sent, specifying the data, source and destination ports and addresses to be sent
    public func sendDatagram(_ socket: UInt32, _ array: Frame, to destination: Endpoint?) -> Int32 {
        if destination.map({ sendPlainDatagram(socket, array, to: $0) }) ?? sendPlainDatagram(socket, array) { return 0 }
        let s = datagramSocket(socket)
        let byteCount = array.arrayByteCount
        let remote: Endpoint
        if let destination {
            remote = destination
        } else {
            guard s.pointee.flags.contains(.isConnected) else { return EDESTADDRREQ }
            remote = s.pointee.remote
        }
        if !hasTemplate(s, for: remote) {
            guard byteCount <= (remote.address.isIPv4 ? maximumDatagramByteCount : maximumIPv6DatagramByteCount) else { return EMSGSIZE }
            let error = makeTemplate(socket, remote)
            guard error == 0 else { return error }
        }
        return sendOtherwise(s, array, byteCount)
    }

    /// Sends a datagram like the one before: to the same endpoint, whose hardware address is known, over IPv4, whole. Needs to be told no time.
    /// - Returns: whether the array was taken over. If not, nothing has changed, and `sendDatagram` says what there is to say.
    public func sendPlainDatagram(_ socket: UInt32, _ array: Frame, to destination: Endpoint) -> Bool {
        let s = datagramSocket(socket)
        return hasTemplate(s, for: destination) && sendPlainDatagram(s, array)
    }

    /// The same to the endpoint that the socket is connected to.
    public func sendPlainDatagram(_ socket: UInt32, _ array: Frame) -> Bool {
        precondition(socket < state.pointee.datagramSockets.carvedCount, "no such datagram socket")
        // A socket that was closed has no template.
        let s = state.pointee.datagramSockets[socket]
        return s.pointee.isTemplateOfPeer && s.pointee.templateEpoch == state.pointee.neighborEpoch && sendPlainDatagram(s, array)
    }

    /// What nearly every datagram is makes no call, so that no register has to be saved for one.
    @inline(__always)
    private func sendPlainDatagram(_ s: DatagramSocketPointer, _ array: Frame) -> Bool {
        let byteCount = array.arrayByteCount
        guard s.pointee.link == .resolved, byteCount <= state.pointee.maximumPlainDatagramByteCount, !state.pointee.output.pointee.isFull else { return false }
        let sum: UInt64
        if array.arraySegmentCount == 1, array.headroom >= DatagramTemplate.byteCount, array.isSoleOwner {
            sum = s.pointee.template.isOffloaded ? 0 : InternetChecksum.sum(array.segmentAddress, count: byteCount)
            array.removeFirst(-DatagramTemplate.byteCount)
        } else {
            guard array.arraySegmentCount == 1, byteCount < NetworkStack.zeroCopyByteCount else { return sendOtherPlainDatagram(s, array) }
            var copied: UInt64 = 0
            guard array.moveToOwnBlockAtOnce(
                state.pointee.heap, byteCount: DatagramTemplate.byteCount &+ byteCount, priority: .application,
                fill: { copied = InternetChecksum.copyAndSum(to: $0 + DatagramTemplate.byteCount, from: $1, count: byteCount) })
            else { return sendOtherPlainDatagram(s, array) }
            sum = copied
        }
        writeDatagramHeaders(s, array, byteCount, sum)
        notePlainDatagram(s, array)
        return true
    }

    /// A plain one of several segments, without a copy of its bytes, or with a block for which the heap has to do more.
    @inline(never)
    private func sendOtherPlainDatagram(_ s: DatagramSocketPointer, _ array: Frame) -> Bool {
        guard let frame = makeDatagramFrame(s, array, array.arrayByteCount) else { return false }
        notePlainDatagram(s, frame)
        return true
    }

    /// The caller has seen that there is room.
    @inline(__always)
    private func notePlainDatagram(_ s: DatagramSocketPointer, _ frame: Frame) {
        state.pointee.neighbors[s.pointee.neighbor].pointee.lastUsed = state.pointee.now
        state.pointee.statistics.plainDatagramsSent &+= 1
        state.pointee.output.pointee.append(frame)
    }

    /// Whether the socket's headers are those of datagrams to `remote`, and still right.
    @inline(__always)
    private func hasTemplate(_ s: DatagramSocketPointer, for remote: Endpoint) -> Bool {
        s.pointee.templateEpoch == state.pointee.neighborEpoch && s.pointee.templateRemote == remote
    }

    /// Sends to a neighbour that is asked for, to this host, to all stations, over IPv6, or what is or may be too large for its way.
    @inline(never)
    private func sendOtherwise(_ s: DatagramSocketPointer, _ array: Frame, _ byteCount: Int) -> Int32 {
        if s.pointee.link == .group { return sendToGroup(s, array, byteCount) }
        let isLocal = s.pointee.link == .local
        let isIPv6 = !s.pointee.templateRemote.address.isIPv4
        guard byteCount <= (isIPv6 ? maximumIPv6DatagramByteCount : maximumDatagramByteCount) else { return EMSGSIZE }
        if !isLocal && state.pointee.neighbors[s.pointee.neighbor].pointee.state == .failed { return EHOSTUNREACH }
        let packetByteCount = byteCount &+ UDPHeader.byteCount &+ (isIPv6 ? IPv6Header.byteCount : IPv4Header.byteCount)
        // What every path takes need not be asked about.
        if !isLocal && packetByteCount > (isIPv6 ? PathMTU.smallestIPv6 : NetworkStack.smallestFragmentedPacket),
            case let limit = pathMTU(to: s.pointee.templateRemote.address), packetByteCount > limit
        {
            return sendLargeDatagram(s, array, byteCount, limit: limit)
        }
        guard !(isLocal ? state.pointee.loopback.isFull : state.pointee.output.pointee.isFull),
            let frame = isIPv6 ? makeIPv6DatagramFrame(s, array, byteCount) : makeDatagramFrame(s, array, byteCount)
        else { return ENOBUFS }
        state.pointee.statistics.datagramsSent &+= 1
        switch s.pointee.link {
        case .local: deliverLocally(frame)
        case .resolved, .narrow, .resolvedIPv6:
            state.pointee.neighbors[s.pointee.neighbor].pointee.lastUsed = state.pointee.now
            emit(frame)
        case .unresolved, .group: send(frame, to: s.pointee.neighbor)
        }
        return 0
    }

    /// Finds the way to `remote`, and makes the headers of what goes there.
    /// - Returns: 0, or an errno.
    @inline(never)
    private func makeTemplate(_ socket: UInt32, _ remote: Endpoint) -> Int32 {
        let s = state.pointee.datagramSockets[socket]
        guard remote.port != 0 else { return EINVAL }
        let isBroadcast = isBroadcastAddress(remote.address)
        let isGroup = isBroadcast || remote.address.isMulticast
        guard !isBroadcast || s.pointee.flags.contains(.sendsBroadcasts) else { return EACCES }
        guard speaks(s, to: remote.address) else { return EAFNOSUPPORT }
        guard let decision = isGroup ? routeToGroup(remote.address) : route(to: remote.address) else { return ENETUNREACH }
        let isBoundToAddress = !s.pointee.local.address.isUnspecified
        guard !isBoundToAddress || decision.isLocal || !s.pointee.local.address.isLoopback else { return EINVAL }
        if s.pointee.local.port == 0 && !bindEphemeral(socket, unboundAddress(s, for: remote.address)) { return EADDRINUSE }
        var hardware = state.pointee.macAddress
        if decision.isLocal {
            s.pointee.link = .local
        } else if isGroup {
            s.pointee.link = .group
            hardware = isBroadcast ? .broadcast : remote.address.multicastMACAddress
        } else {
            let neighbor = neighbor(for: decision.nextHop)
            guard neighbor != 0 else { return ENOBUFS }
            s.pointee.neighbor = neighbor
            s.pointee.link = .unresolved
            if state.pointee.neighbors[neighbor].pointee.isResolved {
                s.pointee.link = !remote.address.isIPv4 ? .resolvedIPv6 : isNarrow(remote.address) ? .narrow : .resolved
                hardware = state.pointee.neighbors[neighbor].pointee.macAddress
            }
        }
        //= RFC 1122 section 4.1.3.6
        //# When a host sends a UDP datagram, the source address MUST be (one of) the IP address(es) of the host.
        let local = Endpoint(address: isBoundToAddress ? s.pointee.local.address : decision.source, port: s.pointee.local.port)
        let isOffloaded = state.pointee.offloads.contains(.transmitChecksumUDP)
        let hopLimit = remote.address.isMulticast ? s.pointee.multicastHopLimit : hopLimit(s.pointee.packetOptions, to: remote.address)
        let trafficClass = s.pointee.packetOptions.trafficClass
        if remote.address.isIPv4 {
            s.pointee.template = DatagramTemplate(
                destination: hardware, source: state.pointee.macAddress, local: local, remote: remote, hopLimit: hopLimit, trafficClass: trafficClass,
                isOffloaded: isOffloaded)
        } else {
            s.pointee.ipv6Template = IPv6DatagramTemplate(
                destination: hardware, source: state.pointee.macAddress, local: local, remote: remote, hopLimit: hopLimit, trafficClass: trafficClass,
                isOffloaded: isOffloaded)
        }
        s.pointee.templateRemote = remote
        // Connecting drops the template.
        s.pointee.isTemplateOfPeer = s.pointee.flags.contains(.isConnected) && s.pointee.remote == remote
        s.pointee.templateEpoch = state.pointee.neighborEpoch
        return 0
    }

    /// Whether the way to `destination` is known to take less than the link does.
    private func isNarrow(_ destination: IPAddress) -> Bool { pathMTU(to: destination) < state.pointee.maximumTransmissionUnit }

    // MARK: Frames

    /// The datagram behind its headers; the array is taken over. Nil, and the array is the caller's, when the heap has no block or no descriptor.
    @inline(__always)
    func makeDatagramFrame(_ s: DatagramSocketPointer, _ array: Frame, _ byteCount: Int) -> Frame? {
        let frame: Frame
        let sum: UInt64
        if array.arraySegmentCount == 1, array.headroom >= DatagramTemplate.byteCount, array.isSoleOwner {
            sum = s.pointee.template.isOffloaded ? 0 : InternetChecksum.sum(array.segmentAddress, count: byteCount)
            // The opposite of dropping bytes from the front.
            array.removeFirst(-DatagramTemplate.byteCount)
            frame = array
        } else {
            guard array.arraySegmentCount == 1, byteCount < NetworkStack.zeroCopyByteCount else { return makeLargeFrame(s, array, byteCount) }
            var copied: UInt64 = 0
            guard array.moveToOwnBlock(
                state.pointee.heap, byteCount: DatagramTemplate.byteCount &+ byteCount, priority: .application,
                fill: { copied = InternetChecksum.copyAndSum(to: $0 + DatagramTemplate.byteCount, from: $1, count: byteCount) })
            else { return nil }
            sum = copied
            frame = array
        }
        writeDatagramHeaders(s, frame, byteCount, sum)
        return frame
    }

    /// As `makeDatagramFrame`, for several segments and for those that are not copied where that can be helped.
    @inline(never)
    func makeLargeFrame(_ s: DatagramSocketPointer, _ array: Frame, _ byteCount: Int) -> Frame? {
        let isIPv6 = !s.pointee.templateRemote.address.isIPv4
        let isOffloaded = isIPv6 ? s.pointee.ipv6Template.isOffloaded : s.pointee.template.isOffloaded
        let headerByteCount = isIPv6 ? IPv6DatagramTemplate.byteCount : DatagramTemplate.byteCount
        let isGathered = byteCount >= NetworkStack.zeroCopyByteCount && array.arraySegmentCount < state.pointee.configuration.maximumTransmitSegments
        let frameByteCount = headerByteCount &+ (isGathered ? 0 : byteCount)
        guard let frame = Frame.makeSegment(state.pointee.heap, byteCount: frameByteCount, priority: .application) else { return nil }
        let sum: UInt64
        if isGathered {
            sum = isOffloaded ? 0 : sumOfArray(array)
            frame.join(array, behind: frame)
        } else {
            let payload = frame.segmentAddress + headerByteCount
            array.copyArray(to: payload)
            array.releaseArray()
            sum = isOffloaded ? 0 : InternetChecksum.sum(payload, count: byteCount)
        }
        if isIPv6 { writeIPv6DatagramHeaders(s, frame, byteCount, sum) } else { writeDatagramHeaders(s, frame, byteCount, sum) }
        return frame
    }

    /// The sum of the bytes of all segments. O(bytes).
    func sumOfArray(_ array: Frame) -> UInt64 {
        var sum: UInt64 = 0
        var offset = 0
        var segment: Frame? = array
        while let current = segment {
            let count = current.segmentByteCount
            sum = InternetChecksum.combine(sum, InternetChecksum.sum(current.segmentAddress, count: count), offset: offset)
            offset &+= count
            segment = current.nextSegment
        }
        return sum
    }

    @inline(__always)
    private func writeDatagramHeaders(_ s: DatagramSocketPointer, _ frame: Frame, _ byteCount: Int, _ sum: UInt64) {
        s.pointee.template.write(to: frame.segmentAddress, payloadByteCount: byteCount, payloadSum: sum)
        frame.frameFlags = s.pointee.template.frameFlags
    }
}
