import DatapathMemory
import EthernetDevice
import NetworkStack
import WireFormats

/// What the owner of the sockets does. It keeps to the contract: no call with a socket that it has released, and none but `release` after the end.
extension StackWorld {
    private static let localPorts: [UInt16] = [0, 80, 7, 5_000]

    private func nextOwner() -> UInt32 {
        lastOwner += 1
        return lastOwner
    }

    /// An address and port to go to: a station, the stack itself, or nobody.
    private func remote() -> Endpoint {
        let choice = input.byte()
        let port = 1_000 + UInt16(choice >> 5)
        switch choice & 15 {
        case 0..<5: return Endpoint(address: Station.all[Int(choice & 15)].address, port: port)
        case 5: return Endpoint(address: .ipv4(127, 0, 0, 1), port: 80)
        case 6: return Endpoint(address: StationFrames.address, port: StackWorld.localPorts[Int(choice >> 4 & 3)])
        case 7: return Endpoint(address: StationFrames.secondAddress, port: 5_000)
        case 8: return Endpoint(address: .ipv4(10, 0, 0, 255), port: port)
        case 9: return Endpoint(address: .ipv4(10, 9, 1, choice), port: port)
        default: return Endpoint(address: IPAddress(ipv4HostOrder: input.number32()), port: input.number16())
        }
    }

    private func local() -> Endpoint {
        let choice = input.byte()
        let addresses: [IPAddress] = [.unspecifiedIPv4, StationFrames.address, StationFrames.secondAddress, .ipv4(127, 0, 0, 1)]
        return Endpoint(address: addresses[Int(choice >> 2 & 3)], port: StackWorld.localPorts[Int(choice & 3)])
    }

    // MARK: Streams

    func callStream() throws(FuzzFailure) {
        let choice = input.byte()
        guard !streams.isEmpty, choice & 0x0f != 0 else {
            if streams.count < 8 { makeStream() }
            return
        }
        let position = Int(choice >> 4) % streams.count
        let socket = streams[position]
        guard !socket.isClosed else {
            stack.release(socket.index)
            streams.remove(at: position)
            return
        }
        switch choice & 0x0f {
        case 1: _ = stack.bind(socket.index, to: local())
        case 2:
            if stack.listen(socket.index, backlog: Int(input.byte() % 4)) == 0 { streams[position].isListening = true }
        case 3:
            if stack.connect(socket.index, to: remote()) == 0 { streams[position].nextReceived = nil }
            forgetConnections()
        case 4: try accept(socket)
        case 5, 6: push(position)
        case 7, 8: try takeReceived(position)
        case 9:
            let directions = input.byte()
            _ = stack.shutdown(socket.index, receive: directions & 1 != 0, send: directions & 2 != 0)
        case 10:
            stack.close(socket.index)
            streams[position].isClosed = true
        case 11:
            stack.abort(socket.index)
            streams[position].isClosed = true
        case 12, 13: setOption(socket.index)
        case 14: try acknowledgeHandshake()
        default:
            // A listener with a connection to itself.
            _ = stack.bind(socket.index, to: Endpoint(address: .unspecifiedIPv4, port: 80))
            if stack.listen(socket.index, backlog: 3) == 0 { streams[position].isListening = true }
        }
    }

    private func makeStream() {
        let owner = nextOwner()
        let index = stack.makeConnection(owner: owner)
        if index != 0 { streams.append(StreamSocket(index: index, owner: owner)) }
    }

    private func accept(_ listener: StreamSocket) throws(FuzzFailure) {
        guard listener.isListening, streams.count < 8 else { return }
        let isPromised = stack.hasAcceptable(listener.index)
        let owner = nextOwner()
        let index = stack.accept(listener.index, owner: owner)
        try require((index != 0) == isPromised, "a connection is promised and not given")
        if index != 0 { streams.append(StreamSocket(index: index, owner: owner)) }
    }

    /// What most tries have in common: everything is taken from the output, and the newest connection's peer answers a SYN.
    private func acknowledgeHandshake() throws(FuzzFailure) {
        try takeAllOutput()
        receiveSegment()
    }

    private func push(_ position: Int) {
        let choices = input.byte()
        var byteCount = 0
        var array: Frame?
        // Up to four segments, of which some may be empty.
        for _ in 0...(choices & 3) {
            let count = choices & 4 != 0 ? input.size() * 4 : input.size()
            guard let segment = Frame.makeSegment(heap, byteCount: count, headroom: choices & 8 != 0 ? 66 : 0, priority: .application) else { break }
            for offset in 0..<count {
                let value = UInt8(truncatingIfNeeded: streams[position].pushedByteCount + byteCount + offset)
                segment.segmentAddress.storeBytes(of: value, toByteOffset: offset, as: UInt8.self)
            }
            byteCount += count
            if let array { array.append(segment, behind: array.lastSegment) } else { array = segment }
        }
        guard let array else { return }
        if choices & 0x10 != 0, held.count < 16, let slice = array.makeSlice(offset: 0, byteCount: array.segmentByteCount) { held.append(slice) }
        guard byteCount > 0, stack.send(streams[position].index, array) == 0 else { return array.releaseArray() }
        streams[position].pushedByteCount += byteCount
    }

