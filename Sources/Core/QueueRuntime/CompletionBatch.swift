import DatapathMemory

/// Room for the completions of one wait, made once and used again: `waitNext(into:)` fills it, `next()` empties it in order.
///
///     var batch = CompletionBatch(capacity: 64)
///     while true {
///         try runtime.waitNext(into: &batch)
///         while let completion = batch.next() { handle(completion) }
///     }
public struct CompletionBatch: ~Copyable {
    private let storage: UnsafeMutableBufferPointer<Completion>
    // Elements from `head` up to `end` are initialised.
    private var head = 0
    private var end = 0

    /// - Parameter capacity: the most completions that one wait gives; at least 1.
    public init(capacity: Int) {
        precondition(capacity > 0, "a batch has room for one completion at least")
        storage = .allocate(capacity: capacity)
    }

    deinit {
        for index in head..<end { (storage.baseAddress! + index).deinitialize(count: 1) }
        storage.deallocate()
    }

    /// Completions not yet taken.
    public var count: Int { end - head }

    /// The oldest completion, which leaves the batch; nil when it is empty.
    public mutating func next() -> Completion? {
        guard head < end else { return nil }
        defer { head += 1 }
        return (storage.baseAddress! + head).move()
    }

    /// Drops what was not taken and lets `body` fill the batch anew.
    mutating func fill<Failure: Error>(_ body: (inout OutputSpan<Completion>) throws(Failure) -> Void) throws(Failure) {
        while next() != nil {}
        head = 0
        end = 0
        var span = unsafe OutputSpan(buffer: storage, initializedCount: 0)
        do throws(Failure) {
            try body(&span)
        } catch {
            end = unsafe span.finalize(for: storage)
            throw error
        }
        end = unsafe span.finalize(for: storage)
    }
}

extension Runtime {
    /// `waitNext(into:timeout:)` over a batch; what was left in it is dropped.
    /// - Throws: as `waitNext(into:timeout:)` over a span.
    public func waitNext(into batch: inout CompletionBatch, timeout: Duration? = nil) throws(DemikernelError) {
        try batch.fill { (span) throws(DemikernelError) in _ = try waitNext(into: &span, timeout: timeout) }
    }

    /// `waitAll(_:into:timeout:)` over a batch; what was left in it is dropped.
    /// - Throws: as `waitAll(_:into:timeout:)` over a span.
    public func waitAll(
        _ tokens: Span<QueueToken>, into batch: inout CompletionBatch, timeout: Duration? = nil
    ) throws(DemikernelError) {
        try batch.fill { (span) throws(DemikernelError) in try waitAll(tokens, into: &span, timeout: timeout) }
    }
}

extension WaitSet {
    /// `wait(into:timeout:)` over a batch; what was left in it is dropped.
    /// - Throws: as `wait(into:timeout:)` over a span.
    public func wait(into batch: inout CompletionBatch, timeout: Duration? = nil) throws(DemikernelError) {
        try batch.fill { (span) throws(DemikernelError) in _ = try wait(into: &span, timeout: timeout) }
    }
}
