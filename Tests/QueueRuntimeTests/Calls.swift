import Demikernel

/// Every PDPIX call on a queue.
enum QueueCall: String, CaseIterable, Codable, Sendable {
    case bind, listen, accept, connect, shutdownSend, shutdownReceive, shutdownBoth, close, closeToken, localAddress, peerAddress, setOption, option
    case pushArray, pushBuffer, pushArrayDiscarded, pushBufferDiscarded, pushTo, pushToDiscarded, pop

    func perform(_ runtime: borrowing Runtime, _ queue: QueueDescriptor) throws(DemikernelError) {
        let address = SocketAddress.loopback(port: 9)
        switch self {
        case .bind: try runtime.bind(queue, to: .loopback(port: 0))
        case .listen: try runtime.listen(queue, backlog: 1)
        case .accept: _ = try runtime.accept(queue)
        case .connect: _ = try runtime.connect(queue, to: address)
        case .shutdownSend: try runtime.shutdown(queue, .send)
        case .shutdownReceive: try runtime.shutdown(queue, .receive)
        case .shutdownBoth: try runtime.shutdown(queue, .both)
        case .close: try runtime.close(queue)
        case .closeToken: _ = try runtime.closeToken(queue)
        case .localAddress: _ = try runtime.localAddress(queue)
        case .peerAddress: _ = try runtime.peerAddress(queue)
        case .setOption: try runtime.setOption(.noDelay(true), on: queue)
        case .option: _ = try runtime.option(.noDelay, of: queue)
        case .pushArray: _ = try runtime.push(queue, runtime.array([1, 2, 3]))
        case .pushBuffer: _ = try runtime.push(queue, runtime.buffer([1, 2, 3]))
        case .pushArrayDiscarded: try runtime.push(queue, runtime.array([1, 2, 3]), completion: .discarded)
        case .pushBufferDiscarded: try runtime.push(queue, runtime.buffer([1, 2, 3]), completion: .discarded)
        case .pushTo: _ = try runtime.pushTo(queue, runtime.array([1, 2, 3]), address)
        case .pushToDiscarded: try runtime.pushTo(queue, runtime.array([1, 2, 3]), address, completion: .discarded)
        case .pop: _ = try runtime.pop(queue)
        }
    }

    /// How the error names the call.
    var operation: DemikernelError.Operation {
        switch self {
        case .bind: .bind
        case .listen: .listen
        case .accept: .accept
        case .connect: .connect
        case .shutdownSend, .shutdownReceive, .shutdownBoth: .shutdown
        case .close, .closeToken: .close
        case .localAddress, .peerAddress: .address
        case .setOption, .option: .option
        case .pushArray, .pushBuffer, .pushArrayDiscarded, .pushBufferDiscarded: .push
        case .pushTo, .pushToDiscarded: .pushTo
        case .pop: .pop
        }
    }

    /// What an in-memory queue has nothing of.
    var isForSockets: Bool {
        switch self {
        case .bind, .listen, .accept, .connect, .localAddress, .peerAddress, .setOption, .option, .pushTo, .pushToDiscarded: true
        default: false
        }
    }
}

/// Every call that takes a token.
enum TokenCall: String, CaseIterable, Codable, Sendable {
    case wait, waitWithTimeout, waitAny, waitAll, redeem, cancel, setAdd, setRemove

    func perform(_ runtime: borrowing Runtime, _ token: QueueToken) throws(DemikernelError) {
        switch self {
        case .wait: _ = try runtime.wait(token)
        case .waitWithTimeout: _ = try runtime.wait(token, timeout: .zero)
        case .waitAny: _ = try runtime.waitAny([token].span)
        case .waitAll:
            var batch = CompletionBatch(capacity: 1)
            try runtime.waitAll([token].span, into: &batch)
        case .redeem: _ = try runtime.redeem(token)
        case .cancel: try runtime.cancel(token)
        case .setAdd:
            let set = try runtime.makeWaitSet()
            try set.add(token)
        case .setRemove:
            let set = try runtime.makeWaitSet()
            try set.remove(token)
        }
    }
}
