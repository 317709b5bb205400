import CDatapath
import DatapathMemory
import EthernetDevice
import Glibc
import SharedMemory

/// The control channel: how a link comes up and ends.
extension MemifHandle {
    /// What an event is about.
    enum Source: UInt64 {
        case timer, listener, control, receive
    }

    func watch(_ file: Int32, _ source: Source) -> Bool {
        var event = epoll_event()
        // What the peer signals is never read: each signal makes one edge.
        event.events = source == .receive ? EPOLLIN.rawValue | EPOLLET.rawValue : EPOLLIN.rawValue
        event.data.u64 = source.rawValue
        return epoll_ctl(state.pointee.events, EPOLL_CTL_ADD, file, &event) == 0
    }

    private func unwatch(_ file: Int32) {
        var event = epoll_event()
        _ = epoll_ctl(state.pointee.events, EPOLL_CTL_DEL, file, &event)
    }

    /// Waits for clients at a listening socket.
    func listen(_ file: Int32) throws(DemikernelError) {
        guard watch(file, .listener) else {
            throw DemikernelError(errno, .initialize, "the kernel cannot watch another socket: raise fs.epoll.max_user_watches")
        }
        acceptClient()
    }

    private var listeningFile: Int32 { state.pointee.listener?.file ?? state.pointee.receivedListener }

    /// Looks at the sockets.
    @inline(never)
    func control() {
        state.pointee.receivesSinceControl = 0
        if state.pointee.controlsDue > 0 { state.pointee.controlsDue -= 1 }
        withUnsafeTemporaryAllocation(of: epoll_event.self, capacity: 8) { events in
            let count = epoll_wait(state.pointee.events, events.baseAddress, 8, 0)
            guard count > 0 else { return }
            for position in 0..<Int(count) {
                switch Source(rawValue: events[position].data.u64) {
                case .timer:
                    var expirations: UInt64 = 0
                    _ = read(state.pointee.timer, &expirations, 8)
                    call()
                case .listener: acceptClient()
                case .control: readMessages()
                case .receive, nil: break
                }
            }
        }
    }

    // MARK: Server

    /// Takes the next client, if there is no other.
    private func acceptClient() {
        guard state.pointee.control < 0 else { return }
        let file = demi_accept(listeningFile, nil, nil)
        guard file >= 0 else { return }
        // One client at a time: the next waits in the kernel until this one is gone.
        unwatch(listeningFile)
        guard watch(file, .control) else {
            Glibc.close(file)
            _ = watch(listeningFile, .listener)
            return
        }
        state.pointee.control = file
        state.pointee.phase = .awaitingInitialize
        send(.hello(name: MemifHandle.name))
        // A client that says nothing would keep the others out for ever: it has until the timer ends.
        arm(nanoseconds: MemifHandle.patience)
    }

    // MARK: Client

    /// Nanoseconds between two attempts to connect, and those that a peer has to finish the handshake.
    private static let callInterval = 10_000_000
    private static let patience = 1_000_000_000

    private func arm(nanoseconds: Int) {
        var setting = itimerspec()
        setting.it_value = timespec(tv_sec: nanoseconds / 1_000_000_000, tv_nsec: nanoseconds % 1_000_000_000)
        timerfd_settime(state.pointee.timer, 0, &setting, nil)
    }

    /// Has a client without a peer try again in a while.
    func callLater() {
        if state.pointee.path != nil, state.pointee.control < 0 { arm(nanoseconds: MemifHandle.callInterval) }
    }

    /// The timer has ended: a client connects, and a peer that has not finished the handshake is dropped.
    func call() {
        if state.pointee.control >= 0 {
            if state.pointee.phase != .up { refuse("the handshake took too long") }
            return
        }
        guard let path = state.pointee.path else { return }
        do throws(DemikernelError) {
            let file = try PathSocket.make()
            do throws(DemikernelError) {
                try PathSocket.connect(file, to: path)
            } catch {
                Glibc.close(file)
                throw error
            }
            if !converse(on: file) { callLater() }
        } catch {
            callLater()
        }
    }

