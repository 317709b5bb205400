import DatapathMemory
import EthernetDevice
import NetworkStack
import WireFormats

/// The bytes are a sequence of what can happen to a network stack: frames that arrive, calls of its owner, time that passes, output that is taken or not.
func fuzzStack(_ input: UnsafeRawBufferPointer) throws(FuzzFailure) {
    guard input.count >= 2 else { return }
    let world = try StackWorld(input)
    try world.run()
}

/// A stack with a heap and a clock of its own, and what its peers and its owner know.
final class StackWorld {
    /// A TCP socket of the owner.
    struct StreamSocket {
        let index: UInt32
        let owner: UInt32
        var isListening = false
        /// After `close` or `abort` the owner does nothing but release it.
        var isClosed = false
        var pushedByteCount = 0
        var nextReceived: UInt8?
    }

    struct DatagramSocket {
        let index: UInt32
        let owner: UInt32
    }

    static let maximumReceiveBuffer = 16_384
    /// Where one is chosen.
    static let windowScale: UInt8 = 3
    static let maximumFlows = 16
    /// What waits in the output: where senders stop, and what may go beyond it in all the time that an input can let pass without taking any.
    static let maximumOutput = 1_024 + 4_096

    let heap: DatapathHeap
    let stack: NetworkStack
    var input: InputReader
    var now: UInt64 = 1_000_000_000_000
    var flows: [StackFlow] = []
    var streams: [StreamSocket] = []
    var datagrams: [DatagramSocket] = []
    var lastOwner: UInt32 = 0
    /// Frames that wait for the next turn, while the device works in batches.
    var batch: [Frame] = []
    var batches = false
    /// What the owner has received and not released, and memory that it holds for itself.
    var held: [Frame] = []
    /// The last frames that the stack has sent and received.
    var lastSent: [UInt8] = []
    var lastReceived: [UInt8] = []
    /// Whether all data that peers have sent counts up with its sequence number.
    var sendsCountingData = true
    let maximumTransmissionUnit: Int
    let scalesWindows: Bool
    /// Bytes of the heap.
    let heapByteCount: Int
    private let endsAtOnce: Bool

    init(_ bytes: UnsafeRawBufferPointer) throws(FuzzFailure) {
        var input = InputReader(bytes)
        let choices = input.number16()
        let isChosen = { (bit: Int) in choices >> UInt16(bit) & 1 == 1 }
        endsAtOnce = isChosen(0)
        maximumTransmissionUnit = isChosen(1) ? 576 : 1_500
        var configuration = NetworkConfiguration(
            macAddress: StationFrames.macAddress,
            addresses: [IPv4Prefix(address: StationFrames.address, length: 24), IPv4Prefix(address: StationFrames.secondAddress, length: 16)],
            seed: UInt64(choices))
        configuration.routes = [.init(destination: IPv4Prefix(address: .unspecifiedIPv4, length: 0), gateway: Station.all[1].address)]
        configuration.staticNeighbors = Station.all.prefix(2).map { .init(address: $0.address, macAddress: $0.macAddress) }
        configuration.maximumTransmissionUnit = maximumTransmissionUnit
        // IPv6 needs 1,280 bytes.
        if isChosen(13) && !isChosen(1) {
            configuration.ipv6.isEnabled = true
            configuration.ipv6.acceptsRouterAdvertisements = true
            configuration.ipv6.duplicateAddressDetectionTransmits = isChosen(14) ? 1 : 0
        }
        configuration.maximumTransmitSegments = isChosen(2) ? 1 : 8
        configuration.tcp = StackWorld.parameters(isChosen)
        scalesWindows = configuration.tcp.offersWindowScale
        configuration.limits = StackWorld.limits
        let memory = MemoryConfiguration(arenaByteCount: 4 << 20, commitsAtStart: false, maximumSegments: isChosen(3) ? 96 : 8_192)
        do {
            heap = try DatapathHeap(memory)
            stack = try NetworkStack(configuration, heap: heap, now: now)
        } catch {
            throw FuzzFailure(description: "the stack cannot be made: \(error)")
        }
        heapByteCount = heap.statistics.limitByteCount
        self.input = input
    }

    private static func parameters(_ isChosen: (Int) -> Bool) -> TCPConfiguration {
        var parameters = TCPConfiguration()
        parameters.offersTimestamps = isChosen(4)
        parameters.offersWindowScale = isChosen(5)
        parameters.windowScale = isChosen(6) ? windowScale : nil
        parameters.isNoDelay = isChosen(7)
        parameters.receiveBuffer = isChosen(8) ? 2_048 : 8_192
        parameters.maximumReceiveBuffer = maximumReceiveBuffer
        parameters.sendBuffer = isChosen(9) ? 2_048 : 32_768
        parameters.maximumSegmentSize = isChosen(10) ? 64 : nil
        // The sequence numbers wrap around after a few bytes.
        parameters.fixedInitialSequenceNumber = isChosen(11) ? 0xffff_ffc0 : nil
        parameters.maximumRetransmissions = isChosen(12) ? 2 : 15
        return parameters
    }

    private static var limits: NetworkLimits {
        var limits = NetworkLimits()
        limits.maximumConnections = 12
        limits.maximumTimeWait = 3
        limits.maximumHalfOpen = 3
        limits.reassemblyPieces = 6
        limits.maximumDatagramSockets = 4
        limits.datagramQueueByteCount = 8_192
        limits.fragmentedDatagrams = 3
        limits.fragmentedDatagramsOfSource = 2
        limits.fragmentsOfDatagram = 8
        limits.maximumNeighbors = 6
        limits.neighborQueueLength = 3
        limits.controlMessagesPerSecond = 20
        limits.controlMessageBurst = 5
        limits.resetsPerSecond = 10
        limits.challengesPerSecond = 5
        return limits
    }

    /// Runs the whole input, and ends the stack.
    func run() throws(FuzzFailure) {
        while !input.isAtEnd { try step() }
        while let frame = batch.popLast() { frame.releaseArray() }
        if !endsAtOnce { try becomeQuiet() }
        for array in held { array.releaseArray() }
        stack.deallocate()
        let memory = heap.statistics
        try require(memory.liveBlocks == 0 && memory.liveSegments == 0 && memory.usedByteCount == 0, "the stack has not released all of its memory")
        heap.close()
    }

    private func step() throws(FuzzFailure) {
        switch input.byte() % 20 {
        case 0: receiveRawFrame()
        case 1: receivePacket()
        case 2, 3, 4, 5: receiveSegment()
        case 6: openFlow()
        case 7: receiveDatagram()
        case 8: receiveARP()
        case 9: receiveControlMessage()
        case 10: receiveChangedFrame()
        case 11: try letTimePass()
        case 12: try takeOutput()
        case 13: try turn()
        case 14, 15, 16: try callStream()
        case 17: try callDatagram()
        case 18: holdMemory()
        default: try takeEvents()
        }
        try checkState()
    }
}
