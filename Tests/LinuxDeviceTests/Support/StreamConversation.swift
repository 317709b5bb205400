import Demikernel

/// One side of a conversation over a stream, inside a coroutine: bytes are read as many as are wanted, and written as a whole.
struct StreamConversation {
    let connection: QueueDescriptor
    private var rest: [UInt8] = []

    init(_ connection: QueueDescriptor) {
        self.connection = connection
    }

    /// The next `count` bytes; nil where the stream ends before.
    mutating func read(_ count: Int, _ runtime: borrowing Runtime) throws(DemikernelError) -> [UInt8]? {
        while rest.count < count {
            guard let more = try readSome(runtime) else { return nil }
            rest += more
        }
        defer { rest.removeFirst(count) }
        return Array(rest.prefix(count))
    }

    /// Bytes up to and with `end`; nil where the stream ends before.
    mutating func read(through end: [UInt8], _ runtime: borrowing Runtime) throws(DemikernelError) -> [UInt8]? {
        var checked = 0
        while true {
            while checked + end.count <= rest.count {
                if rest[checked..<checked + end.count].elementsEqual(end) { return try read(checked + end.count, runtime) }
                checked += 1
            }
            guard let more = try readSome(runtime) else { return nil }
            rest += more
        }
    }

    /// Drops what comes until the stream ends.
    /// - Returns: how many bytes that was.
    mutating func drain(_ runtime: borrowing Runtime) throws(DemikernelError) -> Int {
        var count = rest.count
        rest = []
        while let array = try runtime.wait(try runtime.pop(connection)).popped() { count += array.byteCount }
        return count
    }

    private func readSome(_ runtime: borrowing Runtime) throws(DemikernelError) -> [UInt8]? {
        guard let array = try runtime.wait(try runtime.pop(connection)).popped() else { return nil }
        var bytes: [UInt8] = []
        for index in 0..<array.segmentCount { array.withUnsafeBytes(ofSegment: index) { bytes += $0 } }
        return bytes
    }

    func write(_ bytes: [UInt8], _ runtime: borrowing Runtime) throws(DemikernelError) {
        var start = 0
        while start < bytes.count {
            let count = min(bytes.count - start, 65_536)
            var buffer = try runtime.allocate(count)
            buffer.withUnsafeMutableBytes { $0.copyBytes(from: bytes[start..<start + count]) }
            try runtime.wait(try runtime.push(connection, buffer)).succeeded()
            start += count
        }
    }
}
