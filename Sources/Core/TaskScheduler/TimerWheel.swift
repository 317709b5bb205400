/// A timer of the wheel. A stale one (fired, cancelled) names nothing and is ignored.
@frozen
public struct TimerIdentifier: Hashable, Sendable {
    @usableFromInline let index: UInt32
    @usableFromInline let generation: UInt32

    @usableFromInline
    init(index: UInt32, generation: UInt32) {
        self.index = index
        self.generation = generation
    }

    /// A timer that was never armed.
    public static let none = TimerIdentifier(index: .max, generation: 0)
}

/// What a timer does when it fires: a C-convention function with its context and one argument.
public typealias TimerAction = @convention(c) (_ context: UnsafeMutableRawPointer, _ argument: UInt64) -> Void

/// A hierarchical timing wheel (Varghese and Lauck, SOSP 1987): 9 levels of 64 slots, a tick of 1,024 ns, which
/// together span all of a 64-bit nanosecond clock.
///
/// Arming and cancelling are O(1). A timer is due from its deadline on, to the nanosecond; those of one tick fire in no particular order.
public struct TimerWheel {
    private static let tickShift: UInt64 = 10
    private static let levels = 9
    private static let none: UInt32 = .max

    private struct Entry {
        var deadline: UInt64 = 0
        var action: TimerAction?
        var context: UnsafeMutableRawPointer?
        var argument: UInt64 = 0
        var next: UInt32 = TimerWheel.none
        var previous: UInt32 = TimerWheel.none
        var generation: UInt32 = 1
        /// level * 64 + slot, or `unarmed`.
        var place: UInt16 = Entry.unarmed
        static let unarmed: UInt16 = .max
    }

    private let entries: UnsafeMutablePointer<Entry>
    private let capacity: UInt32
    private var carved: UInt32 = 0
    private var freeHead: UInt32 = TimerWheel.none
    private let heads: UnsafeMutablePointer<UInt32>
    private let occupied: UnsafeMutablePointer<UInt64>
    private var currentTick: UInt64
    /// No timer is due before this time; the earliest one may be later.
    @usableFromInline private(set) var noneBefore: UInt64 = .max
    /// How many timers are armed.
    public private(set) var count = 0

    /// - Parameters:
    ///   - capacity: timers armed at once.
    ///   - now: the time to start from, in nanoseconds.
    public init(capacity: Int, now: UInt64) {
        self.capacity = UInt32(capacity)
        entries = .allocate(capacity: capacity)
        heads = .allocate(capacity: TimerWheel.levels * 64)
        heads.initialize(repeating: TimerWheel.none, count: TimerWheel.levels * 64)
        occupied = .allocate(capacity: TimerWheel.levels)
        occupied.initialize(repeating: 0, count: TimerWheel.levels)
        currentTick = now >> TimerWheel.tickShift
    }

    /// Ends the wheel; nothing fires.
    public func deallocate() {
        entries.deallocate()
        heads.deallocate()
        occupied.deallocate()
    }

    /// Arms a timer for `deadline` (nanoseconds of the runtime's clock); nil when `capacity` timers are armed.
    public mutating func arm(
        deadline: UInt64, action: @escaping TimerAction, context: UnsafeMutableRawPointer, argument: UInt64
    ) -> TimerIdentifier? {
        let index: UInt32
        if freeHead != TimerWheel.none {
            index = freeHead
            freeHead = entries[Int(index)].next
        } else {
            guard carved < capacity else { return nil }
            index = carved
            carved += 1
            (entries + Int(index)).initialize(to: Entry())
        }
        entries[Int(index)].deadline = deadline
        entries[Int(index)].action = action
        entries[Int(index)].context = context
        entries[Int(index)].argument = argument
        place(index)
        if deadline < noneBefore { noneBefore = deadline }
        count += 1
        return TimerIdentifier(index: index, generation: entries[Int(index)].generation)
    }

    /// Cancels a timer. A stale identifier does nothing.
    /// - Returns: whether the timer was armed.
    @discardableResult
    public mutating func cancel(_ timer: TimerIdentifier) -> Bool {
        guard timer.index < carved, entries[Int(timer.index)].generation == timer.generation,
            entries[Int(timer.index)].place != Entry.unarmed
        else { return false }
        unlink(timer.index)
        release(timer.index)
        return true
    }

    /// The earliest deadline of an armed timer, exactly.
    public var nextDeadline: UInt64? { earliest?.deadline }