    /// Begins the handshake on a socket that is connected to a server; takes it over.
    func converse(on file: Int32) -> Bool {
        guard watch(file, .control) else {
            Glibc.close(file)
            return false
        }
        state.pointee.control = file
        state.pointee.phase = .awaitingHello
        arm(nanoseconds: MemifHandle.patience)
        readMessages()
        return true
    }

    // MARK: Messages

    private static let name = Array("demikernel".utf8)

    private func send(_ message: MemifMessage, _ descriptors: [Int32] = []) {
        let error = message.bytes.withUnsafeBytes { DescriptorMessage.send($0, descriptors, on: state.pointee.control) }
        // A peer that takes no message of a handshake has ended, or does not read: both show at the next receive or at the timer's end.
        if error != 0, error != EPIPE, error != ECONNRESET { shutdown(state.pointee.control, Int32(SHUT_RDWR)) }
    }

    /// Reads what the peer has said, a bounded number of messages.
    private func readMessages() {
        for _ in 0..<Memif.maximumRegions + 8 {
            guard state.pointee.control >= 0 else { return }
            let outcome = withUnsafeTemporaryAllocation(byteCount: MemifMessage.byteCount, alignment: 8) {
                buffer -> (message: MemifMessage?, descriptors: [Int32], received: ReceivedMessage) in
                let received = DescriptorMessage.receive(into: buffer, on: state.pointee.control)
                guard case .message(let byteCount, let descriptors) = received else { return (nil, [], received) }
                return (MemifMessage(UnsafeRawBufferPointer(rebasing: buffer[..<byteCount])), descriptors, received)
            }
            var descriptors = outcome.descriptors
            switch outcome.received {
            case .none: return
            case .end: return peerEnded()
            case .failed: return refuse("a message of another length")
            case .message:
                let isFine = outcome.message.map { handle($0, &descriptors) } ?? false
                // What was not taken over.
                for descriptor in descriptors { Glibc.close(descriptor) }
                if !isFine { return refuse("a message that cannot be") }
            }
        }
    }

    /// - Parameter descriptors: those that are taken over are removed.
    /// - Returns: false for what the protocol does not allow here.
    private func handle(_ message: MemifMessage, _ descriptors: inout [Int32]) -> Bool {
        guard let kind = message.kind else { return false }
        if kind == .disconnect {
            peerEnded()
            return true
        }
        switch (state.pointee.phase, kind) {
        case (.awaitingInitialize, .initialize): return initialize(message)
        case (.awaitingMemory, .addRegion): return addRegion(message, &descriptors)
        case (.awaitingMemory, .addRing): return addRing(message, &descriptors)
        case (.awaitingMemory, .connect):
            guard state.pointee.receiveRing != nil, state.pointee.transmitRing != nil else { return false }
            send(.named(.connected, MemifHandle.name))
            return comeUp()
        case (.awaitingHello, .hello):
            guard message.versions?.contains(Memif.version) == true, Int(message.maximumRingSizeLog2) >= state.pointee.configuration.ringSizeLog2 else {
                return false
            }
            send(.initialize(identifier: state.pointee.configuration.identifier, secret: state.pointee.configuration.secret, name: MemifHandle.name))
            state.pointee.phase = .awaitingInitialized
            return true
        case (.awaitingInitialized, .acknowledge): return bringMemory()
        case (.awaitingRegion, .acknowledge):
            bringRing(isToServer: true)
            state.pointee.phase = .awaitingFirstRing
            return true
        case (.awaitingFirstRing, .acknowledge):
            bringRing(isToServer: false)
            state.pointee.phase = .awaitingSecondRing
            return true
        case (.awaitingSecondRing, .acknowledge):
            send(.named(.connect, MemifHandle.name))
            state.pointee.phase = .awaitingConnected
            return true
        case (.awaitingConnected, .connected): return comeUp()
        default: return false
        }
    }

