extension KeyValueStore {
    /// Bytes of the replies to one batch of another shard's, or to requests that wait with such a batch for their turn; beyond, the connection is closed.
    static let maximumGatheredReplyLength = 64 << 20

    /// Executes a batch that another shard has handed over, and adds to `replies` what it waits for: for each request the length of the reply, and the reply.
    /// - Returns: false when the replies are larger than the limit; then they are of no use.
    public mutating func answer(
        _ requests: UnsafeRawBufferPointer, into replies: UnsafeMutablePointer<GrowingBytes>, now: UInt64
    ) -> Bool {
        var position = 0
        while position < requests.count {
            let header = requests.baseAddress! + position
            let byteCount = Int(header.loadUnaligned(fromByteOffset: 4, as: UInt32.self))
            var client = ClientState(identifier: 0)
            client.database = Int(header.load(as: UInt8.self))
            client.protocolVersion = Int(header.load(fromByteOffset: 1, as: UInt8.self))
            let start = replies.pointee.count
            replies.pointee.append(word: 0)
            switch BatchedRequest.Kind(rawValue: header.load(fromByteOffset: 2, as: UInt8.self)) {
            case .command, nil:
                var output = replies.makeOutput(usesRESP3: client.protocolVersion == 3)
                let request = UnsafeRawBufferPointer(start: header + BatchedRequest.headerByteCount, count: byteCount)
                _ = process(input: request, client: &client, replies: &output, now: now)
                if output.isRefused { return false }
                replies.finish(output)
            case .summary:
                withUnsafeBytes(of: summary) { replies.pointee.append($0) }
            }
            replies.pointee.set(word: UInt32(replies.pointee.count - start - 4), at: start)
            position += BatchedRequest.headerByteCount + byteCount
        }
        return true
    }
}