    private func takeReceived(_ position: Int) throws(FuzzFailure) {
        let socket = streams[position]
        guard !socket.isListening else { return }
        let choices = input.byte()
        let maximumSegments = 1 + Int(choices & 15)
        let maximumBytes = choices & 0x10 != 0 ? 1 + input.size() : Int.max
        let receivable = stack.receivableByteCount(socket.index)
        // `splitArray`: without a descriptor for the rest no segment is cut.
        let canCut = heap.hasFreeSegment
        guard let array = stack.takeReceived(socket.index, maximumSegments: maximumSegments, maximumBytes: maximumBytes) else {
            return try require(receivable == 0 || !canCut, "bytes are promised and not given")
        }
        let received = bytes(of: array)
        try require(!received.isEmpty && received.count <= maximumBytes, "of \(maximumBytes) bytes \(received.count) are given")
        try require(array.arraySegmentCount <= maximumSegments, "more segments are given than asked for")
        try require(stack.receivableByteCount(socket.index) == receivable - received.count, "the bytes to receive are counted wrongly")
        if sendsCountingData {
            var next = socket.nextReceived ?? received[0]
            for byte in received {
                try require(byte == next, "the stream has a byte from another place")
                next &+= 1
            }
            streams[position].nextReceived = next
        }
        if choices & 0x20 != 0, held.count < 16 { held.append(array) } else { array.releaseArray() }
    }

    private func setOption(_ socket: UInt32) {
        let choice = input.byte()
        let isOn = choice & 0x80 != 0
        switch choice & 7 {
        case 0: stack.setNoDelay(socket, isOn)
        case 1: stack.setKeepAlive(socket, isOn ? (idle: UInt64(input.number16()) << 20, interval: UInt64(1 + (input.byte() & 63)) << 30) : nil)
        case 2: stack.setLinger(socket, seconds: isOn ? Int(input.byte()) : nil)
        case 3: stack.setUserTimeout(socket, isOn ? UInt64(input.number16()) << 20 : 0)
        case 4: stack.setSendBuffer(socket, byteCount: Int(input.number16()))
        case 5: stack.setReceiveBuffer(socket, byteCount: Int(input.number16()))
        case 6: stack.setReusePort(socket, isOn)
        default: _ = (stack.connectionError(socket), stack.connectionLocal(socket), stack.connectionRemote(socket), stack.isAtEndOfStream(socket))
        }
    }

    // MARK: Datagrams

    func callDatagram() throws(FuzzFailure) {
        let choice = input.byte()
        guard !datagrams.isEmpty, choice & 7 != 0 else {
            let owner = nextOwner()
            let index = stack.makeDatagramSocket(owner: owner)
            if index != 0 { datagrams.append(DatagramSocket(index: index, owner: owner)) }
            return
        }
        let position = Int(choice >> 3) % datagrams.count
        let socket = datagrams[position].index
        switch choice & 7 {
        case 1: _ = stack.bindDatagram(socket, to: local(), reusePort: choice & 0x80 != 0)
        case 2: _ = stack.connectDatagram(socket, to: remote())
        case 3, 4: sendDatagram(socket)
        case 5:
            let isPromised = stack.hasDatagram(socket)
            let datagram = stack.receiveDatagram(socket)
            try require((datagram != nil) == isPromised, "a datagram is promised and not given")
            guard let datagram else { return }
            // A received datagram goes back as it is: the headers get their place in front of it again.
            if choice & 0x80 != 0, stack.sendDatagram(socket, datagram.payload, to: datagram.source) == 0 { return }
            datagram.payload.releaseArray()
        case 6:
            _ = (stack.takeDatagramError(socket), stack.datagramLocal(socket), stack.datagramPeer(socket))
            // No byte more: what was kept before means what it has meant.
            if choice & 0x80 != 0 { changeMembership(socket, choice & 0x40 != 0 ? IPAddress("ff15::1")! : .ipv4(239, 0, 0, 1)) }
        default:
            stack.closeDatagram(socket)
            datagrams.remove(at: position)
        }
    }

    private func changeMembership(_ socket: UInt32, _ group: IPAddress) {
        _ = stack.isMember(socket, of: group) ? stack.leaveGroup(socket, group) : stack.joinGroup(socket, group)
    }

    private func sendDatagram(_ socket: UInt32) {
        let choices = input.byte()
        var array: Frame?
        for _ in 0...(choices & 3) {
            let headroom = choices & 4 != 0 ? NetworkStack.datagramHeadroom : 0
            guard let segment = Frame.makeSegment(heap, byteCount: input.size(), headroom: headroom, priority: .application) else { break }
            segment.segmentAddress.initializeMemory(as: UInt8.self, repeating: 0x33, count: segment.segmentByteCount)
            if let array { array.append(segment, behind: array.lastSegment) } else { array = segment }
        }
        guard let array else { return }
        if stack.sendDatagram(socket, array, to: choices & 8 != 0 ? remote() : nil) != 0 { array.releaseArray() }
    }

    // MARK: Memory

    /// The owner fills the heap with blocks of its own, or gives them back.
    func holdMemory() {
        let choices = input.byte()
        guard choices & 0x80 == 0 else {
            while let array = held.popLast() { array.releaseArray() }
            return
        }
        let byteCount = choices & 0x40 != 0 ? 131_072 : 16_384
        let left = Int(choices & 0x1f) * 16_384
        let priority: AllocationPriority = choices & 0x20 != 0 ? .reserve : .application
        while heap.usedByteCount + byteCount + left <= heapByteCount,
            let block = Frame.makeSegment(heap, byteCount: byteCount, priority: priority)
        { held.append(block) }
    }
}
