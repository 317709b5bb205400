/// Whether a stack can be let go of without a loss.
extension NetworkStack {
    /// Nothing is on its way any more: no frame waits for the device or for a neighbour's address, and each connection has come to the end of both its
    /// directions, so that TIME-WAIT is all that is left of it. O(connections that there ever were at once).
    public var isSettled: Bool {
        guard state.pointee.output.pointee.isEmpty, state.pointee.neighborCache.waitingCount == 0 else { return false }
        for index in 1..<max(state.pointee.connections.carvedCount, 1) {
            switch state.pointee.connections[index].pointee.state {
            case .closed, .listen, .synSent, .synReceived, .timeWait: continue
            case .established, .finWait1, .finWait2, .closeWait, .closing, .lastAcknowledgement: return false
            }
        }
        return true
    }
}
