import Glibc

/// The state of one connection of a load generator. A plain value in an array of the generator, which owns its memory.
struct LoadConnection {
    var pending: PendingRing
    /// How much of the reply to the oldest pending request has come.
    var replyOffset = 0
    /// The rest of a wrong reply: bytes still to be skipped, or a line to be skipped to its end.
    var skipBytes = 0
    var skipsLine = false

    /// Requests that the kernel has not taken yet: `[outputStart, outputEnd)`.
    let output: UnsafeMutableRawPointer
    let outputCapacity: Int
    var outputStart = 0
    var outputEnd = 0

    init(outstandingLimit: Int, outputCapacity: Int) {
        pending = PendingRing(capacity: outstandingLimit)
        output = .allocate(byteCount: outputCapacity, alignment: 64)
        self.outputCapacity = outputCapacity
    }

    func deallocate() {
        pending.deallocate()
        output.deallocate()
    }

    @inline(__always) var hasOutput: Bool { outputStart < outputEnd }

    /// Moves what is left to the front when `count` more bytes would not fit; returns whether they do now.
    @inline(__always)
    mutating func makeRoom(for count: Int) -> Bool {
        if outputCapacity - outputEnd >= count { return true }
        memmove(output, output + outputStart, outputEnd - outputStart)
        outputEnd -= outputStart
        outputStart = 0
        return outputCapacity - outputEnd >= count
    }
}
