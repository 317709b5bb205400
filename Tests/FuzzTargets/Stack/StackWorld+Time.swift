import DatapathMemory
import EthernetDevice
import NetworkStack

/// Turns, time, events, and what holds at any moment.
extension StackWorld {
    func letTimePass() throws(FuzzFailure) {
        let choice = input.byte()
        let steps: [UInt64] = [1, 1_000_000, 40_000_000, 200_000_000, 1_000_000_000, 10_000_000_000, 60_000_000_000, 86_400_000_000_000]
        if choice & 0x80 == 0 {
            now += steps[Int(choice & 7)] * UInt64(1 + choice >> 4 & 7)
            stack.advance(to: now)
        } else {
            for _ in 0...(choice & 15) { try reachNextDeadline() }
        }
    }

    private func reachNextDeadline() throws(FuzzFailure) {
        guard let deadline = stack.nextDeadline else { return }
        now = max(now, deadline)
        stack.advance(to: now)
    }

    /// One turn with what has arrived; the device works in batches from then on, or no longer.
    func turn() throws(FuzzFailure) {
        let choice = input.byte()
        batches = choice & 1 == 0
        if choice & 2 != 0 { now += UInt64(choice) << 16 }
        if choice & 16 != 0 { awaitEverything() }
        let capacity = Int(choice >> 2 & 3)
        var failure: FuzzFailure?
        withUnsafeTemporaryAllocation(of: Frame.self, capacity: 8) { frames in
            withUnsafeTemporaryAllocation(of: Delivery.self, capacity: 8) { deliveries in
                for (position, frame) in batch.enumerated() { frames[position] = frame }
                let result = stack.turn(to: now, frames: frames.baseAddress!, count: batch.count, deliveries: deliveries.baseAddress!)
                let delivered = deliveries.prefix(result.endOfDeliveries - deliveries.baseAddress!)
                held += delivered.map(\.payload)
                do throws(FuzzFailure) {
                    try require(delivered.count <= batch.count, "more is delivered than has come")
                    for delivery in delivered { try check(delivery) }
                    for _ in 0..<capacity {
                        guard let event = stack.takeConnectionEvent() else { break }
                        try check(event)
                    }
                } catch { failure = error }
            }
        }
        batch.removeAll(keepingCapacity: true)
        if let failure { throw failure }
    }

    /// Every second socket awaits what comes, the others do not any more.
    private func awaitEverything() {
        for socket in streams where !socket.isListening && !socket.isClosed {
            if socket.owner % 2 == 0 { stack.awaitData(socket.index) } else { stack.stopAwaitingData(socket.index) }
        }
        for socket in datagrams {
            if socket.owner % 2 == 0 { stack.awaitDatagram(socket.index) } else { stack.stopAwaitingDatagram(socket.index) }
        }
    }

    private func check(_ delivery: Delivery) throws(FuzzFailure) {
        if let socket = streams.first(where: { $0.owner == delivery.owner }) {
            try require(!socket.isClosed && delivery.payload.arrayByteCount > 0, "a connection that is closed, or nothing, is delivered")
            try require(stack.receivableByteCount(socket.index) == 0 || batch.count > 1, "bytes overtake those that wait")
        } else {
            try require(datagrams.contains { $0.owner == delivery.owner }, "something is delivered to nobody")
        }
    }

    func takeEvents() throws(FuzzFailure) {
        var count = 0
        while let event = stack.takeConnectionEvent() {
            try check(event)
            count += 1
            try require(count <= 12, "a connection has more than one event")
        }
        while let event = stack.takeDatagramEvent() {
            try require(datagrams.contains { $0.index == event.socket && $0.owner == event.owner }, "an event is told to nobody")
            count += 1
            try require(count <= 16, "a socket has more than one event")
        }
    }

    private func check(_ event: ConnectionEvent) throws(FuzzFailure) {
        guard let socket = streams.first(where: { $0.owner == event.owner }) else { throw FuzzFailure(description: "an event is told to nobody") }
        try require(socket.index == event.connection, "an event is of another connection")
        if event.events.contains(.closed) { try require(stack.connectionState(socket.index) == .closed, "a connection is said to be gone and is not") }
    }

    /// What holds whatever has happened.
    func checkState() throws(FuzzFailure) {
        let statistics = stack.statistics
        try require(statistics.connections <= 12 && statistics.datagramSockets <= 4 && statistics.neighbors <= 6, "a limit is exceeded")
        for socket in streams where !socket.isListening {
            // The window is rounded up to what its scale can tell.
            let limit = StackWorld.maximumReceiveBuffer + (1 << StackWorld.windowScale) - 1
            let count = stack.receivableByteCount(socket.index)
            try require(count <= limit, "more is received than the largest window has room for: \(count) bytes")
        }
        try require(heap.usedByteCount <= heapByteCount, "the heap is over its limit")
    }

    /// Ends all sockets and lets all timers run: then no connection and no block of memory may be left.
    func becomeQuiet() throws(FuzzFailure) {
        for array in held { array.releaseArray() }
        held = []
        for socket in streams {
            if !socket.isClosed { if socket.owner % 2 == 0 { stack.close(socket.index) } else { stack.abort(socket.index) } }
            stack.release(socket.index)
        }
        streams = []
        for socket in datagrams { stack.closeDatagram(socket.index) }
        datagrams = []
        var turns = 0
        while true {
            try takeAllOutput()
            try takeEvents()
            let statistics = stack.statistics
            if statistics.connections == 0 && heap.usedByteCount == 0 { break }
            let rest = "\(statistics.connections) connections, \(heap.usedByteCount) bytes"
            try require(stack.nextDeadline != nil, "something is left, and nothing will end it: \(rest)")
            try reachNextDeadline()
            turns += 1
            try require(turns < 5_000, "something is never over: \(rest)")
        }
        try require(heap.statistics.liveSegments == 0, "descriptors are left")
    }
}
