/// What carries a load generator's requests. The generator is the same for every transport, so that two of them can be compared.
///
/// All calls are non-blocking; a transport is driven by one thread that spins.
protocol LoadTransport: ~Copyable {
    var connectionCount: Int { get }

    /// Whether a receive returns exactly one message as the peer sent it (UDP), or the next bytes of a stream (TCP).
    var keepsBoundaries: Bool { get }

    /// Writes the connections that may have something to receive into `ready` and returns their number. It may name one that has nothing.
    mutating func poll(into ready: UnsafeMutableBufferPointer<Int32>) -> Int

    /// Sends from the front of `bytes`; returns how many were taken, 0 when the connection is full at the moment.
    mutating func send(_ bytes: UnsafeRawBufferPointer, on connection: Int) throws(CommandFailure) -> Int

    /// Receives into `buffer`; returns the number of bytes, or nil when there is nothing at the moment. The peer's end of stream is thrown.
    mutating func receive(into buffer: UnsafeMutableRawBufferPointer, on connection: Int) throws(CommandFailure) -> Int?
}
