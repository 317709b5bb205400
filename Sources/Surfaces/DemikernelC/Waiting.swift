import CDemikernel
import DatapathMemory
import Glibc
import QueueRuntime

// Waiting for operations.

@c @implementation
public func demi_wait(_ qr_out: UnsafeMutablePointer<demi_qresult_t>?, _ qt: demi_qtoken_t, _ timeout: UnsafePointer<timespec>?) -> Int32 {
    guard let thread = CurrentRuntime.enter() else { return CurrentRuntime.refusal() }
    // What has completed is taken without a stack frame; all else is one call at the end.
    let core = thread.state.pointee.runtime.core
    guard let qr_out, thread.state.pointee.arrays.hasFreeEntry, let slot = core.slotAtOnce(QueueToken(rawValue: qt)) else {
        return thread.waitSlowly(qr_out, qt, timeout)
    }
    switch core.redeemAtOnce(slot) {
    case .popped(let queue, let array): thread.writePop(queue, qt, array, to: qr_out)
    case .pushed(let queue): thread.writePush(queue, qt, to: qr_out)
    case .none: return timeout == nil ? thread.waitOneTurn(qr_out, qt, slot) : thread.waitSlowly(qr_out, qt, timeout)
    }
    thread.leave()
    return 0
}

@c @implementation
public func demi_wait_any(
    _ qr_out: UnsafeMutablePointer<demi_qresult_t>?, _ ready_offset: UnsafeMutablePointer<Int32>?, _ qts: UnsafePointer<demi_qtoken_t>?,
    _ num_qts: Int32, _ timeout: UnsafePointer<timespec>?
) -> Int32 {
    guard let thread = CurrentRuntime.enter() else { return CurrentRuntime.refusal() }
    guard let qr_out, let ready_offset else { return thread.refuse(EINVAL, CurrentRuntime.nullPointer) }
    guard thread.state.pointee.arrays.hasRoom else { return thread.refuse(ENOBUFS, CurrentRuntime.tooManyArrays) }
    do throws(DemikernelError) {
        let tokens = try CurrentRuntime.tokens(qts, num_qts)
        let completion = try thread.state.pointee.runtime.waitAny(tokens.span, timeout: try CurrentRuntime.duration(timeout))
        UnsafeMutableRawPointer(ready_offset).storeBytes(of: Int32(truncatingIfNeeded: completion.index), as: Int32.self)
        thread.write(completion, to: qr_out)
    } catch {
        return thread.refuse(error)
    }
    thread.leave()
    return 0
}

@c @implementation
public func demi_wait_all(
    _ qrs_out: UnsafeMutablePointer<demi_qresult_t>?, _ qts: UnsafePointer<demi_qtoken_t>?, _ num_qts: Int32,
    _ timeout: UnsafePointer<timespec>?
) -> Int32 {
    guard let thread = CurrentRuntime.enter() else { return CurrentRuntime.refusal() }
    guard let qrs_out else { return thread.refuse(EINVAL, CurrentRuntime.nullPointer) }
    let state = thread.state
    do throws(DemikernelError) {
        let tokens = try CurrentRuntime.tokens(qts, num_qts)
        let duration = try CurrentRuntime.duration(timeout)
        guard state.pointee.arrays.room >= tokens.count else { throw DemikernelError(ENOBUFS, .wait, CurrentRuntime.tooManyArrays) }
        try state.pointee.completions.reserve(tokens.count)
        let count = try state.pointee.completions.fill(tokens.count) { (span) throws(DemikernelError) in
            try state.pointee.runtime.waitAll(tokens.span, into: &span, timeout: duration)
        }
        thread.writeAll(count, to: qrs_out)
    } catch {
        return thread.refuse(error)
    }
    thread.leave()
    return 0
}

@c @implementation
public func demi_wait_next_n(
    _ qrs_out: UnsafeMutablePointer<demi_qresult_t>?, _ capacity: Int32, _ num_qrs_out: UnsafeMutablePointer<Int32>?,
    _ timeout: UnsafePointer<timespec>?
) -> Int32 {
    guard let thread = CurrentRuntime.enter() else { return CurrentRuntime.refusal() }
    guard let qrs_out, let num_qrs_out else { return thread.refuse(EINVAL, CurrentRuntime.nullPointer) }
    let countOut = UnsafeMutableRawPointer(num_qrs_out)
    countOut.storeBytes(of: 0, as: Int32.self)
    guard capacity >= 1 else { return thread.refuse(EINVAL, "there is no room for a result") }
    let state = thread.state
    // More than there is room for here are taken by the next call.
    let wanted = min(Int(capacity), state.pointee.arrays.room, CompletionRoom.standardCount)
    guard wanted >= 1 else { return thread.refuse(ENOBUFS, CurrentRuntime.tooManyArrays) }
    do throws(DemikernelError) {
        let duration = try CurrentRuntime.duration(timeout)
        let count = try state.pointee.completions.fill(wanted) { (span) throws(DemikernelError) in
            _ = try state.pointee.runtime.waitNext(into: &span, timeout: duration)
        }
        thread.writeAll(count, to: qrs_out)
        countOut.storeBytes(of: Int32(truncatingIfNeeded: count), as: Int32.self)
    } catch {
        return thread.refuse(error)
    }
    thread.leave()
    return 0
}

@c @implementation
public func demi_cancel(_ qt: demi_qtoken_t) -> Int32 {
    guard let thread = CurrentRuntime.enter() else { return CurrentRuntime.refusal() }
    return thread.finish { (runtime) throws(DemikernelError) in try runtime.cancel(QueueToken(rawValue: qt)) }
}

