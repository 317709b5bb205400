import DatapathMemory
import EthernetDevice
import Glibc
import WireFormats

extension NetworkStack {
    /// Bytes of the largest payload of a datagram.
    public var maximumDatagramByteCount: Int { state.pointee.maximumTransmissionUnit &- (IPv4Header.byteCount + UDPHeader.byteCount) }

    /// Sends an array as one datagram; it may be empty. Below 1 KiB, and where the device cannot gather that many segments, it is copied behind its
    /// headers, else the frame is made of the array's own segments, whose bytes must not change until the device is done with them. O(bytes), for the
    /// checksum; O(segments) where the device computes it.
    /// - Parameter destination: nil for the endpoint that the socket is connected to. A socket that is not bound gets a port.
    /// - Returns: 0 when the array was taken over. Else it is still the caller's, and this is an errno: `EDESTADDRREQ` without a destination, `EINVAL`
    ///   for port 0 or a loopback source on its way out, `EACCES` for a broadcast address, `EMSGSIZE` above `maximumDatagramByteCount`, `ENETUNREACH`
    ///   without a route, `EHOSTUNREACH` for a neighbour that has just not answered, `EADDRINUSE` when no port is left, `ENOBUFS` when the output or
    ///   the heap is full.
    public func sendDatagram(_ socket: UInt32, _ array: Frame, to destination: Endpoint?) -> Int32 {
        let s = datagramSocket(socket)
        let byteCount = array.arrayByteCount
        guard byteCount <= maximumDatagramByteCount else { return EMSGSIZE }
        let remote: Endpoint
        if let destination {
            remote = destination
        } else {
            guard s.pointee.flags.contains(.isConnected) else { return EDESTADDRREQ }
            remote = s.pointee.remote
        }
        if s.pointee.templateEpoch != state.pointee.neighborEpoch || s.pointee.templateRemote != remote {
            let error = makeTemplate(socket, remote)
            guard error == 0 else { return error }
        }
        if s.pointee.link == .resolved {
            guard !state.pointee.output.isFull else { return ENOBUFS }
        } else {
            let error = reasonNotToSend(s)
            guard error == 0 else { return error }
        }
        guard let frame = makeDatagramFrame(s, array, byteCount) else { return ENOBUFS }
        state.pointee.statistics.datagramsSent &+= 1
        switch s.pointee.link {
        case .resolved:
            state.pointee.neighbors[s.pointee.neighbor].pointee.lastUsed = state.pointee.now
            emit(frame)
        case .unresolved: send(frame, to: s.pointee.neighbor)
        case .local: deliverLocally(frame)
        }
        return 0
    }

    /// An errno for a destination that is this host, or whose neighbour is not resolved; 0 if it can be sent to.
    private func reasonNotToSend(_ s: DatagramSocketPointer) -> Int32 {
        if s.pointee.link == .local { return state.pointee.loopback.isFull ? ENOBUFS : 0 }
        if state.pointee.neighbors[s.pointee.neighbor].pointee.state == .failed { return EHOSTUNREACH }
        return state.pointee.output.isFull ? ENOBUFS : 0
    }

