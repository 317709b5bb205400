/// What a kernel-socket server does with the bytes of its clients.
protocol KernelService: ~Copyable {
    /// The state of one connection.
    associatedtype Client: AnyObject

    mutating func makeClient() -> Client

    /// Handles what it can of `input` and appends replies to `output`.
    mutating func process(_ input: UnsafeRawBufferPointer, _ client: Client, _ output: inout ByteQueue) -> KernelServiceOutcome
}

struct KernelServiceOutcome {
    enum Next {
        /// Go on when the input, without what was consumed, has at least this many bytes.
        case receive(minimumTotal: Int)
        /// Call again when the output has been sent.
        case send
        /// Send the output, then close.
        case close
    }

    var consumed: Int
    var next: Next
}
