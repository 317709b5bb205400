/// The commands that the engine knows, in the order of `commandTable`.
enum Command: UInt8 {
    case ping, echo, quit, select, hello, auth, reset, set, get, incr, decr, incrby, decrby, append, strlen
    case getdel, mget, mset, lpush, rpush, lpop, rpop, lrange, llen, sadd, spop, scard, smembers, hset
    case hget, hgetall, hlen, zadd, zpopmin, zcard, zrange, delete, unlink, exists, expire, pexpire
    case expireat, pexpireat, ttl, pttl, persist, type, scan, dbsize, flushall, flushdb, info, config
    case command, client
}

/// One row of the command table: what dispatch checks, and what `COMMAND` reports.
struct CommandSpecification: Sendable {
    struct Flags: OptionSet, Sendable {
        let rawValue: UInt16

        static let write = Flags(rawValue: 1)
        static let readonly = Flags(rawValue: 2)
        static let denyOutOfMemory = Flags(rawValue: 4)
        static let fast = Flags(rawValue: 8)
        static let noScript = Flags(rawValue: 16)
        static let loading = Flags(rawValue: 32)
        static let stale = Flags(rawValue: 64)
        static let noAuthentication = Flags(rawValue: 128)
        static let allowBusy = Flags(rawValue: 256)

        static let reading: Flags = [.readonly]
        static let readingFast: Flags = [.readonly, .fast]
        static let writing: Flags = [.write]
        static let writingFast: Flags = [.write, .fast]
        static let growing: Flags = [.write, .denyOutOfMemory]
        static let growingFast: Flags = [.write, .denyOutOfMemory, .fast]
        static let inspecting: Flags = [.loading, .stale]
        static let connection: Flags = [.loading, .stale, .fast]
        static let handshake: Flags = [.noScript, .loading, .stale, .fast, .noAuthentication, .allowBusy]

        static let names: [(flag: Flags, name: StaticString)] = [
            (.write, "write"), (.readonly, "readonly"), (.denyOutOfMemory, "denyoom"), (.noScript, "noscript"),
            (.loading, "loading"), (.stale, "stale"), (.fast, "fast"), (.noAuthentication, "no_auth"),
            (.allowBusy, "allow_busy"),
        ]
    }

    enum Group: Sendable { case connection, string, list, set, hash, sortedSet, generic, server }

    /// Which arguments are keys.
    enum Keys: Sendable { case none, first, all, everySecond }

    let command: Command
    let name: StaticString
    /// The number of arguments with the name; negative for a minimum.
    let arity: Int
    let group: Group
    let flags: Flags
    let keys: Keys
    let summary: StaticString

    init(
        _ command: Command, _ name: StaticString, _ arity: Int, _ group: Group, _ flags: Flags, _ keys: Keys,
        _ summary: StaticString
    ) {
        self.command = command
        self.name = name
        self.arity = arity
        self.group = group
        self.flags = flags
        self.keys = keys
        self.summary = summary
    }
}

