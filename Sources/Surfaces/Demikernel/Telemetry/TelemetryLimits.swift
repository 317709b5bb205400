/// What a client of the telemetry can make the process hold, and for how long.
///
/// | limit | default | at the limit |
/// |---|---|---|
/// | `maximumClients` | 16 | one more is told so, and dropped |
/// | `TelemetryProtocol.maximumLineByteCount` | 256 bytes | a longer request is refused, and its client dropped |
/// | `silence` | 60 s | a client that asks for nothing is dropped; one that captures is not |
/// | `reception` | 5 s | a client that does not take its answer is dropped |
/// | `collection` | 2 s | a runtime that has not answered is told as busy; a capture that has not begun or ended is given up |
public struct TelemetryLimits: Sendable {
    public var maximumClients = 16
    /// Milliseconds, as those below.
    public var silence: Int64 = 60_000
    public var reception: Int64 = 5_000
    public var collection: Int64 = 2_000

    public init() {}
}
