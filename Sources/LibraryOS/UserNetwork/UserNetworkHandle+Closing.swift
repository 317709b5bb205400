import DatapathMemory
import Glibc
import NetworkStack
import QueueRuntime
import TaskScheduler

/// Ending directions, connections and sockets.
extension UserNetworkHandle {
    func shutdown(_ index: Int, _ direction: ShutdownDirection) -> Int32 {
        let socket = socket(index)
        guard socket.pointee.phase == .connected else { return core.refuse(ENOTCONN, ErrorMessages.notConnected) }
        updateTime()
        if direction != .receive, !socket.pointee.isSendShutDown {
            socket.pointee.isSendShutDown = true
            if socket.pointee.firstToSend == nil { _ = stack.shutdown(socket.pointee.index, receive: false, send: true) }
        }
        if direction != .send {
            stopReceiving(socket)
            serveStreamPops(socket)
        }
        flush()
        return 0
    }

    /// Nothing more is received, and what was is dropped.
    private func stopReceiving(_ socket: UnsafeMutablePointer<NetworkSocket>) {
        let connection = socket.pointee.index
        _ = stack.shutdown(connection, receive: true, send: false)
        while let array = stack.takeReceived(connection, maximumSegments: ScatterGatherArray.maximumSegments, maximumBytes: .max) {
            array.releaseArray()
        }
    }

    func close(_ index: Int, _ operation: UInt32) {
        let socket = socket(index)
        updateTime()
        socket.pointee.closeOperation = operation
        // Of a listener the accepts.
        core.failAll(&socket.pointee.pops.list, ECANCELED, ErrorMessages.queueClosed)
        stopAwaiting(socket)
        if socket.pointee.connectOperation != 0 {
            core.fail(socket.pointee.connectOperation, ECANCELED, ErrorMessages.queueClosed)
            socket.pointee.connectOperation = 0
        }
        if let rest = socket.pointee.rest {
            socket.pointee.rest = nil
            rest.releaseArray()
        }
        switch socket.pointee.phase {
        case .connected where stack.linger(socket.pointee.index) == 0:
            dropSends(index, ECANCELED)
            abandon(index)
        case .connected:
            // Bytes that were never popped would make the end a reset (RFC 9293, section 3.6.1), which may take from the peer what it has not read.
            stopReceiving(socket)
            finishSending(index)
        case .open where socket.pointee.type == .datagram: finishSending(index)
        case .free, .open, .listening, .connecting, .flushing, .awaitingEnd: abandon(index)
        }
        flush()
    }

    private func finishSending(_ index: Int) {
        guard socket(index).pointee.firstToSend != nil else { return endSending(index) }
        socket(index).pointee.phase = .flushing
        armCloseTimer(index)
    }

    /// Everything that was pushed is with the stack: the end follows.
    func endSending(_ index: Int) {
        let socket = socket(index)
        guard socket.pointee.type == .stream, socket.pointee.failure == 0 else { return gone(index) }
        let connection = socket.pointee.index
        if socket.pointee.closeOperation == 0 {
            // The connection goes on without the descriptor, so the stack has to bound its patience with the peer by itself.
            let longest = max(1, Int(clamping: core.limits.closeLinger / 1_000_000_000))
            stack.setLinger(connection, seconds: min(stack.linger(connection) ?? longest, longest))
        }
        stack.close(connection)
        if socket.pointee.closeOperation == 0 || stack.connectionState(connection) == .closed { return gone(index) }
        socket.pointee.phase = .awaitingEnd
        armCloseTimer(index)
    }

    private func armCloseTimer(_ index: Int) {
        let socket = socket(index)
        guard socket.pointee.closeTimer == .none else { return }
        let armed = core.scheduler.armTimer(
            deadline: core.scheduler.deadline(after: core.limits.closeLinger, from: core.currentTime),
            { context, argument in UserNetworkHandle(context).closeTimerFired(Int(argument)) }, context: state, argument: UInt64(index))
        if let armed {
            socket.pointee.closeTimer = armed
        } else {
            // All of `Limits.maximumTimers` are armed: a close that cannot be bounded ends now.
            dropSends(index, ETIMEDOUT)
            abandon(index)
        }
    }

    private func closeTimerFired(_ index: Int) {
        let socket = socket(index)
        updateTime()
        // In TIME_WAIT the peer has let go, and the end is near.
        if socket.pointee.phase == .awaitingEnd && stack.connectionState(socket.pointee.index) == .timeWait { return }
        dropSends(index, ETIMEDOUT)
        abandon(index)
    }

    /// Ends a socket at once: a connection with a reset, a listener with its backlog.
    private func abandon(_ index: Int) {
        let socket = socket(index)
        if socket.pointee.type == .stream { stack.abort(socket.pointee.index) }
        gone(index)
    }

    /// The socket needs its descriptor no longer: gives it back to the stack, where a connection ends by itself, and tells the runtime.
    func gone(_ index: Int) {
        let socket = socket(index)
        let queue = socket.pointee.queue
        let operation = socket.pointee.closeOperation
        release(index)
        core.finishClose(queue, operation: operation)
    }

    /// Gives the socket back to the stack.
    func release(_ index: Int) {
        let socket = socket(index)
        core.scheduler.cancelTimer(socket.pointee.closeTimer)
        socket.pointee.closeTimer = .none
        if socket.pointee.type == .stream { stack.release(socket.pointee.index) } else { stack.closeDatagram(socket.pointee.index) }
        if let rest = socket.pointee.rest {
            socket.pointee.rest = nil
            rest.releaseArray()
        }
        socket.pointee.phase = .free
    }
}
