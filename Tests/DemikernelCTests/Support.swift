import CDemikernel
import DemikernelC
import Glibc
import QueueRuntime
import Testing

/// Runs `body` with a runtime of the calling thread over kernel sockets, as a C program makes one, and ends it.
func withCalls<Result>(_ body: () throws -> Result) throws -> Result {
    var arguments = demi_args()
    try call(demi_init(&arguments))
    defer { CInterface.end() }
    return try body()
}

/// A call that was refused.
struct Refusal: Error, Equatable {
    let errno: Int32
}

/// Expects that a call succeeds.
func call(_ error: Int32) throws {
    if error != 0 { throw Refusal(errno: error) }
}

func token(_ issue: (UnsafeMutablePointer<demi_qtoken_t>) -> Int32) throws -> demi_qtoken_t {
    var token: demi_qtoken_t = 0
    try call(issue(&token))
    return token
}

/// What a call that would issue an operation returns.
func error(_ issue: (UnsafeMutablePointer<demi_qtoken_t>) -> Int32) -> Int32 {
    var token: demi_qtoken_t = 0
    return issue(&token)
}

func descriptor(_ open: (UnsafeMutablePointer<Int32>) -> Int32) throws -> Int32 {
    var queue: Int32 = 0
    try call(open(&queue))
    return queue
}

/// Time that no operation of these tests needs.
let generous = timespec(tv_sec: 20, tv_nsec: 0)

func wait(_ token: demi_qtoken_t, _ timeout: timespec = generous) throws -> demi_qresult_t {
    var result = demi_qresult_t()
    var timeout = timeout
    try call(demi_wait(&result, token, &timeout))
    return result
}

func array(_ bytes: [UInt8]) throws -> demi_sgarray_t {
    let sga = demi_sgaalloc(bytes.count)
    try #require(sga.sga_numsegs == 1)
    sga.sga_segs.sgaseg_buf.copyMemory(from: bytes, byteCount: bytes.count)
    return sga
}

func bytes(_ sga: demi_sgarray_t) -> [UInt8] {
    [UInt8](UnsafeRawBufferPointer(start: sga.sga_segs.sgaseg_buf, count: Int(sga.sga_segs.sgaseg_len)))
}

func free(_ sga: demi_sgarray_t) throws {
    var sga = sga
    try call(demi_sgafree(&sga))
}

func push(_ queue: Int32, _ bytes: [UInt8]) throws {
    var sga = try array(bytes)
    let push = try token { demi_push($0, queue, &sga) }
    try free(sga)
    #expect(try wait(push).qr_opcode == DEMI_OPC_PUSH)
}

/// What comes next, as bytes.
func pop(_ queue: Int32) throws -> [UInt8] {
    let result = try wait(try token { demi_pop($0, queue) })
    try #require(result.qr_opcode == DEMI_OPC_POP)
    let found = bytes(result.qr_value.sga)
    try free(result.qr_value.sga)
    return found
}

func address(_ text: String) throws -> (sockaddr_storage, socklen_t) {
    let address = try SocketAddress(parsing: text)
    var storage = sockaddr_storage()
    var size: socklen_t
    switch address.family {
    case .ipv4:
        size = socklen_t(MemoryLayout<sockaddr_in>.size)
        withUnsafeMutableBytes(of: &storage) {
            $0.storeBytes(of: sa_family_t(AF_INET), as: sa_family_t.self)
            $0.storeBytes(of: address.port.bigEndian, toByteOffset: 2, as: UInt16.self)
            $0.storeBytes(of: UInt32(truncatingIfNeeded: address.bytes.0), toByteOffset: 4, as: UInt32.self)
        }
    case .ipv6:
        size = socklen_t(MemoryLayout<sockaddr_in6>.size)
        withUnsafeMutableBytes(of: &storage) {
            $0.storeBytes(of: sa_family_t(AF_INET6), as: sa_family_t.self)
            $0.storeBytes(of: address.port.bigEndian, toByteOffset: 2, as: UInt16.self)
            $0.storeBytes(of: address.bytes.0, toByteOffset: 8, as: UInt64.self)
            $0.storeBytes(of: address.bytes.1, toByteOffset: 16, as: UInt64.self)
        }
    case .path:
        let path = Array((address.path ?? "").utf8)
        size = socklen_t(2 + path.count + 1)
        withUnsafeMutableBytes(of: &storage) {
            $0.storeBytes(of: sa_family_t(AF_UNIX), as: sa_family_t.self)
            UnsafeMutableRawBufferPointer(rebasing: $0[2...]).copyBytes(from: path)
        }
    }
    return (storage, size)
}

