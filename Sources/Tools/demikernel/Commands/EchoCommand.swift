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
              demikernel echo --protocol udp --listen [::1]:7000 --idle spin
              demikernel echo --libos catmem --path /run/user/1000/echo.sock

            \(SettingKey.listing)
            """)

    @Option(help: ArgumentHelp("Where to listen; port 0 takes any free one.", valueName: "address:port"))
    var listen = Endpoint(family: .ipv4, host: "127.0.0.1", port: 7)

    @Option(name: .customLong("protocol"), help: "The transport protocol.")
    var transport = TransportProtocol.tcp

    @OptionGroup var settings: SettingsOptions
    @OptionGroup var process: ProcessOptions

    func run() throws {
        try LibraryOSServer(command: "echo", listen: listen, settings: settings, process: process)
            .run { runtime, address, socketOptions, whenReady throws(DemikernelError) in
                var server = EchoServer(
                    transport == .tcp ? .tcp : .udp, listen: address, socketOptions: transport == .tcp ? socketOptions : [])
                try server.run(on: runtime, whenReady: whenReady)
                return "\(server.echoCount) messages echoed, \(server.failureCount) failures"
            }
    }
}
