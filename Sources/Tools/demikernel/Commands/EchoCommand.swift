import ArgumentParser
import Demikernel
import Echo

struct EchoCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "echo",
        abstract: "Run the echo server over a library OS.",
        discussion: """
            Sends back what it receives: bytes over TCP, datagrams over UDP. Stops on SIGINT and SIGTERM.

            EXAMPLES
              demikernel echo --listen 127.0.0.1:7000
              sudo demikernel echo --libos catnip --device tap:demi0,host=10.0.0.1/24 --address 10.0.0.2/24
              demikernel echo --listen 127.0.0.1:7000 --shards 2
              demikernel echo --protocol udp --listen [::1]:7000 --idle spin
              demikernel echo --libos catmem --path /run/user/1000/echo.sock
              sudo demikernel echo --libos catnip --device xdp:eth0 --address 192.0.2.9/24 --capture echo.pcapng

            \(SettingKey.listing)
            """)

    @Option(
        help: ArgumentHelp(
            "Where to listen; port 0 takes any free one. When left out: port 7 of 127.0.0.1, with catnip of every address.", valueName: "address:port"
        ))
    var listen: Endpoint?

    @Option(name: .customLong("protocol"), help: "The transport protocol.")
    var transport = TransportProtocol.tcp

    @OptionGroup var settings: SettingsOptions
    @OptionGroup var process: ProcessOptions
    @OptionGroup var telemetry: TelemetryOptions

    func run() throws {
        let transport = transport == .tcp ? EchoServer.Transport.tcp : .udp
        try LibraryOSServer(
            command: "echo", listen: listen, port: 7, socketType: transport == .tcp ? .stream : .datagram, settings: settings, process: process,
            telemetry: telemetry
        ).run { runtime, _, address, socketOptions, whenReady throws(DemikernelError) in
            var server = EchoServer(transport, listen: address, socketOptions: socketOptions)
            try server.run(on: runtime, whenReady: whenReady)
            return "\(server.echoCount) messages echoed, \(server.failureCount) failures"
        }
    }
}