/// Calls `body` with an address as C calls take it.
func withAddress<Result>(_ text: String, _ body: (UnsafePointer<sockaddr>, socklen_t) throws -> Result) throws -> Result {
    var (storage, size) = try address(text)
    return try withUnsafePointer(to: &storage) { try $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { try body($0, size) } }
}

/// What a call writes as an address, in the form of `SocketAddress`.
func readAddress(_ body: (UnsafeMutablePointer<sockaddr>, UnsafeMutablePointer<socklen_t>) -> Int32) throws -> String {
    var storage = sockaddr_storage()
    var size = socklen_t(MemoryLayout<sockaddr_storage>.size)
    try withUnsafeMutablePointer(to: &storage) { storage in
        try storage.withMemoryRebound(to: sockaddr.self, capacity: 1) { try call(body($0, &size)) }
    }
    return withUnsafeBytes(of: storage) { bytes in
        let port = UInt16(bigEndian: bytes.load(fromByteOffset: 2, as: UInt16.self))
        if Int32(storage.ss_family) == AF_UNIX {
            // The NUL behind the path belongs to the size; an unnamed end has neither.
            return size == 2 ? "unnamed" : String(decoding: bytes[2..<Int(size) - 1], as: UTF8.self)
        }
        if Int32(storage.ss_family) == AF_INET {
            #expect(size == 16)
            return SocketAddress(family: .ipv4, bytes: (UInt64(bytes.load(fromByteOffset: 4, as: UInt32.self)), 0), port: port).description
        }
        #expect(size == 28)
        let words = (bytes.load(fromByteOffset: 8, as: UInt64.self), bytes.load(fromByteOffset: 16, as: UInt64.self))
        return SocketAddress(family: .ipv6, bytes: words, port: port).description
    }
}

/// Binds to a free port of an address such as `127.0.0.1:0`, and says which it is.
func bind(_ queue: Int32, _ text: String) throws -> String {
    try withAddress(text) { try call(demi_bind(queue, $0, $1)) }
    return try readAddress { demi_getsockname(queue, $0, $1) }
}

/// The ends of a connection, made over a listener of `host`.
func connection(_ host: String = "127.0.0.1:0") throws -> (client: Int32, server: Int32) {
    let domain = host.hasPrefix("/") ? AF_UNIX : host.hasPrefix("[") ? AF_INET6 : AF_INET
    let type = Int32(SOCK_STREAM.rawValue)
    let listener = try descriptor { demi_socket($0, domain, type, 0) }
    let place = try bind(listener, host)
    try call(demi_listen(listener, 4))
    let accept = try token { demi_accept($0, listener) }
    let client = try descriptor { demi_socket($0, domain, type, 0) }
    let connect = try withAddress(place) { address, size in try token { demi_connect($0, client, address, size) } }
    #expect(try wait(connect).qr_opcode == DEMI_OPC_CONNECT)
    let accepted = try wait(accept)
    #expect(accepted.qr_opcode == DEMI_OPC_ACCEPT)
    // Also of an IPv6 peer: family and port.
    #expect(Int32(accepted.qr_value.ares.addr.sin_family) == domain)
    if domain != AF_UNIX {
        #expect(try readAddress { demi_getsockname(client, $0, $1) }.hasSuffix(":\(UInt16(bigEndian: accepted.qr_value.ares.addr.sin_port))"))
    }
    try call(demi_close(listener))
    return (client, accepted.qr_value.ares.qd)
}

func statistics() throws -> demi_statistics {
    var statistics = demi_statistics()
    try call(demi_get_statistics(&statistics, MemoryLayout<demi_statistics>.size))
    return statistics
}
