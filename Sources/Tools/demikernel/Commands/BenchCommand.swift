import ArgumentParser

struct BenchCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "bench",
        abstract: "Measure the devices beside their peers, or load a server, check its replies, and measure latency and throughput.",
        discussion: """
            One thread sends the load and spins, so that every server sees the same client: over kernel sockets, over shared memory where --connect is a \
            path, or with --libos over a library OS. \
            With --connect-baseline two servers take turns in short rounds: the table shows medians and the ratio.

            Without a subcommand it measures the table of goals (bench table): all devices beside their peers.

            EXAMPLES
              sudo demikernel bench
              demikernel bench kv --connect 127.0.0.1:6379
              demikernel bench kv --connect 127.0.0.1:6379 --pipeline 16 --connections 50 --get-ratio 0.5
              demikernel bench echo --connect 127.0.0.1:7000 --rate 20000 --svg latency.svg
              sudo demikernel bench echo --libos catnip --device xdp:eth0 --address 192.0.2.9/24 --connect 192.0.2.1:7000
              demikernel bench echo --connect 127.0.0.1:7000 --connect-baseline 127.0.0.1:7001 --name catnap --baseline-name epoll
              demikernel bench kv --libos catmem --path /run/user/1000/kv.sock
              demikernel bench echo --libos catnip --device memif:/run/x.sock --address 10.0.0.1/24 --connect 10.0.0.2:7
            """,
        subcommands: [BenchEchoCommand.self, BenchKeyValueCommand.self, BenchRingCommand.self, BenchTableCommand.self],
        defaultSubcommand: BenchTableCommand.self)
}

struct BenchEchoCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "echo",
        abstract: "Load an echo server.",
        discussion: """
            Every message carries its number, and every byte that comes back is checked.

            EXAMPLES
              demikernel bench echo --connect 127.0.0.1:7000 --size 64 --duration 10
              demikernel bench echo --connect 127.0.0.1:7000 --protocol udp --rate 50000 --json
            """)

    @OptionGroup var load: LoadOptions

    @Option(name: .customLong("protocol"), help: "The transport protocol.")
    var transport = TransportProtocol.tcp

    @OptionGroup var report: ReportOptions

    func validate() throws {
        if transport == .udp, load.server.family == .path { throw ValidationError("shared memory has connections: leave --protocol udp out") }
        if transport == .udp && load.size > 65_507 { throw ValidationError("--size must be at most 65507 bytes with UDP: what a datagram holds") }
    }

    func run() throws {
        let size = load.size
        try load.run("echo", transport, report, settings: []) { Workload.echo(size: size) }
    }
}

struct BenchKeyValueCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "kv",
        abstract: "Load a server that speaks the Redis protocol with SET and GET.",
        discussion: """
            First every key (bench:000000000000 and up) is written once, then SET and GET are mixed at random. \
            A key's value is always the same, so that every reply is checked to the last byte.

            EXAMPLES
              demikernel bench kv --connect 127.0.0.1:6379
              demikernel bench kv --connect 127.0.0.1:6379 --keys 100000 --get-ratio 0.9 --size 512 --pipeline 16
            """)

    @OptionGroup var load: LoadOptions

    @Option(help: ArgumentHelp("Keys in use.", valueName: "count"))
    var keys: UInt64 = 10_000

    @Option(help: ArgumentHelp("The share of GET, from 0 (only SET) to 1 (only GET).", valueName: "share"))
    var getRatio = 0.5

    @Option(help: ArgumentHelp("Seed of the random order of keys.", valueName: "number"))
    var seed: UInt64 = 1

    @OptionGroup var report: ReportOptions

    func validate() throws {
        guard (1...100_000_000).contains(keys) else { throw ValidationError("--keys must be 1 to 100000000") }
        guard getRatio >= 0, getRatio <= 1 else { throw ValidationError("--get-ratio must be 0 to 1") }
    }

    func run() throws {
        let settings: [(String, JSONValue)] = [("keys", .integer(Int(keys))), ("get_ratio", .number(getRatio))]
        try load.run("kv", .tcp, report, settings: settings) {
            Workload.keyValue(size: load.size, keys: keys, getRatio: getRatio, seed: seed)
        }
    }
}