    /// The timer with the earliest deadline (of several, one), left as it is; nil for none.
    public var earliest: (timer: TimerIdentifier, deadline: UInt64, context: UnsafeMutableRawPointer, argument: UInt64)? {
        // A lower level's timers are all due before a higher level's, and within a level the slots are in order from the current one.
        guard let level = (0..<TimerWheel.levels).first(where: { occupied[$0] != 0 }) else { return nil }
        var index = heads[level * 64 + occupied[level].trailingZeroBitCount]
        var earliest = index
        while index != TimerWheel.none {
            if entries[Int(index)].deadline < entries[Int(earliest)].deadline { earliest = index }
            index = entries[Int(index)].next
        }
        let entry = entries[Int(earliest)]
        return (TimerIdentifier(index: earliest, generation: entry.generation), entry.deadline, entry.context.unsafelyUnwrapped, entry.argument)
    }

    /// Whether `popExpired` has to be asked. It may still have nothing.
    @inlinable
    @inline(__always)
    public func mayHaveExpired(now: UInt64) -> Bool { now >= noneBefore }

    /// A timer that is due at `now`, taken off the wheel; nil when none is left. Call it until it returns nil.
    @inline(__always)
    public mutating func popExpired(now: UInt64) -> (action: TimerAction, context: UnsafeMutableRawPointer, argument: UInt64)? {
        now < noneBefore ? nil : findExpired(now: now)
    }

    @inline(never)
    private mutating func findExpired(now: UInt64) -> (action: TimerAction, context: UnsafeMutableRawPointer, argument: UInt64)? {
        let target = now >> TimerWheel.tickShift
        while count > 0 {
            guard let level = (0..<TimerWheel.levels).first(where: { occupied[$0] != 0 }) else { return nil }
            let slot = occupied[level].trailingZeroBitCount
            if level == 0 {
                let tick = (currentTick & ~63) | UInt64(slot)
                guard tick <= target else { return advanceTo(target) }
                currentTick = max(currentTick, tick)
                var index = heads[slot]
                // In the tick of `now` some are due and some are not yet.
                while index != TimerWheel.none, entries[Int(index)].deadline > now { index = entries[Int(index)].next }
                guard index != TimerWheel.none else { return advanceTo(target) }
                let entry = entries[Int(index)]
                unlink(index)
                release(index)
                return (entry.action.unsafelyUnwrapped, entry.context.unsafelyUnwrapped, entry.argument)
            }
            // The first tick of that slot: when it is reached, its timers belong to lower levels.
            let shift = UInt64(6 * level)
            let tick = (currentTick & ~UInt64(0) << (shift + 6)) | UInt64(slot) << shift
            guard tick <= target else { return advanceTo(target) }
            currentTick = max(currentTick, tick)
            cascade(level: level, slot: slot)
        }
        return advanceTo(target)
    }

    private mutating func advanceTo(_ target: UInt64) -> (action: TimerAction, context: UnsafeMutableRawPointer, argument: UInt64)? {
        if target > currentTick { currentTick = target }
        noneBefore = nextDeadline ?? .max
        return nil
    }

    private mutating func cascade(level: Int, slot: Int) {
        var index = heads[level * 64 + slot]
        heads[level * 64 + slot] = TimerWheel.none
        occupied[level] &= ~(1 << UInt64(slot))
        while index != TimerWheel.none {
            let next = entries[Int(index)].next
            place(index)
            index = next
        }
    }

    /// Links a timer where its deadline belongs, seen from the current tick: the level of the highest six-bit group in which they differ.
    private mutating func place(_ index: UInt32) {
        // A deadline of the past is due at once.
        let tick = max(entries[Int(index)].deadline >> TimerWheel.tickShift, currentTick)
        let difference = tick ^ currentTick
        let level = difference == 0 ? 0 : (63 - difference.leadingZeroBitCount) / 6
        let slot = Int((tick >> UInt64(6 * level)) & 63)
        let place = level * 64 + slot
        let head = heads[place]
        entries[Int(index)].place = UInt16(place)
        entries[Int(index)].next = head
        entries[Int(index)].previous = TimerWheel.none
        if head != TimerWheel.none { entries[Int(head)].previous = index }
        heads[place] = index
        occupied[level] |= 1 << UInt64(slot)
    }

    private mutating func unlink(_ index: UInt32) {
        let entry = entries[Int(index)]
        let place = Int(entry.place)
        if entry.previous == TimerWheel.none {
            heads[place] = entry.next
            if entry.next == TimerWheel.none { occupied[place / 64] &= ~(1 << UInt64(place % 64)) }
        } else {
            entries[Int(entry.previous)].next = entry.next
        }
        if entry.next != TimerWheel.none { entries[Int(entry.next)].previous = entry.previous }
    }

    private mutating func release(_ index: UInt32) {
        entries[Int(index)].place = Entry.unarmed
        entries[Int(index)].generation &+= 1
        entries[Int(index)].next = freeHead
        freeHead = index
        count -= 1
    }
}
