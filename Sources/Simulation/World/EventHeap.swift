/// What is going to happen, in the order of its time; what happens at one time, in the order in which it was scheduled.
struct EventHeap {
    struct Event {
        let time: UInt64
        let sequence: UInt64
        let action: Action
    }

    enum Action {
        case deliver(SimulatedFrame, to: any SimulatedNode, port: Int)
        /// A deadline of a host; stale if it has another by now.
        case wake(SimulatedHost, generation: UInt64)
        case run(() -> Void)
    }

    private var events: [Event] = []
    private var nextSequence: UInt64 = 0

    var count: Int { events.count }

    /// The time of the next event.
    var nextTime: UInt64? { events.first?.time }

    /// O(log n).
    mutating func insert(_ time: UInt64, _ action: Action) {
        events.append(Event(time: time, sequence: nextSequence, action: action))
        nextSequence += 1
        var index = events.count - 1
        while index > 0, isBefore(index, (index - 1) / 2) {
            events.swapAt(index, (index - 1) / 2)
            index = (index - 1) / 2
        }
    }

    /// O(log n).
    mutating func removeFirst() -> Action {
        events.swapAt(0, events.count - 1)
        let first = events.removeLast()
        var index = 0
        while true {
            var least = index
            for child in [2 * index + 1, 2 * index + 2] where child < events.count && isBefore(child, least) { least = child }
            if least == index { return first.action }
            events.swapAt(index, least)
            index = least
        }
    }

    mutating func removeAll() { events.removeAll() }

    private func isBefore(_ left: Int, _ right: Int) -> Bool {
        (events[left].time, events[left].sequence) < (events[right].time, events[right].sequence)
    }
}
