import DatapathMemory
import EthernetDevice
import NetworkStack
import WireFormats

/// What arrives.
extension StackWorld {
    private static let ports: [UInt16] = [80, 7, 5_000, 49_152]

    /// Gives the stack a frame; one that the device has no block for is lost. `lengths` cuts it into segments.
    private func receive(_ bytes: [UInt8], verified: Bool = false, cutAt length: Int? = nil) {
        guard bytes.count <= 9_018, let frame = makeFrame(bytes, cutAt: length) else { return }
        lastReceived = bytes
        frame.frameFlags = verified ? .checksumVerified : []
        if batches && batch.count < 8 { batch.append(frame) } else { stack.receive(frame) }
    }

    private func makeFrame(_ bytes: [UInt8], cutAt length: Int?) -> Frame? {
        let cut = min(length ?? bytes.count, bytes.count)
        guard let frame = makeSegment(bytes[..<cut]) else { return nil }
        guard length != nil else { return frame }
        guard let rest = makeSegment(bytes[cut...]) else {
            frame.releaseArray()
            return nil
        }
        frame.append(rest, behind: frame)
        return frame
    }

    private func makeSegment(_ bytes: ArraySlice<UInt8>) -> Frame? {
        guard let frame = Frame.makeSegment(heap, byteCount: bytes.count, priority: .reserve) else { return nil }
        bytes.withUnsafeBytes { if let base = $0.baseAddress { frame.segmentAddress.copyMemory(from: base, byteCount: $0.count) } }
        return frame
    }

    /// A frame is made that may be a segment of any connection, and the first one of a new connection.
    private func expectAnything() {
        sendsCountingData = false
        forgetConnections()
    }

    func forgetConnections() {
        for position in flows.indices { flows[position].mayBeginAnew(at: nil) }
    }

    func receiveRawFrame() {
        let choices = input.byte()
        expectAnything()
        let length = choices & 2 != 0 ? Int(input.byte()) : nil
        receive(input.run(), verified: choices & 1 != 0, cutAt: length)
    }

    private func station(_ choice: UInt8) -> Station { Station.all[Int(choice) % Station.all.count] }

    /// A packet of any protocol with any options, any payload, and right checksums.
    func receivePacket() {
        let choices = input.byte()
        expectAnything()
        let protocols: [UInt8] = [IPProtocol.tcp, IPProtocol.udp, IPProtocol.icmp, 99]
        let destinations: [IPAddress] = [StationFrames.address, StationFrames.secondAddress, .ipv4(10, 0, 0, 255), .limitedBroadcast]
        let options = choices & 0x40 != 0 ? input.run(Int(input.byte() % 41)) : []
        let flags = choices & 0x80 != 0 ? input.number16() : 0x4000
        let destination = destinations[Int(choices >> 2 & 3)]
        // The reserved flag asks for the packet in fragments.
        let frame = StationFrames.ipv4(
            protocols[Int(choices & 3)], input.run(), from: station(choices >> 4 & 3), to: destination, options: options,
            flags: flags & 0x8000 != 0 ? 0 : flags, hardware: choices >> 2 & 3 > 1 ? .broadcast : StationFrames.macAddress)
        if flags & 0x8000 != 0 { receiveInFragments(frame, flags) } else { receive(frame) }
    }

    /// A packet cut into fragments: of which size and in which order the lower bits of `choices` say, and which one comes twice or not at all.
    private func receiveInFragments(_ frame: [UInt8], _ choices: UInt16) {
        let headerByteCount = 14 + Int(frame[14] & 15) * 4
        let size = (Int(choices & 0x1f) + 1) * 8
        var fragments: [[UInt8]] = []
        for offset in stride(from: headerByteCount, to: frame.count, by: size) {
            let end = min(offset + size, frame.count)
            fragments.append(
                StationFrames.fragment(
                    Array(frame[..<headerByteCount]), Array(frame[offset..<end]), at: offset - headerByteCount, more: end < frame.count))
        }
        if choices & 0x20 != 0 { fragments.reverse() }
        let chosen = Int(choices >> 8 & 0xf)
        if choices & 0x40 != 0, chosen < fragments.count { fragments.append(fragments[chosen]) }
        if choices & 0x80 != 0, chosen < fragments.count { fragments.remove(at: chosen) }
        for fragment in fragments { receive(fragment) }
    }

