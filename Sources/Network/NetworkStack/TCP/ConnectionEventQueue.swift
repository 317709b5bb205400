/// A connection that has something to tell its owner.
@frozen
public struct ConnectionEvent {
    public let connection: UInt32
    public let owner: UInt32
    public let events: ConnectionEvents
}

/// What the owner of the connections has to know, each connection at most once in the queue, however often it has something to tell.
extension NetworkStack {
    @inline(__always)
    func raise(_ c: ConnectionPointer, _ event: ConnectionEvents) {
        c.pointee.events.insert(event)
        if DeliberateBug.isPresent(.writableLost) && event == .writable { return }
        if DeliberateBug.isPresent(.readableLost) && event == .readable && !state.pointee.connectionEvents.isEmpty { return }
        guard !c.pointee.flags.contains(.hasEvent), c.pointee.owner != 0 else { return }
        c.pointee.flags.insert(.hasEvent)
        state.pointee.connectionEvents.append(c.pointee.index)
        state.pointee.eventCount &+= 1
    }

    /// The next connection with something to tell; nil for none. O(1).
    @inline(__always)
    public func takeConnectionEvent() -> ConnectionEvent? {
        while case let index = state.pointee.connectionEvents.removeFirst(), index != 0 {
            state.pointee.eventCount &-= 1
            let c = state.pointee.connections[index]
            let events = c.pointee.events
            c.pointee.events = []
            c.pointee.flags.remove(.hasEvent)
            if c.pointee.owner != 0 { return ConnectionEvent(connection: index, owner: c.pointee.owner, events: events) }
            // Its owner let go of it in between.
            releaseIfUnused(c)
        }
        return nil
    }
}
