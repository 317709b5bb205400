/// One implementation of PDPIX over one kind of device, as the runtime sees it: C-convention functions and a context.
///
/// An operation costs one indirect call. Every function gets `context` first, and for a socket the `state` that `socket` returned. Functions that
/// return an `Int32` return 0 or a positive errno, with which the call is refused; an operation that was not refused is completed later, or at
/// once, through `RuntimeCore`. No function may block.
///
/// `UnsafeRawPointer` parameters point to the Swift type that their comment names, valid during the call (C convention cannot name Swift types).
public struct LibraryOS {
    /// The name users type.
    public var name: StaticString
    public var context: UnsafeMutableRawPointer

    public typealias Context = UnsafeMutableRawPointer
    /// Takes an array (a `SegmentDescriptor`) for a `SocketAddress` or nil.
    public typealias Push = @convention(c) (_ context: Context, _ state: UInt32, _ array: UnsafeMutableRawPointer, _ address: UnsafeRawPointer?) -> Int32
    public typealias Submit = @convention(c) (_ context: Context, _ state: UInt32, _ operation: UInt32) -> Int32

    /// Makes a socket for the descriptor `queue`; returns its state index, or a negative errno.
    public var socket: @convention(c) (_ context: Context, _ family: UInt8, _ type: UInt8, _ queue: Int32) -> Int64
    /// Binds to a `SocketAddress`.
    public var bind: @convention(c) (_ context: Context, _ state: UInt32, _ address: UnsafeRawPointer) -> Int32
    public var listen: @convention(c) (_ context: Context, _ state: UInt32, _ backlog: Int32) -> Int32
    public var accept: Submit
    public var connect: Submit
    /// Takes over the operation's array unless it refuses. A push that it refuses has done nothing: it may be asked again at once, and says the same.
    public var push: Submit
    /// A push that nobody waits for. Takes over the array unless it refuses.
    public var pushDiscarded: Push
    /// The common case of every push, asked first: takes the array over if the queue takes all of it now. Any other number than 0 says that nothing was
    /// done, for whatever reason; then `push` or `pushDiscarded` is called. It begins no operation. Nil where no push can be so.
    public var pushNow: Push?
    public var pop: Submit
    public var shutdown: @convention(c) (_ context: Context, _ state: UInt32, _ direction: UInt8) -> Int32
    /// Begins the close: cancels what is pending but for issued pushes, and calls `RuntimeCore.finishClose` when the queue is gone. `operation` is
    /// the one that `closeToken` made, or 0.
    public var close: @convention(c) (_ context: Context, _ state: UInt32, _ operation: UInt32) -> Void
    /// Asks for the end of a pending operation, which then completes with `ECANCELED` or with its result.
    public var cancel: @convention(c) (_ context: Context, _ state: UInt32, _ operation: UInt32) -> Void
    /// Writes the local or, if `isPeer`, the peer's `SocketAddress` to `address`.
    public var address: @convention(c) (_ context: Context, _ state: UInt32, _ isPeer: Bool, _ address: UnsafeMutableRawPointer) -> Int32
    /// Sets the option `name` (`SocketOption.Name`) to the two numbers of `SocketOption.encoded`.
    public var setOption: @convention(c) (_ context: Context, _ state: UInt32, _ name: UInt8, _ first: Int64, _ second: Int64) -> Int32
    /// Writes an option's two numbers to `values` (two `Int64`).
    public var option: @convention(c) (_ context: Context, _ state: UInt32, _ name: UInt8, _ values: UnsafeMutableRawPointer) -> Int32
    /// One turn of the fast path; returns how much was done, 0 for nothing. Nil for a library OS that only reacts to calls.
    public var poll: (@convention(c) (_ context: Context) -> Int32)?
    /// Arms the wake-up; returns the descriptor to sleep on, `nothingToAwait`, or `cannotWake`.
    public var prepareToSleep: (@convention(c) (_ context: Context) -> Int32)?
    /// Ends the library OS; its queues are closed already or are dropped.
    public var destroy: @convention(c) (_ context: Context) -> Void
    /// Writes what the library OS has counted to `into`, an `(any MetricSource)?`. Nil for one that counts nothing.
    public var metrics: (@convention(c) (_ context: Context, _ into: UnsafeMutableRawPointer) -> Void)?
    /// Begins to capture the frames of its device as `request`, a `FrameCaptureRequest`, says. Nil for a library OS without frames.
    public var beginCapture: (@convention(c) (_ context: Context, _ request: UnsafeRawPointer) -> Int32)?
    /// Ends that; writes to `into`, a `FrameCaptureEnd`, what could not be written.
    public var endCapture: (@convention(c) (_ context: Context, _ into: UnsafeMutableRawPointer) -> Void)?

    /// From `prepareToSleep`: no wake-up can be had, so the sleep is capped.
    public static let cannotWake: Int32 = -1
    /// From `prepareToSleep`: nothing can arrive.
    public static let nothingToAwait: Int32 = -2

    public init(
        name: StaticString, context: UnsafeMutableRawPointer,
        socket: @escaping @convention(c) (Context, UInt8, UInt8, Int32) -> Int64,
        bind: @escaping @convention(c) (Context, UInt32, UnsafeRawPointer) -> Int32,
        listen: @escaping @convention(c) (Context, UInt32, Int32) -> Int32,
        accept: @escaping Submit, connect: @escaping Submit, push: @escaping Submit,
        pushDiscarded: @escaping Push, pushNow: Push? = nil,
        pop: @escaping Submit,
        shutdown: @escaping @convention(c) (Context, UInt32, UInt8) -> Int32,
        close: @escaping @convention(c) (Context, UInt32, UInt32) -> Void,
        cancel: @escaping @convention(c) (Context, UInt32, UInt32) -> Void,
        address: @escaping @convention(c) (Context, UInt32, Bool, UnsafeMutableRawPointer) -> Int32,
        setOption: @escaping @convention(c) (Context, UInt32, UInt8, Int64, Int64) -> Int32,
        option: @escaping @convention(c) (Context, UInt32, UInt8, UnsafeMutableRawPointer) -> Int32,
        poll: (@convention(c) (Context) -> Int32)?,
        prepareToSleep: (@convention(c) (Context) -> Int32)?,
        destroy: @escaping @convention(c) (Context) -> Void,
        metrics: (@convention(c) (Context, UnsafeMutableRawPointer) -> Void)? = nil,
        beginCapture: (@convention(c) (Context, UnsafeRawPointer) -> Int32)? = nil,
        endCapture: (@convention(c) (Context, UnsafeMutableRawPointer) -> Void)? = nil
    ) {
        self.name = name
        self.context = context
        self.socket = socket
        self.bind = bind
        self.listen = listen
        self.accept = accept
        self.connect = connect
        self.push = push
        self.pushDiscarded = pushDiscarded
        self.pushNow = pushNow
        self.pop = pop
        self.shutdown = shutdown
        self.close = close
        self.cancel = cancel
        self.address = address
        self.setOption = setOption
        self.option = option
        self.poll = poll
        self.prepareToSleep = prepareToSleep
        self.destroy = destroy
        self.metrics = metrics
        self.beginCapture = beginCapture
        self.endCapture = endCapture
    }
}

/// Names a library OS of a runtime, in the order of registration.
@frozen
public struct LibraryOSIdentifier: Hashable, Sendable {
    public let index: Int

    @inlinable
    init(index: Int) {
        self.index = index
    }
}
