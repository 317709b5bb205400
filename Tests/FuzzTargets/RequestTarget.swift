import KeyValueStore

/// The first byte says how the requests behind it are cut into the pieces that arrive, and how much room there is for replies. However that is, the
/// replies and the end of the connection are the same as if all had arrived at once.
func fuzzRequests(_ input: UnsafeRawBufferPointer) throws(FuzzFailure) {
    guard let cut = input.first else { return }
    let requests = input.part(1..<input.count)
    let whole = RequestSession().run(requests, pieceByteCount: max(requests.count, 1), highWaterMark: .max)
    let pieceByteCount = 1 + Int(cut & 15) * Int(cut & 15)
    let pieces = RequestSession().run(requests, pieceByteCount: pieceByteCount, highWaterMark: cut & 16 == 0 ? .max : 1 + Int(cut >> 5) * 64)
    try require(pieces == whole, "requests that arrive in pieces have other replies")
}

/// A store with one connection.
private final class RequestSession {
    struct Outcome: Equatable {
        var replies: [UInt8] = []
        var isClosed = false
        var unusedByteCount = 0
    }

    private static let roomByteCount = 1_024
    private var store: KeyValueStore
    private var client = ClientState(identifier: 1)
    private var outcome = Outcome()
    private let room = UnsafeMutableRawBufferPointer.allocate(byteCount: roomByteCount, alignment: 16)

    init() {
        var limits = KeyValueStore.Limits()
        limits.maximumBulkLength = 4_096
        limits.maximumRequestLength = 16_384
        limits.maximumArguments = 2_048
        limits.maximumInlineLength = 512
        limits.maximumMemory = 64 << 10
        store = KeyValueStore(limits: limits, seed: 1)
    }

    deinit { room.deallocate() }

    func run(_ requests: UnsafeRawBufferPointer, pieceByteCount: Int, highWaterMark: Int) -> Outcome {
        var pending: [UInt8] = []
        var offset = 0
        var output = makeOutput(highWaterMark)
        // A request may wait for bytes that never come: what is there then is the last piece.
        while offset < requests.count && !outcome.isClosed {
            let end = min(offset + pieceByteCount, requests.count)
            pending += requests[offset..<end]
            offset = end
            process(&pending, &output, highWaterMark)
        }
        collect(output.written)
        outcome.unusedByteCount = outcome.isClosed ? 0 : pending.count
        return outcome
    }

    private func process(_ pending: inout [UInt8], _ output: inout ReplyOutput, _ highWaterMark: Int) {
        while true {
            let result = pending.withUnsafeBytes { store.process(input: $0, client: &client, replies: &output, now: 1_700_000_000_000_000_000) }
            pending.removeFirst(result.consumed)
            switch result.next {
            case .needMore: return
            case .outputFull: output.highWaterMark = output.totalWritten + min(highWaterMark, 1 << 40)
            case .close:
                outcome.isClosed = true
                return
            }
        }
    }

    private func collect(_ byteCount: Int) { outcome.replies += room[..<byteCount] }

    private func makeOutput(_ highWaterMark: Int) -> ReplyOutput {
        ReplyOutput(room: room, highWaterMark: highWaterMark, context: Unmanaged.passUnretained(self).toOpaque()) { context, written, capacity in
            let session = Unmanaged<RequestSession>.fromOpaque(context!).takeUnretainedValue()
            session.collect(written)
            capacity.pointee = RequestSession.roomByteCount
            return session.room.baseAddress
        }
    }
}
