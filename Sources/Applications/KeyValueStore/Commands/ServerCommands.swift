extension KeyValueStore {
    // MARK: INFO

    /// `INFO [section …]`: the sections server, clients, memory, stats and keyspace in Redis's format.
    @inline(never)
    func information(_ request: Request, _ replies: inout ReplyOutput) {
        replies.verbatim(summary.text(InformationSections(request), now: request.now))
    }

    // MARK: CONFIG

    private enum Parameter: CaseIterable {
        case appendonly, databases, maximumMemory, maximumMemoryPolicy, maximumBulkLength, save

        var name: StaticString {
            switch self {
            case .appendonly: "appendonly"
            case .databases: "databases"
            case .maximumMemory: "maxmemory"
            case .maximumMemoryPolicy: "maxmemory-policy"
            case .maximumBulkLength: "proto-max-bulk-len"
            case .save: "save"
            }
        }
    }

    private func value(of parameter: Parameter) -> String {
        switch parameter {
        case .appendonly: "no"
        case .databases: "\(Self.databaseCount)"
        case .maximumMemory: "\(limits.maximumMemory)"
        case .maximumMemoryPolicy: "noeviction"
        case .maximumBulkLength: "\(limits.maximumBulkLength)"
        case .save: ""
        }
    }

    /// `CONFIG GET pattern …`, `CONFIG SET parameter value …` and `CONFIG RESETSTAT`
    ///
    /// The parameters are those that are true of this store; `maxmemory` can be changed, the others only set to what they are.
    @inline(never)
    mutating func configuration(_ request: Request, _ replies: inout ReplyOutput) {
        let subcommand = request[1]
        if subcommand.matches("get") {
            guard request.count >= 3 else { return replies.wrongArity("config|get") }
            getParameters(request, &replies)
        } else if subcommand.matches("set") {
            guard request.count >= 4 else { return replies.wrongArity("config|set") }
            setParameters(request, &replies)
        } else if subcommand.matches("resetstat") {
            guard request.count == 2 else { return replies.wrongArity("config|resetstat") }
            statistics = Statistics(startTime: statistics.startTime)
            replies.ok()
        } else {
            replies.error("ERR unknown subcommand '", quoting: subcommand.prefix(128), "'. Try CONFIG HELP.")
        }
    }

    private func getParameters(_ request: Request, _ replies: inout ReplyOutput) {
        let found = Parameter.allCases.filter { parameter in
            (2..<request.count).contains {
                request[$0].isGlob(matching: ByteSlice(parameter.name), ignoringCase: true)
            }
        }
        replies.map(found.count)
        for parameter in found {
            replies.bulk(parameter.name)
            var text = value(of: parameter)
            text.withUTF8 {
                replies.bulk($0.isEmpty ? ByteSlice("") : ByteSlice(start: $0.baseAddress!, count: $0.count))
            }
        }
    }

    private mutating func setParameters(_ request: Request, _ replies: inout ReplyOutput) {
        guard request.count % 2 == 0 else { return replies.syntaxError() }
        var maximumMemory = limits.maximumMemory
        for index in stride(from: 2, to: request.count, by: 2) {
            guard let parameter = Parameter.allCases.first(where: { request[index].matches($0.name) }) else {
                return replies.error(
                    "ERR Unknown option or number of arguments for CONFIG SET - '", quoting: request[index], "'")
            }
            let given = request[index + 1]
            if parameter == .maximumMemory {
                guard let bytes = given.memorySize() else {
                    return replies.configurationFailed(parameter.name, "argument must be a memory value")
                }
                maximumMemory = bytes
            } else if !given.bytes.elementsEqual(value(of: parameter).utf8) {
                return replies.configurationFailed(parameter.name, "can't be changed")
            }
        }
        limits.maximumMemory = maximumMemory
        replies.ok()
    }

    // MARK: COMMAND

    /// `COMMAND`, `COMMAND COUNT`, `COMMAND LIST`, `COMMAND INFO [name …]` and `COMMAND DOCS [name …]`, all from `commandTable`.
    @inline(never)
    func describeCommands(_ request: Request, _ replies: inout ReplyOutput) {
        if request.count == 1 {
            replies.array(commandTable.count)
            for row in commandTable { row.writeInformation(to: &replies) }
            return
        }
        let subcommand = request[1]
        if subcommand.matches("count") {
            guard request.count == 2 else { return replies.wrongArity("command|count") }
            replies.integer(commandTable.count)
        } else if subcommand.matches("list") {
            guard request.count == 2 else { return replies.syntaxError() }
            replies.array(commandTable.count)
            for row in commandTable { replies.bulk(row.name) }
        } else if subcommand.matches("info") {
            let names = Self.requestedCommands(request)
            replies.array(names.count)
            for row in names {
                if let row { row.writeInformation(to: &replies) } else { replies.null() }
            }
        } else if subcommand.matches("docs") {
            let rows = Self.requestedCommands(request).compactMap { $0 }
            replies.map(rows.count)
            for row in rows { row.writeDocumentation(to: &replies) }
        } else {
            replies.error("ERR unknown subcommand '", quoting: subcommand.prefix(128), "'. Try COMMAND HELP.")
        }
    }

    private static func requestedCommands(_ request: Request) -> [CommandSpecification?] {
        if request.count == 2 { return commandTable }
        return (2..<request.count).map { index in commandTable.first { request[index].matches($0.name) } }
    }
}