    /// Finds the way to `remote`, and makes the headers of what goes there.
    /// - Returns: 0, or an errno.
    @inline(never)
    private func makeTemplate(_ socket: UInt32, _ remote: Endpoint) -> Int32 {
        let s = state.pointee.datagramSockets[socket]
        guard remote.port != 0 else { return EINVAL }
        guard !isBroadcastAddress(remote.address) else { return EACCES }
        guard let decision = route(to: remote.address) else { return ENETUNREACH }
        let isBoundToAddress = !s.pointee.local.address.isUnspecified
        guard !isBoundToAddress || decision.isLocal || !s.pointee.local.address.isLoopback else { return EINVAL }
        if s.pointee.local.port == 0 && !bindEphemeral(socket, .unspecifiedIPv4) { return EADDRINUSE }
        var hardware = state.pointee.macAddress
        if decision.isLocal {
            s.pointee.link = .local
        } else {
            let neighbor = neighbor(for: decision.nextHop)
            guard neighbor != 0 else { return ENOBUFS }
            s.pointee.neighbor = neighbor
            s.pointee.link = .unresolved
            if state.pointee.neighbors[neighbor].pointee.isResolved {
                s.pointee.link = .resolved
                hardware = state.pointee.neighbors[neighbor].pointee.macAddress
            }
        }
        let local = Endpoint(address: isBoundToAddress ? s.pointee.local.address : decision.source, port: s.pointee.local.port)
        s.pointee.template = DatagramTemplate(destination: hardware, source: state.pointee.macAddress, local: local, remote: remote)
        s.pointee.templateRemote = remote
        s.pointee.templateEpoch = state.pointee.neighborEpoch
        return 0
    }

    /// The datagram behind its headers; the array is taken over. Nil, and the array is the caller's, when the heap has no block or no descriptor.
    @inline(__always)
    private func makeDatagramFrame(_ s: DatagramSocketPointer, _ array: Frame, _ byteCount: Int) -> Frame? {
        guard byteCount < NetworkStack.zeroCopyByteCount, array.arraySegmentCount == 1 else { return makeLargeDatagramFrame(s, array, byteCount) }
        guard
            let frame = Frame.makeSegment(state.pointee.heap, byteCount: DatagramTemplate.byteCount &+ byteCount, priority: .application)
        else { return nil }
        let header = frame.segmentAddress
        let isOffloaded = state.pointee.offloads.contains(.transmitChecksumUDP)
        let sum = InternetChecksum.copyAndSum(to: header + DatagramTemplate.byteCount, from: array.segmentAddress, count: byteCount)
        finishDatagram(s, frame, byteCount, sum, isOffloaded)
        array.releaseArray()
        return frame
    }

    /// As `makeDatagramFrame`, for arrays of several segments and for those that are not copied.
    @inline(never)
    private func makeLargeDatagramFrame(_ s: DatagramSocketPointer, _ array: Frame, _ byteCount: Int) -> Frame? {
        let isGathered = byteCount >= NetworkStack.zeroCopyByteCount && array.arraySegmentCount < state.pointee.configuration.maximumTransmitSegments
        let frameByteCount = DatagramTemplate.byteCount &+ (isGathered ? 0 : byteCount)
        guard let frame = Frame.makeSegment(state.pointee.heap, byteCount: frameByteCount, priority: .application) else { return nil }
        let isOffloaded = state.pointee.offloads.contains(.transmitChecksumUDP)
        var sum: UInt64 = 0
        var offset = 0
        var segment: Frame? = array
        while let current = segment {
            let bytes = current.segmentAddress
            let count = current.segmentByteCount
            var piece: UInt64 = 0
            if !isGathered {
                let target = frame.segmentAddress + DatagramTemplate.byteCount + offset
                piece = InternetChecksum.copyAndSum(to: target, from: bytes, count: count)
            } else if !isOffloaded {
                piece = InternetChecksum.sum(bytes, count: count)
            }
            sum = InternetChecksum.combine(sum, piece, offset: offset)
            offset &+= count
            segment = current.nextSegment
        }
        finishDatagram(s, frame, byteCount, sum, isOffloaded)
        if isGathered { frame.join(array, behind: frame) } else { array.releaseArray() }
        return frame
    }

    @inline(__always)
    private func finishDatagram(_ s: DatagramSocketPointer, _ frame: Frame, _ byteCount: Int, _ sum: UInt64, _ isOffloaded: Bool) {
        state.pointee.identification &+= 1
        s.pointee.template.write(
            to: frame.segmentAddress, payloadByteCount: byteCount, identification: state.pointee.identification, payloadSum: sum,
            isOffloaded: isOffloaded)
        frame.frameFlags = isOffloaded ? .needsTransportChecksum : []
    }
}
