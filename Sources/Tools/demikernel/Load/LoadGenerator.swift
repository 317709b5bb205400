import Glibc
import Histogram

/// Sends a workload over the connections of a transport, checks every reply, and measures latency. One thread, which spins.
struct LoadGenerator<Transport: LoadTransport & ~Copyable>: ~Copyable {
    private var transport: Transport
    private var workload: Workload
    private let plan: LoadPlan
    private let connections: UnsafeMutableBufferPointer<LoadConnection>
    private let ready: UnsafeMutableBufferPointer<Int32>
    private let receiveBuffer: UnsafeMutableRawBufferPointer
    /// Connections whose output the kernel did not take whole.
    private var blockedConnections = 0
    private var result = RoundResult()

    /// Outstanding requests of a preload, on one connection.
    private static var preloadPipeline: Int { 64 }
    /// A server that sends nothing for this long has failed.
    private static var patience: UInt64 { 5_000_000_000 }
    /// After a round, this long is waited for the replies that are still due.
    private static var drainTime: UInt64 { 1_000_000_000 }
    /// A datagram that has not come back after this long is lost.
    private static var datagramTimeout: UInt64 { 200_000_000 }

    init(_ transport: consuming Transport, workload: consuming Workload, plan: LoadPlan) {
        let count = transport.connectionCount
        let outstanding = max(plan.outstandingLimit, Self.preloadPipeline)
        let request = workload.largestRequest
        // One message of unsent datagrams, a megabyte or the pipeline of unsent stream: what does not fit waits in the schedule.
        let capacity = transport.keepsBoundaries ? request : max(2 * request, min(outstanding * request, 1 << 20))
        connections = .allocate(capacity: count)
        for index in 0..<count {
            connections.initializeElement(at: index, to: LoadConnection(outstandingLimit: outstanding, outputCapacity: capacity))
        }
        ready = .allocate(capacity: count)
        receiveBuffer = .allocate(byteCount: 256 * 1024, alignment: 64)
        self.transport = transport
        self.workload = workload
        self.plan = plan
    }

    deinit {
        for connection in connections { connection.deallocate() }
        connections.deallocate()
        ready.deallocate()
        receiveBuffer.deallocate()
    }

    var needsPreload: Bool { workload.needsPreload }

    /// Writes every key of a key-value workload once.
    mutating func preload() throws(CommandFailure) {
        workload.beginPreload()
        defer { workload.beginMeasurement() }
        result = RoundResult()
        var lastReply = MonotonicClock.now()
        try refill(0, pipeline: Self.preloadPipeline)
        while !connections[0].pending.isEmpty {
            // What a transport receives only comes when it is polled, but which connections it names does not matter here.
            _ = transport.poll(into: ready)
            let now = MonotonicClock.now()
            if try receiveAll(0, now: now) {
                lastReply = now
                try refill(0, pipeline: Self.preloadPipeline)
            }
            try flushBlocked()
            try checkPatience(since: lastReply, now: now)
            if Interruption.isRequested { return }
        }
        if result.wrong > 0 {
            throw CommandFailure("the server refused \(result.wrong) of the keys written before the measurement: \(result.firstWrong ?? "")")
        }
    }

    /// Sends load for `duration` nanoseconds, waits for the last replies and returns what was seen.
    mutating func run(for duration: UInt64) throws(CommandFailure) -> RoundResult {
        result = RoundResult()
        switch plan {
        case .closedLoop(let pipeline): try runClosedLoop(pipeline, duration)
        case .openLoop(let rate): try runOpenLoop(rate, duration)
        }
        return result
    }

    // MARK: Closed loop

    private mutating func runClosedLoop(_ pipeline: Int, _ duration: UInt64) throws(CommandFailure) {
        let start = MonotonicClock.now()
        let end = start + duration
        var now = start
        var lastReply = start
        var idlePolls = 0
        for index in connections.indices { try refill(index, pipeline: pipeline) }

        while now < end {
            let count = transport.poll(into: ready)
            var anything = false
            for position in 0..<count {
                let index = Int(ready[position])
                if try receiveAll(index, now: nil) {
                    anything = true
                    try refill(index, pipeline: pipeline)
                }
            }
            // Reading the clock on every empty poll would only slow the next look at the socket down.
            idlePolls += 1
            if anything || idlePolls >= 64 {
                now = MonotonicClock.now()
                idlePolls = 0
                if anything { lastReply = now }
                if blockedConnections > 0 { try flushBlocked() }
                if Interruption.isRequested { break }
                if !anything {
                    if transport.keepsBoundaries { try dropLost(now) { generator, index throws(CommandFailure) in try generator.refill(index, pipeline: pipeline) } }
                    try checkPatience(since: lastReply, now: now)
                }
            }
        }
        result.elapsed = now - start
        try drain(schedule: nil, from: 0, to: 0)
    }