@c @implementation
public func demi_poll(_ progress_out: UnsafeMutablePointer<Int32>?) -> Int32 {
    guard let thread = CurrentRuntime.enter() else { return CurrentRuntime.refusal() }
    guard let progress_out else { return thread.refuse(EINVAL, CurrentRuntime.nullPointer) }
    UnsafeMutableRawPointer(progress_out).storeBytes(of: thread.state.pointee.runtime.poll() ? 1 : 0, as: Int32.self)
    thread.leave()
    return 0
}

@c @implementation
public func demi_event_fd(_ fd_out: UnsafeMutablePointer<Int32>?) -> Int32 {
    guard let thread = CurrentRuntime.enter() else { return CurrentRuntime.refusal() }
    guard let fd_out else { return thread.refuse(EINVAL, CurrentRuntime.nullPointer) }
    return thread.finish { (runtime) throws(DemikernelError) in
        UnsafeMutableRawPointer(fd_out).storeBytes(of: try runtime.eventDescriptor(), as: Int32.self)
    }
}

extension CurrentRuntime {
    /// As `demi_wait`, for an operation that is pending, and room for a result.
    @inline(never)
    fileprivate func waitOneTurn(_ qr_out: UnsafeMutablePointer<demi_qresult_t>, _ qt: demi_qtoken_t, _ slot: UnsafeMutablePointer<Operation>) -> Int32 {
        switch state.pointee.runtime.core.redeemAfterOneTurn(slot) {
        case .popped(let queue, let array): writePop(queue, qt, array, to: qr_out)
        case .pushed(let queue): writePush(queue, qt, to: qr_out)
        case .none: return waitSlowly(qr_out, qt, nil)
        }
        leave()
        return 0
    }

    /// As `demi_wait`, for all that is not plain.
    @inline(never)
    fileprivate func waitSlowly(_ qr_out: UnsafeMutablePointer<demi_qresult_t>?, _ qt: demi_qtoken_t, _ timeout: UnsafePointer<timespec>?) -> Int32 {
        guard let qr_out else { return refuse(EINVAL, CurrentRuntime.nullPointer) }
        guard state.pointee.arrays.hasRoom else { return refuse(ENOBUFS, CurrentRuntime.tooManyArrays) }
        do throws(DemikernelError) {
            write(try state.pointee.runtime.wait(QueueToken(rawValue: qt), timeout: try CurrentRuntime.duration(timeout)), to: qr_out)
        } catch {
            return refuse(error)
        }
        leave()
        return 0
    }

    /// A timeout; nil for none.
    /// - Throws: `EINVAL` for what is no time.
    @inline(__always)
    fileprivate static func duration(_ timeout: UnsafePointer<timespec>?) throws(DemikernelError) -> Duration? {
        guard let timeout else { return nil }
        let time = UnsafeRawPointer(timeout).loadUnaligned(as: timespec.self)
        guard time.tv_sec >= 0, (0..<1_000_000_000).contains(time.tv_nsec) else { throw noTime }
        return .seconds(time.tv_sec) + .nanoseconds(time.tv_nsec)
    }

    private static let noTime = DemikernelError(EINVAL, .wait, "a timeout has no negative seconds, and nanoseconds from 0 to 999999999")

    /// The tokens of a call.
    /// - Throws: `EINVAL` for a number of tokens that cannot be, or where they lie as no number of 64 bits does.
    @inline(__always)
    fileprivate static func tokens(_ qts: UnsafePointer<demi_qtoken_t>?, _ count: Int32) throws(DemikernelError) -> UnsafeBufferPointer<QueueToken> {
        guard let qts, (1...1 << 20).contains(count), UInt(bitPattern: qts) % 8 == 0 else { throw noTokens }
        // A token is its number.
        return UnsafeBufferPointer(start: UnsafeRawPointer(qts).assumingMemoryBound(to: QueueToken.self), count: Int(count))
    }

    private static let noTokens = DemikernelError(EINVAL, .wait, "the tokens are 1 to 1048576 numbers of 64 bits, aligned as such")

    /// Writes the first completions of the room, which leave it.
    fileprivate func writeAll(_ count: Int, to results: UnsafeMutablePointer<demi_qresult_t>) {
        let first = state.pointee.completions.first
        for index in 0..<count { write((first + index).move(), to: results + index) }
    }
}

/// Memory for the completions of one wait, used again and again. Between two calls there is none in it.
struct CompletionRoom: ~Copyable {
    private(set) var first: UnsafeMutablePointer<Completion>
    private var capacity: Int

    /// The completions that one `demi_wait_next_n` takes at most.
    static let standardCount = 64

    init() {
        capacity = CompletionRoom.standardCount
        first = .allocate(capacity: capacity)
    }

    deinit {
        first.deallocate()
    }

    /// Makes room for so many.
    /// - Throws: `ENOMEM`.
    mutating func reserve(_ count: Int) throws(DemikernelError) {
        guard count > capacity else { return }
        guard let memory = malloc(count * MemoryLayout<Completion>.stride) else {
            throw DemikernelError(ENOMEM, .wait, "there is no memory for so many results")
        }
        first.deallocate()
        first = memory.bindMemory(to: Completion.self, capacity: count)
        capacity = count
    }

    /// Has `body` fill the room.
    /// - Returns: how many completions there are now. The caller moves them out.
    func fill(_ count: Int, _ body: (inout OutputSpan<Completion>) throws(DemikernelError) -> Void) throws(DemikernelError) -> Int {
        let buffer = UnsafeMutableBufferPointer(start: first, count: count)
        var span = unsafe OutputSpan(buffer: buffer, initializedCount: 0)
        // A wait that throws has appended nothing.
        try body(&span)
        return unsafe span.finalize(for: buffer)
    }
}
