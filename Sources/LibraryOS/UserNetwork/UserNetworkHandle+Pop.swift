import DatapathMemory
import Glibc
import NetworkStack
import QueueRuntime
import WireFormats

/// Receiving.
extension UserNetworkHandle {
    /// A pop that may find something: while it would not, the runtime puts it on the list by itself.
    func pop(_ index: Int, _ operation: UInt32) -> Int32 {
        let socket = socket(index)
        guard socket.pointee.phase == .connected || socket.pointee.type == .datagram else { return core.refuse(ENOTCONN, ErrorMessages.notConnected) }
        let isFirst = core.append(operation, to: &socket.pointee.pops.list)
        if socket.pointee.pops.findsNothing {
            if isFirst { awaitNext(socket) }
        } else if socket.pointee.type == .stream {
            updateTime()
            serveStreamPops(socket)
            // A window that has opened.
            flush()
        } else {
            serveDatagramPops(socket)
        }
        return 0
    }

    /// Something has come: the next pop has to look.
    @inline(__always)
    func noteArrival(_ socket: UnsafeMutablePointer<NetworkSocket>) {
        socket.pointee.pops.findsNothing = false
        stopAwaiting(socket)
    }

    /// Gives the pops that wait what has arrived, its end, or why nothing will.
    @inline(__always)
    func serveStreamPops(_ socket: UnsafeMutablePointer<NetworkSocket>) {
        while case let pop = socket.pointee.pops.list.first, pop != 0 {
            let slot = core.operation(pop)
            let (taken, hasMore) = stack.takeReceivedAndLook(
                socket.pointee.index, maximumSegments: Int(slot.pointee.maximumSegments), maximumBytes: slot.pointee.byteCount)
            socket.pointee.pops.findsNothing = !hasMore
            guard let array = taken else {
                if hasMore && stack.receivableByteCount(socket.pointee.index) > 0 {
                    core.remove(pop, from: &socket.pointee.pops.list)
                    core.failUncut(pop)
                    continue
                }
                if stack.isAtEndOfStream(socket.pointee.index) || socket.pointee.failure != 0 { return endPops(socket) }
                return awaitNext(socket)
            }
            core.remove(pop, from: &socket.pointee.pops.list)
            core.completePop(pop, array)
        }
    }

    /// Tells the stack whether what comes next goes to the oldest pop directly: if it could take all of it.
    @inline(__always)
    func awaitNext(_ socket: UnsafeMutablePointer<NetworkSocket>) {
        let pop = socket.pointee.pops.list.first
        let takesAll = pop != 0 && core.operation(pop).pointee.byteCount >= WaitingPops.unlimitedByteCount
        socket.pointee.pops.awaits.unsafelyUnwrapped.pointee = takesAll ? 1 : 0
    }

    /// No pop waits for what comes next.
    @inline(__always)
    func stopAwaiting(_ socket: UnsafeMutablePointer<NetworkSocket>) {
        socket.pointee.pops.awaits.unsafelyUnwrapped.pointee = 0
    }

    /// Gives the oldest pop what it has awaited. There is one: whoever takes the last pop away calls `stopAwaiting`.
    @inline(__always)
    func complete(_ delivery: Delivery) {
        let socket = socket(Int(delivery.owner))
        if socket.pointee.type == .stream {
            core.completeFirstPop(of: &socket.pointee.pops.list, delivery.payload)
        } else {
            core.completeFirstPop(of: &socket.pointee.pops.list, delivery.payload, from: sender(of: delivery, socket))
        }
        if !socket.pointee.pops.list.isEmpty { awaitNext(socket) }
    }

    /// As `complete`, if the program waits in this turn for the pop that the delivery is for.
    /// - Returns: whether it was done; if not, nothing has changed.
    @inline(__always)
    func completesAwaited(_ delivery: Delivery) -> Bool {
        core.completesAwaitedPop(of: socket(Int(delivery.owner)).pointer(to: \.pops).unsafelyUnwrapped, delivery.payload)
    }

    /// Who has sent a datagram.
    @inline(__always)
    private func sender(of delivery: Delivery, _ socket: UnsafeMutablePointer<NetworkSocket>) -> SocketAddress {
        let source = IPAddress(ipv4Raw: delivery.rawSourceAddress)
        return SocketAddress(Endpoint(address: source, port: delivery.sourcePort), as: socket.pointee.family)
    }

    /// Nothing more will come. A reset is no end, and every pop tells it; but behind the peer's end it has nothing to take away.
    @inline(never)
    private func endPops(_ socket: UnsafeMutablePointer<NetworkSocket>) {
        let isEnd = stack.isAtEndOfStream(socket.pointee.index)
        // No event follows an end that the program has made itself.
        socket.pointee.pops.findsNothing = false
        while case let pop = core.removeFirst(from: &socket.pointee.pops.list), pop != 0 {
            if isEnd { core.completeEndOfStream(pop) } else { core.fail(pop, socket.pointee.failure, ErrorMessages.send(socket.pointee.failure)) }
        }
        stopAwaiting(socket)
    }

    /// Gives the pops that wait the datagrams that have come, each with its sender.
    func serveDatagramPops(_ socket: UnsafeMutablePointer<NetworkSocket>) {
        while case let pop = socket.pointee.pops.list.first, pop != 0 {
            if socket.pointee.rest == nil {
                // An ICMP error of an earlier push (a connected socket's port unreachable): reported once.
                let error = stack.takeDatagramError(socket.pointee.index)
                if error != 0 {
                    core.remove(pop, from: &socket.pointee.pops.list)
                    core.fail(pop, error, ErrorMessages.send(error))
                    continue
                }
                guard let (payload, source, headerDistance) = stack.receiveDatagram(socket.pointee.index) else {
                    socket.pointee.pops.findsNothing = true
                    return awaitNext(socket)
                }
                if socket.pointee.tellsInformation {
                    DatagramInformation.attachHeader(headerDistance, asMapped: socket.pointee.family == .ipv6, to: payload)
                }
                socket.pointee.rest = payload
                socket.pointee.restAddress = SocketAddress(source, as: socket.pointee.family)
            }
            let array = socket.pointee.rest.unsafelyUnwrapped
            core.remove(pop, from: &socket.pointee.pops.list)
            socket.pointee.rest = core.completePop(pop, cutting: array, from: socket.pointee.restAddress)
        }
    }

    // MARK: Cancel

    func cancel(_ index: Int, _ operation: UInt32) {
        let socket = socket(index)
        switch core.operation(operation).pointee.kind {
        case .pop:
            let wasFirst = socket.pointee.pops.list.first == operation
            core.remove(operation, from: &socket.pointee.pops.list)
            core.fail(operation, ECANCELED)
            if wasFirst { awaitNext(socket) }
        case .accept:
            core.remove(operation, from: &socket.pointee.accepts)
            core.fail(operation, ECANCELED)
        case .connect:
            updateTime()
            dissolveConnect(socket)
            core.fail(operation, ECANCELED)
            flush()
        case .push, .pushTo:
            updateTime()
            cancelPush(index, operation)
            flush()
        case .close:
            break
        }
    }
}