    /// Keeps `pipeline` requests outstanding on a connection; those that are added leave together.
    @inline(__always)
    private mutating func refill(_ index: Int, pipeline: Int) throws(CommandFailure) {
        let connection = connections.baseAddress! + index
        let before = connection.pointee.pending.count
        while connection.pointee.pending.count < pipeline {
            guard try appendRequest(connection, index, time: 0) else { break }
        }
        let now = MonotonicClock.now()
        for position in before..<connection.pointee.pending.count { connection.pointee.pending[position].time = now }
        try flush(connection, index)
    }

    // MARK: Open loop

    private mutating func runOpenLoop(_ rate: UInt64, _ duration: UInt64) throws(CommandFailure) {
        let schedule = OpenLoopSchedule(start: MonotonicClock.now(), rate: rate)
        let due = schedule.count(within: duration)
        let end = schedule.start + duration
        var next: UInt64 = 0
        var now = schedule.start
        var lastReply = now

        while now < end {
            try sendDue(schedule, &next, limit: due, now: now)
            let count = transport.poll(into: ready)
            for position in 0..<count where try receiveAll(Int(ready[position]), now: nil) { lastReply = now }
            now = MonotonicClock.now()
            if blockedConnections > 0 { try flushBlocked() }
            if Interruption.isRequested { break }
            if transport.keepsBoundaries { try dropLost(now) { _, _ in } }
            if connections.contains(where: { !$0.pending.isEmpty }) { try checkPatience(since: lastReply, now: now) } else { lastReply = now }
        }
        result.elapsed = now - schedule.start
        try drain(schedule: schedule, from: next, to: Interruption.isRequested ? next : due)
    }

    /// Sends every request that is due and for which a connection has room. The others keep their intended times.
    @inline(__always)
    private mutating func sendDue(_ schedule: OpenLoopSchedule, _ next: inout UInt64, limit: UInt64, now: UInt64) throws(CommandFailure) {
        while next < limit {
            let intended = schedule.intendedTime(of: next)
            guard intended <= now else { return }
            let first = Int(next % UInt64(connections.count))
            var sent = false
            for step in 0..<connections.count {
                let index = (first + step) % connections.count
                let connection = connections.baseAddress! + index
                guard connection.pointee.pending.count < plan.outstandingLimit else { continue }
                guard try appendRequest(connection, index, time: intended) else { continue }
                try flush(connection, index)
                sent = true
                break
            }
            guard sent else { return }
            next += 1
        }
    }

    // MARK: Both

    /// Waits for the replies that are still due, and goes on sending what fell due before the end. What is then still open counts as unanswered, with its age.
    private mutating func drain(schedule: OpenLoopSchedule?, from first: UInt64, to limit: UInt64) throws(CommandFailure) {
        var next = first
        let completed = result.completed
        let start = MonotonicClock.now()
        var now = start
        while now - start < Self.drainTime, next < limit || connections.contains(where: { !$0.pending.isEmpty }) {
            if let schedule { try sendDue(schedule, &next, limit: limit, now: now) }
            let count = transport.poll(into: ready)
            for position in 0..<count { _ = try receiveAll(Int(ready[position]), now: nil) }
            if blockedConnections > 0 { try flushBlocked() }
            now = MonotonicClock.now()
        }
        result.completed = completed
        if let schedule {
            for index in next..<max(next, limit) {
                result.record(latency: now - schedule.intendedTime(of: index))
                result.unanswered += 1
            }
        }
        for index in connections.indices {
            for position in 0..<connections[index].pending.count where connections[index].pending[position].time != 0 {
                result.record(latency: now - connections[index].pending[position].time)
                result.unanswered += 1
                connections[index].pending[position].time = 0
            }
            // A lost datagram would hold the place of a request for ever.
            if transport.keepsBoundaries {
                while !connections[index].pending.isEmpty { connections[index].pending.removeFirst() }
            }
        }
    }

