/// How many bytes a connection takes from pushes.
extension NetworkStack {
    /// Lets the send buffer grow to twice the congestion window: a window that is in flight, and the next one, so that the buffer is no limit to what the
    /// network takes.
    @inline(never)
    func growSendBuffer(_ c: ConnectionPointer) {
        let limit = min(2 &* c.pointee.congestion.window, state.pointee.configuration.tcp.maximumSendBuffer)
        guard limit > c.pointee.sendLimit, !c.pointee.flags.contains(.fixedSendBuffer), state.pointee.heap.pressure == .none else { return }
        c.pointee.sendLimit = limit
        state.pointee.statistics.tcp.sendBufferGrowths &+= 1
    }
}