    /// A segment of a connection, at its place in the stream or not.
    func receiveSegment() {
        guard !flows.isEmpty else { return openFlow() }
        let position = Int(input.byte()) % flows.count
        let flags = input.byte()
        let choices = input.byte()
        let more = choices & 0x80 != 0 ? input.byte() : 0
        let base = choices & 0x10 != 0 ? flows[position].peerSequence : flows[position].acknowledged
        let sequence = base &+ UInt32(truncatingIfNeeded: input.distance(choices))
        let acknowledgement = flows[position].stackSequence &+ UInt32(truncatingIfNeeded: input.distance(choices >> 2))
        let window = choices & 0x20 != 0 ? input.number16() : 65_535
        let byteCount = choices & 0x40 != 0 ? input.size() : 0
        var options: [UInt8] = []
        if more & 1 == 0, let echo = flows[position].timestamp {
            flows[position].peerTimestamp &+= UInt32(truncatingIfNeeded: input.distance(more >> 1)) &+ 1
            options = [1, 1, 8, 10] + StationFrames.bigEndian(flows[position].peerTimestamp)
            options += StationFrames.bigEndian(echo &+ UInt32(truncatingIfNeeded: input.distance(more >> 3)))
        }
        if more & 0x20 != 0 { options += input.run(Int(input.byte() % 41)) }
        let first = UInt8(truncatingIfNeeded: sequence) &+ flags >> 1 & 1
        let payload = (0..<byteCount).map { first &+ UInt8(truncatingIfNeeded: $0) }
        let flow = flows[position]
        let segment = StationFrames.segment(
            from: flow.remotePort, to: flow.localPort, sequence: sequence, acknowledgement: acknowledgement, flags: flags, window: window,
            urgentPointer: more & 0x40 != 0 ? input.number16() : 0, options: options, payload: payload)
        var frame = StationFrames.ipv4(IPProtocol.tcp, segment, from: flow.station, to: flow.localAddress)
        if more & 0x80 != 0 { frame[frame.count - 1] ^= 1 }
        let taken = UInt32(byteCount) &+ UInt32(flags & 1) &+ UInt32(flags >> 1 & 1)
        flows[position].peerSequence = sequence &+ taken
        if flags & TCPFlags.syn.rawValue != 0 { flows[position].mayBeginAnew(at: sequence) }
        receive(frame)
    }

    /// The first segment of a connection that a peer opens, mostly a SYN.
    func openFlow() {
        let choices = input.byte()
        let flags: UInt8 = choices & 0x80 != 0 ? input.byte() : TCPFlags.syn.rawValue
        let station = station(choices & 3)
        let flow = StackFlow(
            station: station, remotePort: 1_000 + UInt16(input.byte() % 8),
            localAddress: choices & 0x40 != 0 ? StationFrames.secondAddress : StationFrames.address,
            localPort: StackWorld.ports[Int(choices >> 2 & 3)], peerSequence: choices & 0x10 != 0 ? 0xffff_fff0 : input.number32())
        let options = choices & 0x20 != 0 ? input.run(Int(input.byte() % 41)) : []
        let segment = StationFrames.segment(
            from: flow.remotePort, to: flow.localPort, sequence: flow.peerSequence, acknowledgement: input.isAtEnd ? 0 : 1, flags: flags,
            window: 65_535, urgentPointer: 0, options: options, payload: [])
        let frame = StationFrames.ipv4(IPProtocol.tcp, segment, from: station, to: flow.localAddress)
        var opened = flow
        opened.peerSequence &+= 1
        opened.acknowledged = opened.peerSequence
        keep(opened)
        receive(frame)
    }

    /// Where a connection stands in `flows`.
    func flow(_ station: IPAddress, _ remotePort: UInt16, _ localAddress: IPAddress, _ localPort: UInt16) -> Int? {
        flows.firstIndex {
            $0.remotePort == remotePort && $0.localPort == localPort && $0.station.address == station && $0.localAddress == localAddress
        }
    }