    private func initialize(_ message: MemifMessage) -> Bool {
        let configuration = state.pointee.configuration
        var secret = configuration.secret
        secret += [UInt8](repeating: 0, count: Memif.secretByteCount - secret.count)
        guard message.version == Memif.version, message.identifier == configuration.identifier, message.mode == 0, message.secret.elementsEqual(secret) else {
            return false
        }
        state.pointee.phase = .awaitingMemory
        send(MemifMessage(.acknowledge))
        return true
    }

    private func addRegion(_ message: MemifMessage, _ descriptors: inout [Int32]) -> Bool {
        guard descriptors.count == 1, Int(message.regionIndex) == state.pointee.regionCount, state.pointee.regionCount < Memif.maximumRegions,
            (1...Memif.maximumRegionByteCount).contains(message.regionByteCount)
        else { return false }
        let byteCount = Int(message.regionByteCount)
        do throws(DemikernelError) {
            let memory = try SealedMemory(received: descriptors[0], byteCount: byteCount)
            state.pointee.regions[state.pointee.regionCount] = MemifRegion(base: try memory.map(), byteCount: byteCount)
        } catch {
            return false
        }
        state.pointee.regionCount += 1
        send(MemifMessage(.acknowledge))
        return true
    }

    private func addRing(_ message: MemifMessage, _ descriptors: inout [Int32]) -> Bool {
        let isReceive = message.isToServer
        guard descriptors.count == 1, message.ringIndex == 0, Int(message.ringRegion) < state.pointee.regionCount,
            (1...Memif.maximumRingSizeLog2).contains(Int(message.ringSizeLog2)), message.ringOffset % 8 == 0,
            (isReceive ? state.pointee.receiveRing : state.pointee.transmitRing) == nil, MemifHandle.isEvent(descriptors[0])
        else { return false }
        let region = state.pointee.regions[Int(message.ringRegion)]
        let sizeLog2 = Int(message.ringSizeLog2)
        let byteCount = Memif.descriptorsOffset + Memif.descriptorByteCount << sizeLog2
        guard Int(message.ringOffset) + byteCount <= region.byteCount else { return false }
        let base = region.base + Int(message.ringOffset)
        guard demi_load_acquire_u32(base + Memif.cookieOffset) == Memif.cookie else { return false }
        let event = descriptors.removeFirst()
        _ = fcntl(event, F_SETFL, fcntl(event, F_GETFL, 0) | O_NONBLOCK)
        let ring = MemifRing(
            server: base, sizeLog2: sizeLog2, isTransmit: !isReceive, regions: state.pointee.regions, event: event)
        if isReceive { state.pointee.receiveRing = ring } else { state.pointee.transmitRing = ring }
        send(MemifMessage(.acknowledge))
        return true
    }

    /// Whether a descriptor is an eventfd. Anything else could block the thread that writes to it.
    private static func isEvent(_ file: Int32) -> Bool {
        withUnsafeTemporaryAllocation(of: CChar.self, capacity: 64) { text in
            let count = readlink("/proc/self/fd/\(file)", text.baseAddress!, 63)
            guard count > 0 else { return false }
            text[count] = 0
            return strcmp(text.baseAddress!, "anon_inode:[eventfd]") == 0
        }
    }

