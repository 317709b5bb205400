import CDemikernel
import DemikernelC
import Foundation
import Glibc
import QueueRuntime
import SharedMemoryQueues
import Testing

/// The calls over shared memory: sockets with paths, and with the IP addresses of programs that know no paths.
@Suite struct SharedMemoryTests {
    /// Runs `body` with a runtime over shared memory, and a folder of its own.
    private func withFolder(_ body: (_ folder: String) throws -> Void) throws {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent("c-catmem-\(getpid())-\(UInt32.random(in: 0 ... .max))").path
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: false, attributes: [.posixPermissions: 0o700])
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let runtime = try Runtime()
        try runtime.register(SharedMemoryQueues.make(for: runtime.core, directory: folder))
        try CInterface.begin(over: runtime)
        defer { CInterface.end() }
        try body(folder)
    }

    @Test(arguments: ["127.0.0.1:0", "[::1]:0", "/x.sock"]) func whatIsPushedIsPopped(host: String) throws {
        try withFolder { folder in
            let (client, server) = try connection(host.hasPrefix("/") ? folder + host : host)
            for (from, to) in [(client, server), (server, client)] {
                for size in [1, 64, 4_096, 258_048] {
                    let message = (0..<size).map { UInt8(truncatingIfNeeded: $0 &* 7 &+ size) }
                    try push(from, message)
                    #expect(try pop(to) == message)
                }
            }
            try call(demi_close(client))
            #expect(try pop(server) == [])
            try call(demi_close(server))
            #expect(try statistics().live_arrays == 0)
        }
    }

    @Test func pathsAreToldWhole() throws {
        try withFolder { folder in
            let listener = try descriptor { demi_socket($0, AF_UNIX, Int32(SOCK_SEQPACKET.rawValue), 0) }
            #expect(try readAddress { demi_getsockname(listener, $0, $1) } == "unnamed")
            let path = folder + "/" + String(repeating: "y", count: 106 - folder.utf8.count)
            #expect(try bind(listener, path) == path)
            try call(demi_listen(listener, 4))
            let client = try descriptor { demi_socket($0, AF_UNIX, Int32(SOCK_STREAM.rawValue), 0) }
            let accept = try token { demi_accept($0, listener) }
            let connect = try withAddress(path) { address, size in try token { demi_connect($0, client, address, size) } }
            let accepted = try wait(accept)
            #expect(try wait(connect).qr_opcode == DEMI_OPC_CONNECT)
            // The family, and nothing else.
            withUnsafeBytes(of: accepted.qr_value.ares.addr) { #expect($0.elementsEqual([UInt8(AF_UNIX)] + [UInt8](repeating: 0, count: 15))) }
            #expect(try readAddress { demi_getpeername(client, $0, $1) } == path)
            #expect(try readAddress { demi_getsockname(client, $0, $1) } == "unnamed")
            #expect(try readAddress { demi_getsockname(accepted.qr_value.ares.qd, $0, $1) } == path)
            #expect(try readAddress { demi_getpeername(accepted.qr_value.ares.qd, $0, $1) } == "unnamed")
            // 2 bytes of the family, 107 of the path, 1 of the NUL.
            for (room, expected) in [(110, 0), (109, EINVAL), (2, EINVAL), (0, EINVAL)] as [(socklen_t, Int32)] {
                var place = [UInt8](repeating: 0xee, count: 128)
                var size = room
                let result = place.withUnsafeMutableBytes { demi_getpeername(client, $0.baseAddress!.assumingMemoryBound(to: sockaddr.self), &size) }
                #expect(result == expected && (expected != 0 ? place.allSatisfy { $0 == 0xee } : size == 110 && place[109] == 0 && place[110] == 0xee))
            }
        }
    }

    @Test func whatIsNoPathIsRefused() throws {
        try withFolder { folder in
            let queue = try descriptor { demi_socket($0, AF_UNIX, Int32(SOCK_STREAM.rawValue), 0) }
            func bind(_ path: [UInt8], _ size: Int? = nil) -> Int32 {
                var bytes = [UInt8(AF_UNIX), 0] + path
                bytes += [UInt8](repeating: 0, count: 128 - bytes.count)
                return bytes.withUnsafeBytes { demi_bind(queue, $0.baseAddress!.assumingMemoryBound(to: sockaddr.self), socklen_t(size ?? 2 + path.count)) }
            }
            #expect(bind([]) == EINVAL)
            #expect(bind([0, 0x61, 0x62]) == EINVAL, "an abstract address")
            #expect(bind([0x2f, 0xff, 0xfe]) == EINVAL, "no text")
            #expect(bind([0x2f], 1) == EINVAL)
            #expect(bind([UInt8](repeating: 0x61, count: 108)) == ENAMETOOLONG)
            #expect(bind(Array("\(folder)/none/x.sock".utf8)) == ENOENT)
            #expect(withAddressError("127.0.0.1:7") { demi_bind(queue, $0, $1) } == EAFNOSUPPORT)
            let internet = try descriptor { demi_socket($0, AF_INET, Int32(SOCK_STREAM.rawValue), Int32(IPPROTO_TCP)) }
            #expect(withAddressError("\(folder)/x.sock") { demi_bind(internet, $0, $1) } == EAFNOSUPPORT)
            var opened: Int32 = 0
            #expect(demi_socket(&opened, AF_INET, Int32(SOCK_DGRAM.rawValue), 0) == ESOCKTNOSUPPORT)
            #expect(demi_socket(&opened, AF_UNIX, Int32(SOCK_DGRAM.rawValue), 0) == ESOCKTNOSUPPORT)
            #expect(demi_socket(&opened, AF_INET, Int32(SOCK_SEQPACKET.rawValue), 0) == ESOCKTNOSUPPORT)
            #expect(demi_socket(&opened, AF_UNIX, Int32(SOCK_STREAM.rawValue), Int32(IPPROTO_TCP)) == EPROTONOSUPPORT)
            // What a path does not need to the end, a NUL ends.
            #expect(bind(Array("\(folder)/y.sock".utf8) + [0, 0x61, 0x61]) == 0)
            #expect(try readAddress { demi_getsockname(queue, $0, $1) } == "\(folder)/y.sock")
        }
    }

    private func withAddressError(_ text: String, _ body: (UnsafePointer<sockaddr>, socklen_t) -> Int32) -> Int32 {
        do { return try withAddress(text, body) } catch { return -1 }
    }

    @Test func nothingIsPushedWhereItWouldLookLikeTheEnd() throws {
        try withFolder { folder in
            for (host, expected) in [("127.0.0.1:0", EINVAL), ("\(folder)/x.sock", 0)] {
                let (client, _) = try connection(host)
                var sga = try array([1])
                sga.sga_segs.sgaseg_len = 0
                #expect(error { demi_push($0, client, &sga) } == expected)
                try free(sga)
            }
        }
    }
}
