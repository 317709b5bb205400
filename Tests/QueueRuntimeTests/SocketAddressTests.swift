import Demikernel
import Glibc
import Testing

@Suite("Socket addresses") struct SocketAddressTests {
    @Test(
        "what is written is read, and printed again",
        arguments: [
            ("127.0.0.1:7", "127.0.0.1:7"), ("0.0.0.0:0", "0.0.0.0:0"), ("255.255.255.255:65535", "255.255.255.255:65535"),
            ("10.0.0.1:06379", "10.0.0.1:6379"), ("[::1]:7", "[::1]:7"), ("[::]:65535", "[::]:65535"), ("[FE80::1%2]:7", "[fe80::1%2]:7"),
            ("[fe80::1%4294967295]:1", "[fe80::1%4294967295]:1"), ("[::1%0]:7", "[::1]:7"), ("[2001:db8:0:0:0:0:0:1]:80", "[2001:db8::1]:80"),
            ("[::ffff:1.2.3.4]:5", "[::ffff:1.2.3.4]:5"), ("[1:2:3:4:5:6:7:8]:9", "[1:2:3:4:5:6:7:8]:9"),
        ])
    func roundTrip(_ text: String, printed: String) throws {
        let address = try SocketAddress(parsing: text)
        #expect(address.description == printed)
        #expect(try SocketAddress(parsing: printed) == address)
        #expect(try SocketAddress(parsing: printed).hashValue == address.hashValue)
        // A part of a longer text reads the same.
        #expect(try SocketAddress(parsing: "x\(text)y".dropFirst().dropLast()) == address)
    }

    @Test("a path is an address", arguments: ["/run/x.sock", "./x.sock", "/a folder/x:7.sock"])
    func path(_ text: String) throws {
        let address = try SocketAddress(parsing: text)
        #expect(address.family == .path && address.path == text && address.description == text)
        #expect(try address == SocketAddress(path: text))
        #expect(address != .unnamedPath)
        #expect(try address != SocketAddress(path: text + "x"))
        #expect(try SocketAddress(parsing: "127.0.0.1:7").path == nil)
        #expect(SocketAddress.unnamedPath.path == "")
    }

    @Test("the parts")
    func parts() throws {
        let four = try SocketAddress(parsing: "1.2.3.4:5678")
        #expect(four.family == .ipv4 && four.port == 5_678 && four.scope == 0)
        #expect(four == .ipv4(1, 2, 3, 4, port: 5_678))
        #expect(withUnsafeBytes(of: four.bytes.0) { Array($0.prefix(4)) } == [1, 2, 3, 4], "in network order")
        let six = try SocketAddress(parsing: "[fe80::1%3]:9")
        #expect(six.family == .ipv6 && six.port == 9 && six.scope == 3)
        #expect(withUnsafeBytes(of: six.bytes) { Array($0) } == [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1])
        #expect(try SocketAddress(parsing: "[::1]:9") == .loopback(.ipv6, port: 9))
        #expect(try SocketAddress(parsing: "127.0.0.1:9") == .loopback(port: 9))
        #expect(try SocketAddress(parsing: "[::]:9") == .any(.ipv6, port: 9))
        #expect(SocketAddress.any(port: 9) != .any(.ipv6, port: 9))
        #expect(SocketAddress.any(port: 9) != .any(port: 8))
        #expect(SocketAddress(family: .ipv6, bytes: (1, 2), port: 3, scope: 4) != SocketAddress(family: .ipv6, bytes: (1, 2), port: 3, scope: 5))
    }

    @Test(
        "anything else is EINVAL",
        arguments: [
            "", ":", "7", ":7", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "127.0.0.1:-1", "127.0.0.1:+7", "127.0.0.1: 7", "127.0.0.1:7 ",
            " 127.0.0.1:7", "127.0.0.1:0x7", "127.0.0.1:seven", "127.0.0.1:٧", "127.0.0.1:99999999999999999999", "127.0.0:7", "127.0.0.1.1:7",
            "256.0.0.1:7", "127.0.0.1\0:7", "127.0.0.1\0.evil:7", "127.0.0.1:7\0", "localhost:7", "example.org:80", "::1:7", "::1", "[::1]", "[::1]7",
            "[::1]:", "[::1:7", "::1]:7", "[]:7", "[[::1]]:7", "[::1]]:7", "[127.0.0.1]:7", "[::1%]:7", "[::1%eth0]:7", "[::1%+2]:7", "[::1%-1]:7",
            "[::1%4294967296]:7", "[::1%1%2]:7", "[:::1]:7", "[1:2:3:4:5:6:7:8:9]:7", "[g::1]:7", "[::1\0]:7", "[", "]", "[]", "[:]:7", "\0",
            String(repeating: "1", count: 100_000), String(repeating: ":", count: 10_000), "[" + String(repeating: "0:", count: 10_000) + "]:7",
        ])
    func garbage(_ text: String) {
        var number: Int32 = 0
        do throws(DemikernelError) { _ = try SocketAddress(parsing: text) } catch { number = error.errno }
        #expect(number == EINVAL)
    }
}
