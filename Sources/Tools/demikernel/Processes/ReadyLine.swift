/// The one line by which a server says that it serves, and where; and the line with which it ends.
enum ReadyLine {
    private static let marker = ": listening on "

    /// "demikernel kv: listening on 127.0.0.1:6379 (catnap)" to standard output.
    static func print(_ command: String, _ address: String, carrier: String) {
        StandardStreams.writeOutput("demikernel \(command)\(marker)\(address) (\(carrier))\n")
    }

    static func print(_ command: String, _ listen: Endpoint, socket: Int32, _ spins: Bool) throws(CommandFailure) {
        let bound = Endpoint(family: listen.family, host: listen.host, port: try KernelSocket.localPort(socket))
        print(command, "\(bound)", carrier: spins ? "kernel sockets, spinning" : "kernel sockets")
    }

    static func printEnd(_ command: String, _ statistics: String) {
        StandardStreams.writeError("demikernel \(command): stopped; \(statistics)\n")
    }

    /// The address in a ready line, nil when `line` is none.
    static func address(in line: String) -> Endpoint? {
        guard let start = line.firstRange(of: marker) else { return nil }
        let rest = line[start.upperBound...]
        // The carrier stands behind the last parenthesis, where the server names one; a path may have blanks.
        return Endpoint(parsing: String(rest[..<(rest.ranges(of: " (").last?.lowerBound ?? rest.endIndex)]))
    }
}