/// Arity, flags, keys and summaries are those of Redis 7.0.
let commandTable: [CommandSpecification] = [
    .init(.ping, "ping", -1, .connection, .fast, .none, "Ping the server"),
    .init(.echo, "echo", 2, .connection, .connection, .none, "Echo the given string"),
    .init(.quit, "quit", -1, .connection, .handshake, .none, "Close the connection"),
    .init(.select, "select", 2, .connection, .connection, .none, "Change the selected database for the current connection"),
    .init(.hello, "hello", -1, .connection, .handshake, .none, "Handshake with Redis"),
    .init(.auth, "auth", -2, .connection, .handshake, .none, "Authenticate to the server"),
    .init(.reset, "reset", 1, .connection, .handshake, .none, "Reset the connection"),
    .init(.set, "set", -3, .string, .growing, .first, "Set the string value of a key"),
    .init(.get, "get", 2, .string, .readingFast, .first, "Get the value of a key"),
    .init(.incr, "incr", 2, .string, .growingFast, .first, "Increment the integer value of a key by one"),
    .init(.decr, "decr", 2, .string, .growingFast, .first, "Decrement the integer value of a key by one"),
    .init(.incrby, "incrby", 3, .string, .growingFast, .first, "Increment the integer value of a key by the given amount"),
    .init(.decrby, "decrby", 3, .string, .growingFast, .first, "Decrement the integer value of a key by the given number"),
    .init(.append, "append", 3, .string, .growingFast, .first, "Append a value to a key"),
    .init(.strlen, "strlen", 2, .string, .readingFast, .first, "Get the length of the value stored in a key"),
    .init(.getdel, "getdel", 2, .string, .writingFast, .first, "Get the value of a key and delete the key"),
    .init(.mget, "mget", -2, .string, .readingFast, .all, "Get the values of all the given keys"),
    .init(.mset, "mset", -3, .string, .growing, .everySecond, "Set multiple keys to multiple values"),
    .init(.lpush, "lpush", -3, .list, .growingFast, .first, "Prepend one or multiple elements to a list"),
    .init(.rpush, "rpush", -3, .list, .growingFast, .first, "Append one or multiple elements to a list"),
    .init(.lpop, "lpop", -2, .list, .writingFast, .first, "Remove and get the first elements in a list"),
    .init(.rpop, "rpop", -2, .list, .writingFast, .first, "Remove and get the last elements in a list"),
    .init(.lrange, "lrange", 4, .list, .reading, .first, "Get a range of elements from a list"),
    .init(.llen, "llen", 2, .list, .readingFast, .first, "Get the length of a list"),
    .init(.sadd, "sadd", -3, .set, .growingFast, .first, "Add one or more members to a set"),
    .init(.spop, "spop", -2, .set, .writingFast, .first, "Remove and return one or multiple random members from a set"),
    .init(.scard, "scard", 2, .set, .readingFast, .first, "Get the number of members in a set"),
    .init(.smembers, "smembers", 2, .set, .reading, .first, "Get all the members in a set"),
    .init(.hset, "hset", -4, .hash, .growingFast, .first, "Set the string value of a hash field"),
    .init(.hget, "hget", 3, .hash, .readingFast, .first, "Get the value of a hash field"),
    .init(.hgetall, "hgetall", 2, .hash, .reading, .first, "Get all the fields and values in a hash"),
    .init(.hlen, "hlen", 2, .hash, .readingFast, .first, "Get the number of fields in a hash"),
    .init(.zadd, "zadd", -4, .sortedSet, .growingFast, .first, "Add one or more members to a sorted set, or update its score if it already exists"),
    .init(.zpopmin, "zpopmin", -2, .sortedSet, .writingFast, .first, "Remove and return members with the lowest scores in a sorted set"),
    .init(.zcard, "zcard", 2, .sortedSet, .readingFast, .first, "Get the number of members in a sorted set"),
    .init(.zrange, "zrange", -4, .sortedSet, .reading, .first, "Return a range of members in a sorted set"),
    .init(.delete, "del", -2, .generic, .writing, .all, "Delete a key"),
    .init(.unlink, "unlink", -2, .generic, .writingFast, .all, "Delete a key"),
    .init(.exists, "exists", -2, .generic, .readingFast, .all, "Determine if a key exists"),
    .init(.expire, "expire", -3, .generic, .writingFast, .first, "Set a key's time to live in seconds"),
    .init(.pexpire, "pexpire", -3, .generic, .writingFast, .first, "Set a key's time to live in milliseconds"),
    .init(.expireat, "expireat", -3, .generic, .writingFast, .first, "Set the expiration for a key as a UNIX timestamp"),
    .init(.pexpireat, "pexpireat", -3, .generic, .writingFast, .first, "Set the expiration for a key as a UNIX timestamp specified in milliseconds"),
    .init(.ttl, "ttl", 2, .generic, .readingFast, .first, "Get the time to live for a key in seconds"),
    .init(.pttl, "pttl", 2, .generic, .readingFast, .first, "Get the time to live for a key in milliseconds"),
    .init(.persist, "persist", 2, .generic, .writingFast, .first, "Remove the expiration from a key"),
    .init(.type, "type", 2, .generic, .readingFast, .first, "Determine the type stored at key"),
    .init(.scan, "scan", -2, .generic, .reading, .none, "Incrementally iterate the keys space"),
    .init(.dbsize, "dbsize", 1, .server, .readingFast, .none, "Return the number of keys in the selected database"),
    .init(.flushall, "flushall", -1, .server, .writing, .none, "Remove all keys from all databases"),
    .init(.flushdb, "flushdb", -1, .server, .writing, .none, "Remove all keys from the current database"),
    .init(.info, "info", -1, .server, .inspecting, .none, "Get information and statistics about the server"),
    .init(.config, "config", -2, .server, [], .none, "A container for server configuration commands"),
    .init(.command, "command", -1, .server, .inspecting, .none, "Get array of Redis command details"),
    .init(.client, "client", -2, .connection, [], .none, "A container for client connection commands"),
]
