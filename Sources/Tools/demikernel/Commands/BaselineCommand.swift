import ArgumentParser

struct BaselineCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "baseline",
        abstract: "Run the yardstick: an ordinary server over plain kernel sockets.",
        discussion: """
            One thread, epoll, non-blocking sockets, written the obvious way; `kv` has the same engine as `demikernel kv`. \
            What a library OS gains or loses is measured against it.

            EXAMPLES
              demikernel baseline kv --listen 127.0.0.1:6380
              demikernel baseline echo --listen 127.0.0.1:7001 --spin
              demikernel bench kv --connect 127.0.0.1:6379 --connect-baseline 127.0.0.1:6380
            """,
        subcommands: [BaselineEchoCommand.self, BaselineKeyValueCommand.self])
}

/// The options that both yardsticks have.
struct BaselineOptions: ParsableArguments {
    @Flag(help: "Poll without ever sleeping: less latency, a whole core.")
    var spin = false

    @OptionGroup var process: ProcessOptions
}

struct BaselineEchoCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "echo", abstract: "Send everything back.",
        discussion: """
            EXAMPLE
              demikernel baseline echo --protocol udp --listen 127.0.0.1:7001 --spin
            """)

    @Option(help: ArgumentHelp("Where to listen; port 0 takes any free one.", valueName: "address:port"))
    var listen = Endpoint(family: .ipv4, host: "127.0.0.1", port: 7)

    @Option(name: .customLong("protocol"), help: "The transport protocol.")
    var transport = TransportProtocol.tcp

    @OptionGroup var options: BaselineOptions

    func run() throws {
        let wakeUp = try WakeUp()
        Interruption.watch { wakeUp.signal() }
        try options.process.apply()
        let socket = try KernelSocket.listening(transport, on: listen)
        try ReadyLine.print("baseline echo", listen, socket: socket, options.spin)
        switch transport {
        case .tcp:
            var server = try KernelServer(EchoService(), listener: socket, spins: options.spin, wakeUp: wakeUp)
            try server.run()
            ReadyLine.printEnd("baseline echo", "\(server.statistics)")
        case .udp:
            var server = KernelDatagramEcho(socket: socket, spins: options.spin, wakeUp: wakeUp)
            server.run()
            ReadyLine.printEnd("baseline echo", "\(server.datagrams) datagrams echoed")
        }
    }
}

struct BaselineKeyValueCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "kv", abstract: "Serve the Redis protocol.",
        discussion: """
            EXAMPLE
              demikernel baseline kv --listen 127.0.0.1:6380
            """)

    @Option(help: ArgumentHelp("Where to listen; port 0 takes any free one.", valueName: "address:port"))
    var listen = Endpoint(family: .ipv4, host: "127.0.0.1", port: 6379)

    @OptionGroup var options: BaselineOptions

    func run() throws {
        let wakeUp = try WakeUp()
        Interruption.watch { wakeUp.signal() }
        try options.process.apply()
        let socket = try KernelSocket.listening(.tcp, on: listen)
        try ReadyLine.print("baseline kv", listen, socket: socket, options.spin)
        var server = try KernelServer(KeyValueService(), listener: socket, spins: options.spin, wakeUp: wakeUp)
        try server.run()
        ReadyLine.printEnd("baseline kv", "\(server.statistics)")
    }
}