    /// Adds the workload's next request to a connection; false when there is none or no room.
    @inline(__always)
    private mutating func appendRequest(
        _ connection: UnsafeMutablePointer<LoadConnection>, _ index: Int, time: UInt64
    ) throws(CommandFailure) -> Bool {
        // Room for the larger kind, before the workload is asked: what it has given out cannot be put back.
        if transport.keepsBoundaries {
            if connection.pointee.hasOutput { try flush(connection, index) }
            guard !connection.pointee.hasOutput else { return false }
        } else if !connection.pointee.makeRoom(for: workload.largestRequest) {
            return false
        }
        guard let (isSecond, stamp) = workload.next() else { return false }
        let destination = connection.pointee.output + connection.pointee.outputEnd
        if isSecond {
            workload.second.writeRequest(stamp: stamp, to: destination)
            connection.pointee.outputEnd += workload.second.request.count
        } else {
            workload.first.writeRequest(stamp: stamp, to: destination)
            connection.pointee.outputEnd += workload.first.request.count
        }
        connection.pointee.pending.append(PendingRequest(stamp: stamp, time: time, isSecond: isSecond))
        return true
    }

    @inline(__always)
    private mutating func flush(_ connection: UnsafeMutablePointer<LoadConnection>, _ index: Int) throws(CommandFailure) {
        let start = connection.pointee.outputStart
        let count = connection.pointee.outputEnd - start
        guard count > 0 else { return }
        let taken = try transport.send(UnsafeRawBufferPointer(start: connection.pointee.output + start, count: count), on: index)
        if taken == count {
            connection.pointee.outputStart = 0
            connection.pointee.outputEnd = 0
        } else {
            connection.pointee.outputStart = start + taken
            blockedConnections += 1
        }
    }

    private mutating func flushBlocked() throws(CommandFailure) {
        guard blockedConnections > 0 else { return }
        blockedConnections = 0
        for index in connections.indices { try flush(connections.baseAddress! + index, index) }
    }

    private func checkPatience(since lastReply: UInt64, now: UInt64) throws(CommandFailure) {
        if now > lastReply + Self.patience { throw CommandFailure("the server has not answered for \(Self.patience / 1_000_000_000) seconds") }
    }

    // MARK: Replies

    /// Receives what a connection has and checks it. Returns whether anything came.
    @inline(__always)
    private mutating func receiveAll(_ index: Int, now: UInt64?) throws(CommandFailure) -> Bool {
        var anything = false
        while let count = try transport.receive(into: receiveBuffer, on: index) {
            anything = true
            let time = MonotonicClock.now()
            let bytes = UnsafeRawBufferPointer(rebasing: receiveBuffer[..<count])
            if transport.keepsBoundaries {
                receivedDatagram(bytes, connections.baseAddress! + index, time)
            } else {
                try receivedBytes(bytes, connections.baseAddress! + index, time)
                // A short receive emptied the socket: asking again would cost a system call to hear so.
                if count < receiveBuffer.count { break }
            }
        }
        return anything
    }

    @inline(__always)
    private mutating func finish(_ request: PendingRequest, _ connection: UnsafeMutablePointer<LoadConnection>, _ time: UInt64) {
        connection.pointee.pending.removeFirst()
        connection.pointee.replyOffset = 0
        if request.time != 0 {
            result.record(latency: time &- request.time)
            result.completed += 1
        }
    }

    @inline(__always)
    private mutating func receivedBytes(
        _ bytes: UnsafeRawBufferPointer, _ connection: UnsafeMutablePointer<LoadConnection>, _ time: UInt64
    ) throws(CommandFailure) {
        var position = 0
        while position < bytes.count {
            guard !connection.pointee.pending.isEmpty else {
                throw CommandFailure("the server sent \(bytes.count - position) bytes that nothing asked for: \(Self.excerpt(bytes[position...]))")
            }
            let request = connection.pointee.pending[0]
            if connection.pointee.skipBytes > 0 || connection.pointee.skipsLine {
                position += skip(UnsafeRawBufferPointer(rebasing: bytes[position...]), connection, request, time)
                continue
            }
            let offset = connection.pointee.replyOffset
            let expected = request.isSecond ? workload.second.reply.count : workload.first.reply.count
            let count = min(expected - offset, bytes.count - position)
            let chunk = UnsafeRawBufferPointer(rebasing: bytes[position..<position + count])
            let matches =
                request.isSecond
                ? workload.second.matches(chunk, stamp: request.stamp, offset: offset)
                : workload.first.matches(chunk, stamp: request.stamp, offset: offset)
            if matches {
                position += count
                connection.pointee.replyOffset = offset + count
                if offset + count == expected { finish(request, connection, time) }
            } else {
                try beginSkip(UnsafeRawBufferPointer(rebasing: bytes[position...]), connection, request)
            }
        }
    }

