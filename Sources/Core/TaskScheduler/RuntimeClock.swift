import CDatapath
import Glibc

/// Where a runtime's time comes from: nanoseconds that never go back, from a function that is injected.
@frozen
public struct RuntimeClock {
    @usableFromInline let function: @convention(c) (UnsafeMutableRawPointer?) -> UInt64
    @usableFromInline let context: UnsafeMutableRawPointer?
    /// Whether the time is the machine's, so that waiting for it can be left to the kernel. Virtual time is moved by whoever injected it.
    public let isRealTime: Bool
    /// Where the time comes from, for `doctor` and statistics.
    public let source: Source

    /// The kinds of clock.
    @frozen
    public enum Source: UInt8, Sendable {
        case cycleCounter, kernel, injected
    }

    /// A clock that asks `function`; it must never go back.
    public init(injected function: @escaping @convention(c) (UnsafeMutableRawPointer?) -> UInt64, context: UnsafeMutableRawPointer?) {
        self.function = function
        self.context = context
        isRealTime = false
        source = .injected
    }

    private init(
        _ function: @escaping @convention(c) (UnsafeMutableRawPointer?) -> UInt64, context: UnsafeMutableRawPointer? = nil, source: Source
    ) {
        self.function = function
        self.context = context
        isRealTime = true
        self.source = source
    }

    /// Nanoseconds of CLOCK_MONOTONIC, or close to it: from the time stamp counter where the processor says that it is invariant and the kernel
    /// lists it among its clock sources, else from the kernel.
    public static func monotonic() -> RuntimeClock {
        // The counter's address goes with the clock: a global that is made on first use would be asked for at every reading.
        let counter = CycleCounter.address
        return counter.pointee.multiplier == 0
            ? RuntimeClock({ _ in demi_monotonic_nanoseconds() }, source: .kernel)
            : RuntimeClock(
                { context in context.unsafelyUnwrapped.assumingMemoryBound(to: CycleCounter.self).pointee.nanoseconds },
                context: counter, source: .cycleCounter)
    }

    /// The time now, in nanoseconds.
    @inlinable
    public var now: UInt64 { function(context) }
}

/// The calibration of the time stamp counter against CLOCK_MONOTONIC, made once a process.
struct CycleCounter {
    let baseCycles: UInt64
    let baseNanoseconds: UInt64
    /// Nanoseconds a cycle, 32.32 fixed point; 0 where the counter cannot be used.
    let multiplier: UInt64

    static var shared: CycleCounter { address.pointee }

    // Written once, before anyone has the address, and never freed.
    nonisolated(unsafe) static let address: UnsafeMutablePointer<CycleCounter> = {
        let counter = UnsafeMutablePointer<CycleCounter>.allocate(capacity: 1)
        counter.initialize(to: CycleCounter())
        return counter
    }()

    var nanoseconds: UInt64 {
        baseNanoseconds &+ demi_scale_cycles(demi_cycle_counter() &- baseCycles, multiplier)
    }

    private init() {
        let start = CycleCounter.closest(CycleCounter.sample)
        (baseCycles, baseNanoseconds) = (start.cycles, start.nanoseconds)
        guard CycleCounter.kernelTrustsCounter() else {
            multiplier = 0
            return
        }
        // 2 ms give the rate to within some 50 ppm, which is what timers need.
        while demi_monotonic_nanoseconds() &- start.nanoseconds < 2_000_000 {}
        let end = CycleCounter.closest(CycleCounter.sample)
        let nanoseconds = end.nanoseconds &- start.nanoseconds
        let (quotient, _) = (end.cycles &- start.cycles).dividingFullWidth((nanoseconds >> 32, nanoseconds << 32))
        multiplier = quotient
    }

    /// One look at both clocks, the counter's before and after the kernel's.
    typealias Sample = (before: UInt64, nanoseconds: UInt64, after: UInt64)

    private static func sample() -> Sample {
        let before = demi_cycle_counter()
        let nanoseconds = demi_monotonic_nanoseconds()
        return (before, nanoseconds, demi_cycle_counter())
    }

    /// What both clocks say at one time: of several looks the shortest, because on a busy machine the thread may lose the processor within one for longer than
    /// the whole calibration lasts, and the clock would run at a multiple of its rate for good.
    static func closest(_ sample: () -> Sample) -> (cycles: UInt64, nanoseconds: UInt64) {
        var best = sample()
        for _ in 1..<sampleCount {
            let next = sample()
            if next.after &- next.before < best.after &- best.before { best = next }
        }
        return (best.before &+ (best.after &- best.before) / 2, best.nanoseconds)
    }

    static let sampleCount = 16

    /// The kernel checks that the counter is invariant and equal on all processors before it makes it its clock source.
    private static func kernelTrustsCounter() -> Bool {
        let descriptor = open("/sys/devices/system/clocksource/clocksource0/available_clocksource", O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return false }
        defer { close(descriptor) }
        var text = [CChar](repeating: 0, count: 128)
        let count = read(descriptor, &text, 127)
        guard count > 0 else { return false }
        return strstr(text, "tsc") != nil
    }
}
