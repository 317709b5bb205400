import Glibc
import NetworkStack
import Testing
import WireFormats

/// The address and port that a connection begins from (RFC 9293, section 3.9.1.1; RFC 6056).
@Suite("TCP: local endpoints") struct LocalEndpointTests {
    private let remote = Endpoint(address: SegmentScript.remote, port: 80)

    /// Connects a new socket and returns its port.
    private func connect(_ script: SegmentScript) -> UInt16 {
        let connection = script.stack.makeConnection(owner: 1)
        #expect(script.stack.connect(connection, to: remote) == 0)
        script.collect()
        return script.stack.connectionLocal(connection).port
    }

    @Test("ephemeral ports do not tell the next one (RFC 6056, section 3.3.5)")
    func portsAreSpread() throws {
        let script = try SegmentScript()
        let ports = (0..<40).map { _ in connect(script) }
        let distances = zip(ports, ports.dropFirst()).map { Int($1) - Int($0) }
        #expect(Set(distances).count > 20)
        #expect(ports.allSatisfy { $0 >= 49_152 })
    }

    @Test("every ephemeral port can be used before none is left")
    func portsRunOut() throws {
        let script = try SegmentScript(arenaByteCount: 64 << 20)
        var ports: Set<UInt16> = []
        for _ in 0..<16_384 { ports.insert(connect(script)) }
        #expect(ports.count == 16_384)
        let last = script.stack.makeConnection(owner: 1)
        #expect(script.stack.connect(last, to: remote) == EADDRNOTAVAIL)
        // Another peer's connections are others.
        #expect(script.stack.connect(last, to: Endpoint(address: SegmentScript.remote, port: 81)) == 0)
    }

    @Test("a loopback address does not leave the host (RFC 1122, section 3.2.1.3)")
    func loopbackSource() throws {
        let script = try SegmentScript()
        let connection = script.stack.makeConnection(owner: 1)
        #expect(script.stack.bind(connection, to: Endpoint(address: .ipv4(127, 0, 0, 1), port: 0)) == 0)
        #expect(script.stack.connect(connection, to: remote) == EINVAL)
        script.collect()
        #expect(script.takeSent().isEmpty)
    }
}