    /// Counts a wrong reply and finds out where it ends, or gives up when that cannot be known.
    private mutating func beginSkip(
        _ bytes: UnsafeRawBufferPointer, _ connection: UnsafeMutablePointer<LoadConnection>, _ request: PendingRequest
    ) throws(CommandFailure) {
        let reply = UnsafeRawBufferPointer(request.isSecond ? workload.second.reply : workload.first.reply)
        let header = request.isSecond ? workload.second.replyHeaderCount : workload.first.replyHeaderCount
        let offset = connection.pointee.replyOffset
        let seen = Array(reply[..<offset]) + Array(bytes.prefix(reply.count - offset + 512))
        result.wrong += 1
        if result.firstWrong == nil { result.firstWrong = Self.excerpt(seen[...]) }

        if header < reply.count, seen.count >= header, seen[..<header].elementsEqual(reply[..<header]) {
            connection.pointee.skipBytes = reply.count - offset
            return
        }
        // An error, a status, an integer, or a null bulk: one line.
        let isLine = seen[0] == UInt8(ascii: "-") || seen[0] == UInt8(ascii: "+") || seen[0] == UInt8(ascii: ":") || seen[0] == UInt8(ascii: "_")
        let isNull = seen.starts(with: "$-".utf8) || seen.starts(with: "*-".utf8)
        guard workload.hasLineReplies, isLine || isNull else {
            throw CommandFailure("wrong reply, after which the stream cannot be followed: \(Self.excerpt(seen[...]))")
        }
        connection.pointee.skipsLine = true
    }

    /// Takes bytes of a wrong reply off the stream; returns how many.
    private mutating func skip(
        _ bytes: UnsafeRawBufferPointer, _ connection: UnsafeMutablePointer<LoadConnection>, _ request: PendingRequest, _ time: UInt64
    ) -> Int {
        if connection.pointee.skipsLine {
            guard let end = bytes.firstIndex(of: UInt8(ascii: "\n")) else { return bytes.count }
            connection.pointee.skipsLine = false
            finish(request, connection, time)
            return end + 1
        }
        let count = min(connection.pointee.skipBytes, bytes.count)
        connection.pointee.skipBytes -= count
        if connection.pointee.skipBytes == 0 { finish(request, connection, time) }
        return count
    }

    /// A datagram answers the oldest request it matches; those before it were lost on the way.
    private mutating func receivedDatagram(_ bytes: UnsafeRawBufferPointer, _ connection: UnsafeMutablePointer<LoadConnection>, _ time: UInt64) {
        for position in 0..<connection.pointee.pending.count {
            let request = connection.pointee.pending[position]
            guard bytes.count == workload.first.reply.count, workload.first.matches(bytes, stamp: request.stamp, offset: 0) else { continue }
            for _ in 0..<position {
                connection.pointee.pending.removeFirst()
                result.lost += 1
            }
            finish(request, connection, time)
            return
        }
        // Nothing is said about an answer that comes after its request was given up; anything else of the right length is wrong.
        if !connection.pointee.pending.isEmpty || bytes.count != workload.first.reply.count {
            result.wrong += 1
            if result.firstWrong == nil { result.firstWrong = Self.excerpt(bytes[...]) }
        }
    }

    /// Gives up datagrams that have been out for too long, and lets `replace` send others.
    private mutating func dropLost(
        _ now: UInt64, replace: (inout LoadGenerator, Int) throws(CommandFailure) -> Void
    ) throws(CommandFailure) {
        for index in connections.indices {
            var dropped = false
            while !connections[index].pending.isEmpty, connections[index].pending[0].time + Self.datagramTimeout < now {
                result.record(latency: now - connections[index].pending[0].time)
                connections[index].pending.removeFirst()
                result.lost += 1
                dropped = true
            }
            if dropped { try replace(&self, index) }
        }
    }

    private static func excerpt(_ bytes: some Collection<UInt8>) -> String {
        let text = bytes.prefix(80).map { byte -> String in
            switch byte {
            case 0x0D: "\\r"
            case 0x0A: "\\n"
            case 0x20...0x7E: String(UnicodeScalar(byte))
            default: "\\x" + (byte < 16 ? "0" : "") + String(byte, radix: 16)
            }
        }
        return "\"" + text.joined() + (bytes.count > 80 ? "…" : "") + "\""
    }
}
