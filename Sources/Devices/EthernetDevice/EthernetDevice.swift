import DatapathMemory

/// One queue pair of an Ethernet device, as a network stack sees it: C-convention functions and a context.
///
/// A call on a batch costs one indirect call and no reference counting. The handle is as cheap to copy as its words; the device lives until `close`,
/// after which no copy of the handle may be used. A device belongs to one thread. No function blocks.
///
/// A device comes in four parts:
/// - admin: `capabilities`, `close`;
/// - memory: `attach`;
/// - submission: `transmit`;
/// - completion: `receive`, which also reclaims what was transmitted; `prepareToSleep` and `statistics` belong to it.
///
/// Every function gets `context` first. Raw pointers point to the Swift type that the comment names, valid during the call (C convention cannot name
/// Swift types); the typed methods below do the binding, and are what callers use.
@frozen
public struct EthernetDevice {
    public typealias Context = UnsafeMutableRawPointer

    public var context: UnsafeMutableRawPointer
    /// Takes the first n of `count` frames (an array of `Frame`), in order, and returns n; the others stay the caller's.
    public var transmitFunction: @convention(c) (_ context: Context, _ frames: UnsafeMutableRawPointer, _ count: Int32) -> Int32
    /// Writes up to `capacity` frames (an array of `Frame`) that the caller then owns, and returns how many.
    public var receiveFunction: @convention(c) (_ context: Context, _ frames: UnsafeMutableRawPointer, _ capacity: Int32) -> Int32
    /// Arms the wake-up; returns the descriptor to sleep on, `nothingToAwait`, or `cannotWake`.
    public var prepareToSleepFunction: @convention(c) (_ context: Context) -> Int32
    /// Takes the heap (a `DatapathHeap`) that received frames come from; returns 0 or a positive errno.
    public var attachFunction: @convention(c) (_ context: Context, _ heap: UnsafeRawPointer) -> Int32
    /// Writes the counts to `into`, an initialised `DeviceStatistics`.
    public var statisticsFunction: @convention(c) (_ context: Context, _ into: UnsafeMutableRawPointer) -> Void
    /// Releases every frame that the device holds, and the device.
    public var closeFunction: @convention(c) (_ context: Context) -> Void

    /// What kind of device this is.
    public var name: StaticString
    public var capabilities: DeviceCapabilities

    /// From `prepareToSleep`: no wake-up can be had, so the sleep is capped.
    @inlinable
    public static var cannotWake: Int32 { -1 }
    /// From `prepareToSleep`: nothing can arrive.
    @inlinable
    public static var nothingToAwait: Int32 { -2 }

    public init(
        name: StaticString, context: UnsafeMutableRawPointer, capabilities: DeviceCapabilities,
        close: @escaping @convention(c) (Context) -> Void,
        attach: @escaping @convention(c) (Context, UnsafeRawPointer) -> Int32,
        transmit: @escaping @convention(c) (Context, UnsafeMutableRawPointer, Int32) -> Int32,
        receive: @escaping @convention(c) (Context, UnsafeMutableRawPointer, Int32) -> Int32,
        prepareToSleep: @escaping @convention(c) (Context) -> Int32,
        statistics: @escaping @convention(c) (Context, UnsafeMutableRawPointer) -> Void
    ) {
        self.name = name
        self.context = context
        self.capabilities = capabilities
        closeFunction = close
        attachFunction = attach
        transmitFunction = transmit
        receiveFunction = receive
        prepareToSleepFunction = prepareToSleep
        statisticsFunction = statistics
    }
}

extension EthernetDevice {
    /// Ends the device: it releases every frame that it holds. No copy of the handle may be used after it.
    public func close() {
        closeFunction(context)
    }

    /// Gives the device the heap whose blocks received frames come from; the device registers the heap's arenas where it needs to.
    ///
    /// Once for a device, before the first `receive`. The heap must outlive the device.
    /// - Throws: `EBUSY` when a heap was attached before; what the device refused the memory with.
    public func attach(_ heap: DatapathHeap) throws(DemikernelError) {
        let error = withUnsafePointer(to: heap) { attachFunction(context, $0) }
        if error != 0 { throw DemikernelError(error, .initialize, "the device refused the heap") }
    }

    /// Takes the first frames of the batch, in order; those taken are the device's, which releases them when they are sent. The others stay the
    /// caller's: the device has no room now.
    ///
    /// A frame that cannot be sent at all (longer than `maximumFrameByteCount`, shorter than an Ethernet header) is taken, dropped and counted. A
    /// frame has at most `maximumTransmitSegments` segments, and asks in its `frameFlags` for no more than `capabilities.offloads`.
    /// - Returns: how many frames were taken.
    @inlinable
    public func transmit(_ frames: UnsafeMutablePointer<Frame>, count: Int) -> Int {
        Int(transmitFunction(context, UnsafeMutableRawPointer(frames), Int32(truncatingIfNeeded: count)))
    }

    /// Takes one frame.
    /// - Returns: false when the device has no room; the frame then stays the caller's.
    @inlinable
    public func transmit(_ frame: Frame) -> Bool {
        var frame = frame
        return withUnsafeMutablePointer(to: &frame) { transmitFunction(context, UnsafeMutableRawPointer($0), 1) } == 1
    }

    /// Writes up to `capacity` received frames to `frames`, in the order of their arrival; they are the caller's. Also reclaims what was transmitted,
    /// so that it has to be called now and then by one who only transmits, too.
    ///
    /// A received frame has one segment. Its block may be shared (with the sender of an in-memory link): who wants to write into it asks
    /// `isSoleOwner` first.
    /// - Returns: how many frames were written.
    @inlinable
    public func receive(_ frames: UnsafeMutablePointer<Frame>, capacity: Int) -> Int {
        Int(receiveFunction(context, UnsafeMutableRawPointer(frames), Int32(truncatingIfNeeded: capacity)))
    }

    /// Arms the wake-up.
    /// - Returns: a descriptor that is readable when `receive` would return something; `cannotWake` when there is none, so that the sleep has to be
    ///   capped; `nothingToAwait` when nothing can arrive while the caller sleeps. Frames that arrived before are not told: poll once more.
    @inlinable
    public func prepareToSleep() -> Int32 {
        prepareToSleepFunction(context)
    }

    /// The counts since the device was made.
    public var statistics: DeviceStatistics {
        var statistics = DeviceStatistics()
        withUnsafeMutablePointer(to: &statistics) { statisticsFunction(context, $0) }
        return statistics
    }
}