    /// Remembers a connection; the oldest one is forgotten.
    func keep(_ flow: StackFlow) {
        if let known = self.flow(flow.station.address, flow.remotePort, flow.localAddress, flow.localPort) {
            flows[known].peerSequence = flow.peerSequence
            flows[known].mayBeginAnew(at: flow.peerSequence &- 1)
            return
        }
        if flows.count == StackWorld.maximumFlows { flows.removeFirst() }
        flows.append(flow)
    }

    func receiveDatagram() {
        let choices = input.byte()
        let isBroadcast = choices & 0x10 != 0
        let length = choices & 0x20 != 0 ? input.number16() : nil
        let datagram = StationFrames.datagram(
            from: 1_000 + UInt16(choices >> 6), to: StackWorld.ports[Int(choices >> 2 & 3)], length: length,
            payload: [UInt8](repeating: 0x55, count: input.size()))
        receive(
            StationFrames.ipv4(
                IPProtocol.udp, datagram, from: station(choices & 3), to: isBroadcast ? .ipv4(10, 0, 0, 255) : StationFrames.address,
                hardware: isBroadcast ? .broadcast : StationFrames.macAddress),
            cutAt: choices & 0xc0 == 0xc0 ? Int(input.byte()) : nil)
    }

    func receiveARP() {
        let choices = input.byte()
        var sender = station(choices % 5)
        if choices & 0x08 != 0 { sender = Station(macAddress: MACAddress(value: UInt64(input.number32())), address: sender.address) }
        if choices & 0x10 != 0 { sender = Station(macAddress: sender.macAddress, address: .ipv4(10, 0, 0, input.byte())) }
        let target = choices & 0x20 != 0 ? IPAddress(ipv4HostOrder: input.number32()) : StationFrames.address
        receive(
            StationFrames.arp(
                choices & 0x40 != 0 ? 2 : 1, from: sender, target: target, targetHardware: StationFrames.macAddress,
                hardware: choices & 0x80 != 0 ? .broadcast : StationFrames.macAddress))
    }

    /// An echo request, or an error that quotes what the stack has sent last.
    func receiveControlMessage() {
        let choices = input.byte()
        let quoted = lastSent.count > 14 && choices & 0x80 != 0 ? Array(lastSent[14...].prefix(28 + Int(input.byte()))) : input.run()
        let types: [UInt8] = [
            ICMPv4Type.echoRequest, ICMPv4Type.destinationUnreachable, ICMPv4Type.timeExceeded, ICMPv4Type.parameterProblem, ICMPv4Type.echoReply,
            ICMPv4Type.redirect, ICMPv4Type.sourceQuench, input.byte(),
        ]
        let message = [types[Int(choices & 7)], input.byte() % 17, 0, 0] + StationFrames.bigEndian(input.number32()) + quoted
        receive(StationFrames.ipv4(IPProtocol.icmp, message, from: station(choices >> 3 & 3)))
    }

    /// A frame as one that was seen on the link, changed in places; from the stack's own it may be turned round.
    func receiveChangedFrame() {
        let choices = input.byte()
        var frame = choices & 1 == 0 ? lastReceived : lastSent
        expectAnything()
        if choices & 2 != 0, frame.count >= 38 {
            for offset in 0..<6 { frame.swapAt(offset, 6 + offset) }
            for offset in 26..<30 { frame.swapAt(offset, 4 + offset) }
            for offset in 34..<36 { frame.swapAt(offset, 2 + offset) }
        }
        for _ in 0..<(choices >> 2 & 7) {
            let offset = Int(input.byte())
            let value = input.byte()
            if offset < frame.count { frame[offset] = value }
        }
        if choices & 0x20 != 0 { frame = Array(frame.prefix(Int(input.byte()))) }
        if choices & 0x40 == 0 { StationFrames.correctChecksums(&frame) }
        receive(frame, verified: choices & 0x80 != 0)
    }
}