    /// Makes a client's memory: both rings, then the buffers of each.
    private func bringMemory() -> Bool {
        let configuration = state.pointee.configuration
        let ringByteCount = Memif.descriptorsOffset + Memif.descriptorByteCount << configuration.ringSizeLog2
        let bufferBytes = configuration.bufferByteCount << configuration.ringSizeLog2
        let events = (eventfd(0, Int32(EFD_CLOEXEC) | Int32(EFD_NONBLOCK)), eventfd(0, Int32(EFD_CLOEXEC) | Int32(EFD_NONBLOCK)))
        var made: SealedMemory?
        do throws(DemikernelError) {
            guard events.0 >= 0, events.1 >= 0 else { throw DemikernelError(errno, .initialize) }
            let memory = try SealedMemory(name: "demikernel-memif", byteCount: 2 * ringByteCount + 2 * bufferBytes)
            made = memory
            state.pointee.regions[0] = MemifRegion(base: try memory.map(), byteCount: memory.byteCount)
            state.pointee.regionCount = 1
        } catch {
            for event in [events.0, events.1] where event >= 0 { Glibc.close(event) }
            made?.close()
            return false
        }
        let base = state.pointee.regions[0].base
        state.pointee.transmitRing = MemifRing(
            client: base, sizeLog2: configuration.ringSizeLog2, isTransmit: true, buffersOffset: 2 * ringByteCount,
            bufferByteCount: configuration.bufferByteCount, regions: state.pointee.regions, event: events.0)
        state.pointee.receiveRing = MemifRing(
            client: base + ringByteCount, sizeLog2: configuration.ringSizeLog2, isTransmit: false, buffersOffset: 2 * ringByteCount + bufferBytes,
            bufferByteCount: configuration.bufferByteCount, regions: state.pointee.regions, event: events.1)
        if let memory = made {
            send(.addRegion(index: 0, byteCount: UInt64(memory.byteCount)), [memory.file])
            memory.close()
        }
        state.pointee.phase = .awaitingRegion
        return true
    }

    private func bringRing(isToServer: Bool) {
        let configuration = state.pointee.configuration
        let ringByteCount = Memif.descriptorsOffset + Memif.descriptorByteCount << configuration.ringSizeLog2
        let ring = isToServer ? state.pointee.transmitRing : state.pointee.receiveRing
        send(
            .addRing(isToServer: isToServer, region: 0, offset: isToServer ? 0 : UInt32(ringByteCount), sizeLog2: UInt8(configuration.ringSizeLog2)),
            [ring!.event])
    }

    private func comeUp() -> Bool {
        guard watch(state.pointee.receiveRing!.event, .receive) else { return false }
        state.pointee.phase = .up
        state.pointee.statistics.linksUp += 1
        // Only now: a server may set the indices of both rings to 0 when it answers CONNECT (DPDK does).
        if state.pointee.configuration.role == .client { state.pointee.receiveRing!.publish() }
        state.pointee.isArmed = false
        // As long as a sleep that was prepared has not ended, the peer has to signal.
        let isAwake = state.pointee.controlsDue == 0
        state.pointee.receiveRing!.setPolling(isAwake)
        state.pointee.isArmed = !isAwake
        return true
    }

    // MARK: End

    /// The peer has said so, or its process has ended.
    private func peerEnded() {
        if state.pointee.phase == .up { state.pointee.statistics.linksDown += 1 } else { state.pointee.statistics.refusedPeers += 1 }
        endLink(nil)
        callLater()
    }

    private func refuse(_ reason: StaticString) {
        guard state.pointee.control >= 0 else { return }
        state.pointee.statistics.refusedPeers += 1
        endLink(reason)
        callLater()
    }

    /// Gives back all that the link has; a server waits for the next client.
    /// - Parameter reason: what the peer is told; nil when it has ended itself.
    func endLink(_ reason: StaticString?) {
        guard state.pointee.control >= 0 else { return }
        if let reason { send(.disconnect(reason)) }
        state.pointee.phase = .down
        state.pointee.isArmed = false
        for ring in [state.pointee.receiveRing, state.pointee.transmitRing] {
            guard let ring else { continue }
            // The peer holds the same description: closing alone would leave it among the watched.
            unwatch(ring.event)
            Glibc.close(ring.event)
        }
        state.pointee.receiveRing = nil
        state.pointee.transmitRing = nil
        for index in 0..<state.pointee.regionCount {
            munmap(state.pointee.regions[index].base, state.pointee.regions[index].byteCount)
            state.pointee.regions[index] = MemifRegion(base: UnsafeMutableRawPointer(state.pointee.regions), byteCount: 0)
        }
        state.pointee.regionCount = 0
        unwatch(state.pointee.control)
        Glibc.close(state.pointee.control)
        state.pointee.control = -1
        if listeningFile >= 0 { _ = watch(listeningFile, .listener) }
    }
}
