extension KeyValueStore {
    /// What the engine refuses to exceed.
    ///
    /// | limit | default | at the limit |
    /// |---|---|---|
    /// | `maximumBulkLength` | 8 MiB | `-ERR Protocol error: invalid bulk length`, the connection closes; `APPEND` answers an error |
    /// | `maximumRequestLength` | 64 MiB | `-ERR Protocol error: too big request`, the connection closes |
    /// | `maximumArguments` | 1,048,576 | `-ERR Protocol error: invalid multibulk length`, the connection closes |
    /// | `maximumInlineLength` | 64 KiB | `-ERR Protocol error: too big inline request` (or `… count string`), the connection closes |
    /// | `maximumMemory` | 0 (none) | commands that may grow the store answer `-OOM command not allowed…` |
    /// | `maximumClientNameLength` | 256 | `CLIENT SETNAME` answers an error |
    public struct Limits: Sendable {
        /// Bytes in one argument, and in one string value: Redis's `proto-max-bulk-len`. At most 1 GiB.
        public var maximumBulkLength = 8 << 20
        /// Bytes in one request, headers included: what a caller may have to hold contiguously. At most 2 GiB.
        public var maximumRequestLength = 64 << 20
        /// Arguments of one request, its name included.
        public var maximumArguments = 1 << 20
        /// Bytes in an inline request, or in the line that announces a count.
        public var maximumInlineLength = 64 << 10
        /// Bytes of memory held by keys and values, 0 for no limit: Redis's `maxmemory` under the policy `noeviction`.
        /// Checked before a command, so that one command can exceed it by the size of its own request.
        public var maximumMemory = 0
        /// Bytes in the name that a client gives its connection.
        public var maximumClientNameLength = 256

        public init() {}
    }

    /// Databases that `SELECT` reaches, as in Redis's default configuration.
    static let databaseCount = 16
    /// The version of Redis whose behaviour is followed; reported by `HELLO` and `INFO`.
    static let compatibleVersion: StaticString = "7.0.15"
}
