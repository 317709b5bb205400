extension KeyValueStore {
    func ping(_ request: Request, _ replies: inout ReplyOutput) {
        switch request.count {
        case 1: replies.raw("+PONG\r\n")
        case 2: replies.bulk(request[1])
        default: replies.wrongArity("ping")
        }
    }

    func quit(_ client: inout ClientState, _ replies: inout ReplyOutput) {
        replies.ok()
        client.wantsClose = true
    }

    func select(_ request: Request, _ client: inout ClientState, _ replies: inout ReplyOutput) {
        guard let index = request[1].integer() else { return replies.notAnInteger() }
        guard Int32(exactly: index) != nil else {
            return replies.error("ERR value is out of range, value must between -2147483648 and 2147483647")
        }
        guard index >= 0 && index < Self.databaseCount else { return replies.error("ERR DB index is out of range") }
        client.database = Int(index)
        replies.ok()
    }

    func reset(_ client: inout ClientState, _ replies: inout ReplyOutput) {
        client.protocolVersion = 2
        client.database = 0
        client.name = []
        replies.usesRESP3 = false
        replies.simple("RESET")
    }

    /// `AUTH [user] password`: there are no passwords, and one user named `default`.
    func authenticate(_ request: Request, _ replies: inout ReplyOutput) {
        switch request.count {
        case 2:
            replies.raw("-ERR AUTH <password> called without any password configured for the default user.")
            replies.raw(" Are you sure your configuration is correct?\r\n")
        case 3 where request[1].equals(ByteSlice("default")): replies.ok()
        case 3: replies.wrongPassword()
        default: replies.syntaxError()
        }
    }

    /// `HELLO [version [AUTH user password] [SETNAME name]]`
    func hello(_ request: Request, _ client: inout ClientState, _ replies: inout ReplyOutput) {
        var version = client.protocolVersion
        if request.count > 1 {
            guard let wanted = request[1].integer() else {
                return replies.error("ERR Protocol version is not an integer or out of range")
            }
            guard wanted == 2 || wanted == 3 else { return replies.error("NOPROTO unsupported protocol version") }
            version = Int(wanted)
        }
        var name: ByteSlice?
        var index = 2
        while index < request.count {
            let following = request.count - 1 - index
            if request[index].matches("auth") && following >= 2 {
                guard request[index + 1].equals(ByteSlice("default")) else { return replies.wrongPassword() }
                index += 3
            } else if request[index].matches("setname") && following >= 1 {
                guard checkName(request[index + 1], &replies) else { return }
                name = request[index + 1]
                index += 2
            } else {
                return replies.error("ERR Syntax error in HELLO option '", quoting: request[index], "'")
            }
        }
        if let name { client.name = Array(name.bytes) }
        client.protocolVersion = version
        replies.usesRESP3 = version == 3
        replies.map(7)
        replies.bulk("server")
        replies.bulk("redis")
        replies.bulk("version")
        replies.bulk(Self.compatibleVersion)
        replies.bulk("proto")
        replies.integer(version)
        replies.bulk("id")
        replies.integer(Int(truncatingIfNeeded: client.identifier))
        replies.bulk("mode")
        replies.bulk("standalone")
        replies.bulk("role")
        replies.bulk("master")
        replies.bulk("modules")
        replies.array(0)
    }

    private func checkName(_ name: ByteSlice, _ replies: inout ReplyOutput) -> Bool {
        if name.count > limits.maximumClientNameLength {
            replies.error("ERR Client name is too long")
            return false
        }
        if name.bytes.contains(where: { $0 < 0x21 || $0 > 0x7E }) {
            replies.error("ERR Client names cannot contain spaces, newlines or special characters.")
            return false
        }
        return true
    }

    /// `CLIENT` with its subcommands. `LIST` shows the calling connection only: the store knows no other.
    @inline(never)
    func manageClient(_ request: Request, _ client: inout ClientState, _ replies: inout ReplyOutput) {
        let subcommand = request[1]
        if subcommand.matches("id") {
            guard request.count == 2 else { return replies.wrongArity("client|id") }
            replies.integer(Int(truncatingIfNeeded: client.identifier))
        } else if subcommand.matches("getname") {
            guard request.count == 2 else { return replies.wrongArity("client|getname") }
            if client.name.isEmpty { return replies.null() }
            client.name.withUnsafeBytes {
                replies.bulk(ByteSlice(start: $0.baseAddress!, count: $0.count))
            }
        } else if subcommand.matches("setname") {
            guard request.count == 3 else { return replies.wrongArity("client|setname") }
            guard checkName(request[2], &replies) else { return }
            client.name = Array(request[2].bytes)
            replies.ok()
        } else if subcommand.matches("info") {
            guard request.count == 2 else { return replies.wrongArity("client|info") }
            replies.verbatim(Self.describe(client, running: "info"))
        } else if subcommand.matches("list") {
            listClients(request, client, &replies)
        } else if subcommand.matches("no-evict") {
            guard request.count == 3 else { return replies.wrongArity("client|no-evict") }
            guard request[2].matches("on") || request[2].matches("off") else { return replies.syntaxError() }
            replies.ok()
        } else if subcommand.matches("setinfo") {
            // Of Redis 7.2; client libraries send it when they connect.
            guard request.count == 4 else { return replies.wrongArity("client|setinfo") }
            replies.ok()
        } else {
            replies.error("ERR unknown subcommand '", quoting: subcommand.prefix(128), "'. Try CLIENT HELP.")
        }
    }

    /// `CLIENT LIST [TYPE type] [ID id …]`
    private func listClients(_ request: Request, _ client: borrowing ClientState, _ replies: inout ReplyOutput) {
        var isListed = true
        if request.count == 4 && request[2].matches("type") {
            let types: [StaticString] = ["normal", "master", "replica", "slave", "pubsub"]
            guard types.contains(where: { request[3].matches($0) }) else {
                return replies.error("ERR Unknown client type '", quoting: request[3], "'")
            }
            isListed = request[3].matches("normal")
        } else if request.count > 3 && request[2].matches("id") {
            isListed = false
            for index in 3..<request.count {
                guard let identifier = request[index].integer(), identifier > 0 else {
                    return replies.error("ERR Invalid client ID")
                }
                if UInt64(identifier) == client.identifier { isListed = true }
            }
        } else if request.count > 2 {
            return replies.syntaxError()
        }
        replies.verbatim(isListed ? Self.describe(client, running: "list") : "")
    }

    private static func describe(_ client: borrowing ClientState, running subcommand: String) -> String {
        let address = client.remoteIPv4Address
        let octets = "\(address >> 24).\(address >> 16 & 255).\(address >> 8 & 255).\(address & 255)"
        let name = String(decoding: client.name, as: UTF8.self)
        return "id=\(client.identifier) addr=\(octets):\(client.remotePort) name=\(name) flags=N"
            + " db=\(client.database) sub=0 psub=0 ssub=0 multi=-1 cmd=client|\(subcommand)"
            + " user=default redir=-1 resp=\(client.protocolVersion)\n"
    }
}

extension ReplyOutput {
    fileprivate mutating func wrongPassword() {
        error("WRONGPASS invalid username-password pair or user is disabled.")
    }
}