extension CommandSpecification {
    /// The ten values of `COMMAND INFO`; tips, key specifications and subcommands are left empty.
    fileprivate func writeInformation(to replies: inout ReplyOutput) {
        let names = Flags.names.filter { flags.contains($0.flag) }.map(\.name)
        replies.array(10)
        replies.bulk(name)
        replies.integer(arity)
        replies.set(names.count)
        for name in names { replies.simple(name) }
        replies.integer(keys == .none ? 0 : 1)
        replies.integer(keys == .none ? 0 : keys == .first ? 1 : -1)
        replies.integer(keys == .none ? 0 : keys == .everySecond ? 2 : 1)
        let categories = self.categories
        replies.set(categories.count)
        for category in categories { replies.simple(category) }
        replies.array(0)
        replies.array(0)
        replies.array(0)
    }

    private var categories: [StaticString] {
        var categories: [StaticString] = []
        if group == .generic { categories.append("@keyspace") }
        if flags.contains(.write) { categories.append("@write") }
        if flags.contains(.readonly) { categories.append("@read") }
        switch group {
        case .string: categories.append("@string")
        case .list: categories.append("@list")
        case .set: categories.append("@set")
        case .hash: categories.append("@hash")
        case .sortedSet: categories.append("@sortedset")
        case .connection: categories.append("@connection")
        case .generic, .server: break
        }
        categories.append(flags.contains(.fast) ? "@fast" : "@slow")
        return categories
    }

    fileprivate func writeDocumentation(to replies: inout ReplyOutput) {
        replies.bulk(name)
        replies.map(2)
        replies.bulk("summary")
        replies.bulk(summary)
        replies.bulk("group")
        replies.bulk(group.name)
    }
}

extension CommandSpecification.Group {
    fileprivate var name: StaticString {
        switch self {
        case .connection: "connection"
        case .string: "string"
        case .list: "list"
        case .set: "set"
        case .hash: "hash"
        case .sortedSet: "sorted-set"
        case .generic: "generic"
        case .server: "server"
        }
    }
}

extension ReplyOutput {
    fileprivate mutating func configurationFailed(_ parameter: StaticString, _ reason: StaticString) {
        raw("-ERR CONFIG SET failed (possibly related to argument '")
        raw(parameter)
        raw("') - ")
        raw(reason)
        raw("\r\n")
    }
}

extension ByteSlice {
    /// A number of bytes with an optional unit as Redis reads it: `b`, `k` (1000), `kb` (1024), and so on to `gb`.
    fileprivate func memorySize() -> Int? {
        var digits = 0
        while digits < count && self[digits] &- UInt8(ascii: "0") < 10 { digits += 1 }
        guard let number = prefix(digits).integer() else { return nil }
        let unit = ByteSlice(start: start + digits, count: count - digits)
        let factors: [(StaticString, Int)] = [
            ("", 1), ("b", 1), ("k", 1000), ("kb", 1 << 10), ("m", 1_000_000), ("mb", 1 << 20), ("g", 1_000_000_000),
            ("gb", 1 << 30),
        ]
        guard let factor = factors.first(where: { unit.matches($0.0) })?.1 else { return nil }
        let (bytes, overflow) = Int(number).multipliedReportingOverflow(by: factor)
        return overflow ? nil : bytes
    }
}
