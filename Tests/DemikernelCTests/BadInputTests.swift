import CDemikernel
import DemikernelC
import Glibc
import Testing

/// Every pointer NULL, every descriptor, size, level and option wrong: the errno that the call's comment lists, and nothing has changed.
@Suite struct BadInputTests {
    /// One call with something wrong.
    private struct Case {
        let call: String
        let what: String
        /// What it must be refused with; nil for any that is documented.
        let errno: Int32?
        let make: () -> Int32
    }

    private static let names: [Int32: String] = [
        EINVAL: "EINVAL", EBADF: "EBADF", EAFNOSUPPORT: "EAFNOSUPPORT", ESOCKTNOSUPPORT: "ESOCKTNOSUPPORT", EPROTONOSUPPORT: "EPROTONOSUPPORT",
        EOPNOTSUPP: "EOPNOTSUPP", ENOPROTOOPT: "ENOPROTOOPT", ENOTCONN: "ENOTCONN", EDESTADDRREQ: "EDESTADDRREQ", EMSGSIZE: "EMSGSIZE",
        EEXIST: "EEXIST", ETIMEDOUT: "ETIMEDOUT", EADDRNOTAVAIL: "EADDRNOTAVAIL", EACCES: "EACCES", EISCONN: "EISCONN", ENOBUFS: "ENOBUFS", ENAMETOOLONG: "ENAMETOOLONG",
    ]

    @Test func everyMistakeIsRefusedAsDocumented() throws {
        let documented = try Interface.documentedErrors()
        try withCalls {
            let cases = try BadInputTests.cases()
            #expect(cases.count > 400, "\(cases.count) cases")
            let before = try counts()
            for mistake in cases {
                let result = mistake.make()
                #expect(result != 0, "\(mistake.call) with \(mistake.what) was not refused")
                if let errno = mistake.errno {
                    #expect(result == errno, "\(mistake.call) with \(mistake.what): \(BadInputTests.names[result] ?? "\(result)")")
                }
                let name = BadInputTests.names[result] ?? "\(result)"
                #expect(documented[mistake.call]?.contains(name) == true, "\(mistake.call) with \(mistake.what): \(name) is not documented")
            }
            #expect(try counts() == before)
        }
    }

    /// What a refused call must leave as it was.
    private func counts() throws -> [UInt64] {
        let counts = try statistics()
        return [counts.live_operations, counts.open_queues, counts.live_arrays, counts.live_blocks, counts.live_segments, counts.memory_used]
    }

    private static func cases() throws -> [Case] {
        let stream = Int32(SOCK_STREAM.rawValue)
        let datagram = Int32(SOCK_DGRAM.rawValue)
        var cases: [Case] = []
        func add(_ call: String, _ what: String, _ errno: Int32?, _ make: @escaping () -> Int32) {
            cases.append(Case(call: call, what: what, errno: errno, make: make))
        }
        // What is right, so that one thing alone is wrong each time. It lives as long as the process.
        let qt = UnsafeMutablePointer<demi_qtoken_t>.allocate(capacity: 4)
        qt.initialize(repeating: 0, count: 4)
        let fd = UnsafeMutablePointer<Int32>.allocate(capacity: 1)
        let result = UnsafeMutablePointer<demi_qresult_t>.allocate(capacity: 4)
        let count = UnsafeMutablePointer<UInt32>.allocate(capacity: 1)
        let length = UnsafeMutablePointer<socklen_t>.allocate(capacity: 1)
        let value = UnsafeMutablePointer<Int32>.allocate(capacity: 4)
        value.initialize(repeating: 1, count: 4)
        let segments = UnsafeMutablePointer<demi_sgaseg_t>.allocate(capacity: 17)
        let time = UnsafeMutablePointer<timespec>.allocate(capacity: 1)
        let addressRoom = UnsafeMutableRawPointer.allocate(byteCount: 128, alignment: 8).assumingMemoryBound(to: sockaddr.self)
        let place = UnsafeMutableRawPointer.allocate(byteCount: 128, alignment: 8)
        let (loopback, size) = try address("127.0.0.1:9")
        place.storeBytes(of: loopback, as: sockaddr_storage.self)
        let target = place.assumingMemoryBound(to: sockaddr.self)
        let good = UnsafeMutablePointer<demi_sgarray_t>.allocate(capacity: 1)
        good.initialize(to: try array([1, 2, 3, 4]))
        segments.initialize(repeating: good.pointee.sga_segs, count: 17)

        let streamSocket = try descriptor { demi_socket($0, AF_INET, stream, 0) }
        let datagramSocket = try descriptor { demi_socket($0, AF_INET, datagram, 0) }
        let memoryQueue = try descriptor { demi_queue($0) }
        let closed = try descriptor { demi_queue($0) }
        try call(demi_close(closed))
        let pending = try token { demi_pop($0, memoryQueue) }
        let spent = try token { demi_push($0, try! descriptor { demi_queue($0) }, good) }
        _ = try wait(spent)
        let badQueues: [Int32] = [-1, 0, 1, 2, 3, 100, closed, streamSocket ^ 1 << 20, streamSocket | 1 << 30, .min, .max, 1 << 20, 1 << 20 - 1]

        // Descriptors.
        for queue in badQueues {
            add("demi_bind", "queue \(queue)", EBADF) { demi_bind(queue, target, size) }
            add("demi_listen", "queue \(queue)", EBADF) { demi_listen(queue, 1) }
            add("demi_accept", "queue \(queue)", EBADF) { demi_accept(qt, queue) }
            add("demi_connect", "queue \(queue)", EBADF) { demi_connect(qt, queue, target, size) }
            add("demi_close", "queue \(queue)", EBADF) { demi_close(queue) }
            add("demi_async_close", "queue \(queue)", EBADF) { demi_async_close(qt, queue) }
            add("demi_push", "queue \(queue)", EBADF) { demi_push(qt, queue, good) }
            add("demi_pushto", "queue \(queue)", EBADF) { demi_pushto(qt, queue, good, target, size) }
            add("demi_pushv", "queue \(queue)", EBADF) { demi_pushv(qt, queue, segments, 1, nil, 0) }
            add("demi_pushv", "queue \(queue) and an address", EBADF) { demi_pushv(qt, queue, segments, 16, target, size) }
            add("demi_pop", "queue \(queue)", EBADF) { demi_pop(qt, queue) }
            add("demi_popv", "queue \(queue)", EBADF) { demi_popv(qt, queue, 4, 100) }
            add("demi_shutdown", "queue \(queue)", EBADF) { demi_shutdown(queue, Int32(SHUT_RDWR)) }
            add("demi_getsockname", "queue \(queue)", EBADF) { length.pointee = 128; return demi_getsockname(queue, addressRoom, length) }
            add("demi_getpeername", "queue \(queue)", EBADF) { length.pointee = 128; return demi_getpeername(queue, addressRoom, length) }
            add("demi_setsockopt", "queue \(queue)", EBADF) { demi_setsockopt(queue, Int32(IPPROTO_TCP), TCP_NODELAY, value, 4) }
            add("demi_getsockopt", "queue \(queue)", EBADF) { length.pointee = 4; return demi_getsockopt(queue, Int32(IPPROTO_TCP), TCP_NODELAY, value, length) }
        }

        // Pointers.
        add("demi_init", "no arguments", EINVAL) { demi_init(nil) }
        add("demi_socket", "NULL", EINVAL) { demi_socket(nil, AF_INET, stream, 0) }
        add("demi_queue", "NULL", EINVAL) { demi_queue(nil) }
        add("demi_bind", "NULL", EINVAL) { demi_bind(streamSocket, nil, size) }
        add("demi_accept", "NULL", EINVAL) { demi_accept(nil, streamSocket) }
        add("demi_connect", "no token", EINVAL) { demi_connect(nil, streamSocket, target, size) }
        add("demi_connect", "no address", EINVAL) { demi_connect(qt, streamSocket, nil, size) }
        add("demi_async_close", "NULL", EINVAL) { demi_async_close(nil, memoryQueue) }
        add("demi_push", "no token", EINVAL) { demi_push(nil, memoryQueue, good) }
        add("demi_push", "no array", EINVAL) { demi_push(qt, memoryQueue, nil) }
        add("demi_pushto", "no token", EINVAL) { demi_pushto(nil, datagramSocket, good, target, size) }
        add("demi_pushto", "no array", EINVAL) { demi_pushto(qt, datagramSocket, nil, target, size) }
        add("demi_pushto", "no address", EINVAL) { demi_pushto(qt, datagramSocket, good, nil, size) }
        add("demi_pushv", "no token", EINVAL) { demi_pushv(nil, memoryQueue, segments, 1, nil, 0) }
        add("demi_pushv", "no segments", EINVAL) { demi_pushv(qt, memoryQueue, nil, 1, nil, 0) }
        add("demi_pop", "NULL", EINVAL) { demi_pop(nil, memoryQueue) }
        add("demi_popv", "NULL", EINVAL) { demi_popv(nil, memoryQueue, 1, 1) }
        for queue in [streamSocket, datagramSocket, memoryQueue] {
            add("demi_getsockname", "no room", EINVAL) { demi_getsockname(queue, nil, length) }
            add("demi_getsockname", "no size", EINVAL) { demi_getsockname(queue, addressRoom, nil) }
            add("demi_getpeername", "no room", EINVAL) { demi_getpeername(queue, nil, length) }
            add("demi_getpeername", "no size", EINVAL) { demi_getpeername(queue, addressRoom, nil) }
            add("demi_setsockopt", "no value", EINVAL) { demi_setsockopt(queue, SOL_SOCKET, SO_KEEPALIVE, nil, 4) }
            add("demi_getsockopt", "no value", EINVAL) { length.pointee = 4; return demi_getsockopt(queue, SOL_SOCKET, SO_KEEPALIVE, nil, length) }
            add("demi_getsockopt", "no size", EINVAL) { demi_getsockopt(queue, SOL_SOCKET, SO_KEEPALIVE, value, nil) }
        }
        add("demi_sgafree", "NULL", EINVAL) { demi_sgafree(nil) }
        add("demi_sga_segments", "no array", EINVAL) { demi_sga_segments(nil, segments, 16, count) }
        add("demi_sga_segments", "no room", EINVAL) { demi_sga_segments(good, nil, 16, count) }
        add("demi_sga_segments", "no number", EINVAL) { demi_sga_segments(good, segments, 16, nil) }
        add("demi_sga_segments", "too little room", EINVAL) { demi_sga_segments(good, segments, 0, count) }
        add("demi_sga_address", "no array", EINVAL) { demi_sga_address(nil, addressRoom, length) }
        add("demi_sga_address", "no room", EINVAL) { demi_sga_address(good, nil, length) }
        add("demi_sga_address", "no size", EINVAL) { demi_sga_address(good, addressRoom, nil) }
        add("demi_sga_address", "no address", ENOTCONN) { length.pointee = 128; return demi_sga_address(good, addressRoom, length) }
        add("demi_poll", "NULL", EINVAL) { demi_poll(nil) }
        add("demi_event_fd", "NULL", EINVAL) { demi_event_fd(nil) }
        for bytes in [0, 1, 7, 4_097, .max, -1] {
            let room = UnsafeMutableRawPointer.allocate(byteCount: 128, alignment: 8).assumingMemoryBound(to: demi_statistics.self)
            add("demi_get_statistics", "\(bytes) bytes", EINVAL) { demi_get_statistics(room, bytes) }
        }
        add("demi_get_statistics", "NULL", EINVAL) { demi_get_statistics(nil, 104) }

        // Waiting.
        qt.pointee = pending
        add("demi_wait", "no result", EINVAL) { demi_wait(nil, pending, nil) }
        add("demi_wait_any", "no result", EINVAL) { demi_wait_any(nil, fd, qt, 1, nil) }
        add("demi_wait_any", "no offset", EINVAL) { demi_wait_any(result, nil, qt, 1, nil) }
        add("demi_wait_any", "no tokens", EINVAL) { demi_wait_any(result, fd, nil, 1, nil) }
        add("demi_wait_all", "no result", EINVAL) { demi_wait_all(nil, qt, 1, nil) }
        add("demi_wait_all", "no tokens", EINVAL) { demi_wait_all(result, nil, 1, nil) }
        add("demi_wait_next_n", "no result", EINVAL) { demi_wait_next_n(nil, 1, fd, nil) }
        add("demi_wait_next_n", "no number", EINVAL) { demi_wait_next_n(result, 1, nil, nil) }
        let between = UnsafeRawPointer(UnsafeMutableRawPointer(qt) + 1).assumingMemoryBound(to: demi_qtoken_t.self)
        add("demi_wait_any", "tokens between numbers", EINVAL) { demi_wait_any(result, fd, between, 1, nil) }
        for number: Int32 in [0, -1, .min, 1 << 20 + 1, .max] {
            add("demi_wait_any", "\(number) tokens", EINVAL) { demi_wait_any(result, fd, qt, number, nil) }
            add("demi_wait_all", "\(number) tokens", EINVAL) { demi_wait_all(result, qt, number, nil) }
            if number < 1 { add("demi_wait_next_n", "\(number) results", EINVAL) { demi_wait_next_n(result, number, fd, nil) } }
        }
        let badTokens: [demi_qtoken_t] = [0, 1, 2, spent, pending ^ 1, pending ^ 1 << 63, pending &+ 1 << 20, ~pending, .max, 1 << 20, 1 << 20 - 1]
        for token in badTokens {
            let wrong = UnsafeMutablePointer<demi_qtoken_t>.allocate(capacity: 2)
            wrong[0] = pending
            wrong[1] = token
            add("demi_wait", "token \(token)", EINVAL) { demi_wait(result, token, nil) }
            add("demi_cancel", "token \(token)", EINVAL) { demi_cancel(token) }
            add("demi_wait_any", "token \(token)", EINVAL) { demi_wait_any(result, fd, wrong, 2, nil) }
            add("demi_wait_all", "token \(token)", EINVAL) { demi_wait_all(result, wrong, 2, nil) }
        }
        for (seconds, nanoseconds) in [(-1, 0), (0, -1), (0, 1_000_000_000), (.min, 0), (1, .max), (0, .min)] {
            let set = { time.pointee = timespec(tv_sec: seconds, tv_nsec: nanoseconds) }
            let what = "a timeout of \(seconds) s and \(nanoseconds) ns"
            add("demi_wait", what, EINVAL) { set(); return demi_wait(result, pending, time) }
            add("demi_wait_any", what, EINVAL) { set(); qt.pointee = pending; return demi_wait_any(result, fd, qt, 1, time) }
            add("demi_wait_all", what, EINVAL) { set(); qt.pointee = pending; return demi_wait_all(result, qt, 1, time) }
            add("demi_wait_next_n", what, EINVAL) { set(); return demi_wait_next_n(result, 4, fd, time) }
        }

        // Sockets.
        for domain: Int32 in [-1, 0, AF_UNIX, 3, 255, .max, .min] {
            add("demi_socket", "domain \(domain)", EAFNOSUPPORT) { demi_socket(fd, domain, stream, 0) }
        }
        for type: Int32 in [-1, 0, 3, 4, 5, 6, 10, .max, .min] { add("demi_socket", "type \(type)", ESOCKTNOSUPPORT) { demi_socket(fd, AF_INET, type, 0) } }
        for number: Int32 in [-1, 1, Int32(IPPROTO_UDP), 132, .max] {
            add("demi_socket", "protocol \(number)", EPROTONOSUPPORT) { demi_socket(fd, AF_INET, stream, number) }
        }
        add("demi_socket", "TCP for datagrams", EPROTONOSUPPORT) { demi_socket(fd, AF_INET6, datagram, Int32(IPPROTO_TCP)) }
        for bytes: socklen_t in [0, 1, 2, 4, 8, 15] {
            add("demi_bind", "an address of \(bytes) bytes", EINVAL) { demi_bind(streamSocket, target, bytes) }
            add("demi_connect", "an address of \(bytes) bytes", EINVAL) { demi_connect(qt, streamSocket, target, bytes) }
            add("demi_pushto", "an address of \(bytes) bytes", EINVAL) { demi_pushto(qt, datagramSocket, good, target, bytes) }
            add("demi_pushv", "an address of \(bytes) bytes", EINVAL) { demi_pushv(qt, datagramSocket, segments, 1, target, bytes) }
            add("demi_getsockname", "room of \(bytes) bytes", EINVAL) { length.pointee = bytes; return demi_getsockname(streamSocket, addressRoom, length) }
        }
        add("demi_pushv", "a size of no address", EINVAL) { demi_pushv(qt, datagramSocket, segments, 1, nil, 16) }
        for family: sa_family_t in [0, 3, 9, 255, .max] {
            let other = UnsafeMutableRawPointer.allocate(byteCount: 128, alignment: 8)
            other.storeBytes(of: loopback, as: sockaddr_storage.self)
            other.storeBytes(of: family, as: sa_family_t.self)
            let strange = other.assumingMemoryBound(to: sockaddr.self)
            add("demi_bind", "family \(family)", EAFNOSUPPORT) { demi_bind(streamSocket, strange, 128) }
            add("demi_connect", "family \(family)", EAFNOSUPPORT) { demi_connect(qt, streamSocket, strange, 128) }
            add("demi_pushto", "family \(family)", EAFNOSUPPORT) { demi_pushto(qt, datagramSocket, good, strange, 128) }
            add("demi_pushv", "family \(family)", EAFNOSUPPORT) { demi_pushv(qt, datagramSocket, segments, 1, strange, 128) }
        }
        // A path, on sockets that have none; and what is no path: none, an abstract one, one that is too long.
        let path = try address("/tmp/x.sock")
        for (what, first, size, errno) in [
            ("a path", UInt8(ascii: "/"), path.1, EAFNOSUPPORT), ("a path of no end", UInt8(ascii: "/"), 3, EAFNOSUPPORT), ("no path", UInt8(ascii: "/"), 2, EINVAL),
            ("an abstract path", 0, path.1, EINVAL), ("no text", 0xff, path.1, EINVAL),
        ] as [(String, UInt8, socklen_t, Int32)] {
            let other = UnsafeMutableRawPointer.allocate(byteCount: 128, alignment: 8)
            other.storeBytes(of: path.0, as: sockaddr_storage.self)
            other.storeBytes(of: first, toByteOffset: 2, as: UInt8.self)
            let strange = other.assumingMemoryBound(to: sockaddr.self)
            add("demi_bind", what, errno) { demi_bind(streamSocket, strange, size) }
            add("demi_connect", what, errno) { demi_connect(qt, streamSocket, strange, size) }
            add("demi_pushto", what, errno) { demi_pushto(qt, datagramSocket, good, strange, size) }
            add("demi_pushv", what, errno) { demi_pushv(qt, datagramSocket, segments, 1, strange, size) }
        }
        let endless = UnsafeMutableRawPointer.allocate(byteCount: 128, alignment: 8)
        memset(endless, 0x61, 128)
        endless.storeBytes(of: sa_family_t(AF_UNIX), as: sa_family_t.self)
        add("demi_bind", "a path of 108 bytes", ENAMETOOLONG) { demi_bind(streamSocket, endless.assumingMemoryBound(to: sockaddr.self), 128) }
        add("demi_connect", "a path of 108 bytes", ENAMETOOLONG) { demi_connect(qt, streamSocket, endless.assumingMemoryBound(to: sockaddr.self), 128) }
        for bytes: socklen_t in [16, 27, 28] {
            let other = UnsafeMutableRawPointer.allocate(byteCount: 128, alignment: 8)
            other.storeBytes(of: try address("[::1]:9").0, as: sockaddr_storage.self)
            let sixth = other.assumingMemoryBound(to: sockaddr.self)
            // Of another family than the socket, once it is long enough to have one.
            let errno = bytes < 28 ? EINVAL : EAFNOSUPPORT
            add("demi_bind", "an IPv6 address of \(bytes) bytes", errno) { demi_bind(streamSocket, sixth, bytes) }
            add("demi_connect", "an IPv6 address of \(bytes) bytes", errno) { demi_connect(qt, streamSocket, sixth, bytes) }
            add("demi_pushto", "an IPv6 address of \(bytes) bytes", errno) { demi_pushto(qt, datagramSocket, good, sixth, bytes) }
        }
        for backlog: Int32 in [0, -1, .min] { add("demi_listen", "backlog \(backlog)", EINVAL) { demi_listen(streamSocket, backlog) } }
        add("demi_listen", "an unbound socket", EINVAL) { demi_listen(streamSocket, 1) }
        add("demi_listen", "a datagram socket", EOPNOTSUPP) { demi_listen(datagramSocket, 1) }
        add("demi_accept", "a socket that does not listen", EINVAL) { demi_accept(qt, streamSocket) }
        add("demi_accept", "a datagram socket", nil) { demi_accept(qt, datagramSocket) }
        add("demi_accept", "an in-memory queue", EOPNOTSUPP) { demi_accept(qt, memoryQueue) }
        add("demi_listen", "an in-memory queue", EOPNOTSUPP) { demi_listen(memoryQueue, 1) }
        add("demi_bind", "an in-memory queue", EOPNOTSUPP) { demi_bind(memoryQueue, target, size) }
        add("demi_connect", "an in-memory queue", EOPNOTSUPP) { demi_connect(qt, memoryQueue, target, size) }
        add("demi_getsockname", "an in-memory queue", EOPNOTSUPP) { length.pointee = 128; return demi_getsockname(memoryQueue, addressRoom, length) }
        add("demi_getpeername", "an in-memory queue", EOPNOTSUPP) { length.pointee = 128; return demi_getpeername(memoryQueue, addressRoom, length) }
        add("demi_getpeername", "no peer", ENOTCONN) { length.pointee = 128; return demi_getpeername(streamSocket, addressRoom, length) }
        add("demi_push", "no peer", ENOTCONN) { demi_push(qt, streamSocket, good) }
        add("demi_push", "no peer of datagrams", EDESTADDRREQ) { demi_push(qt, datagramSocket, good) }
        add("demi_pop", "no peer", ENOTCONN) { demi_pop(qt, streamSocket) }
        add("demi_popv", "no peer", ENOTCONN) { demi_popv(qt, streamSocket, 1, 1) }
        add("demi_pushto", "a stream", EOPNOTSUPP) { demi_pushto(qt, streamSocket, good, target, size) }
        add("demi_pushto", "an in-memory queue", EOPNOTSUPP) { demi_pushto(qt, memoryQueue, good, target, size) }
        add("demi_shutdown", "no peer", ENOTCONN) { demi_shutdown(streamSocket, Int32(SHUT_RDWR)) }
        for how: Int32 in [-1, 3, 4, .max, .min] { add("demi_shutdown", "how \(how)", EINVAL) { demi_shutdown(streamSocket, how) } }
        for number: UInt32 in [0, 17, 1_000, .max] {
            add("demi_pushv", "\(number) segments", EINVAL) { demi_pushv(qt, memoryQueue, segments, number, nil, 0) }
            add("demi_popv", "\(number) segments", EINVAL) { demi_popv(qt, memoryQueue, number, 1) }
        }
        add("demi_popv", "no bytes", EINVAL) { demi_popv(qt, memoryQueue, 1, 0) }

        // Options.
        for level: Int32 in [-1, 2, Int32(IPPROTO_UDP), 255, .max, .min] {
            for name: Int32 in [0, 1, 13, -1] {
                add("demi_setsockopt", "level \(level), option \(name)", ENOPROTOOPT) { demi_setsockopt(streamSocket, level, name, value, 8) }
                add("demi_getsockopt", "level \(level), option \(name)", ENOPROTOOPT) {
                    length.pointee = 8
                    return demi_getsockopt(streamSocket, level, name, value, length)
                }
            }
        }
        let options: [(Int32, Int32)] = [
            (SOL_SOCKET, SO_KEEPALIVE), (SOL_SOCKET, SO_LINGER), (Int32(IPPROTO_TCP), TCP_NODELAY), (Int32(IPPROTO_IP), IP_TTL),
            (SOL_SOCKET, SO_SNDBUF), (Int32(IPPROTO_TCP), TCP_USER_TIMEOUT),
        ]
        for (level, name) in options {
            for bytes: socklen_t in [0, 1, 3] {
                add("demi_setsockopt", "\(bytes) bytes for option \(name)", EINVAL) { demi_setsockopt(streamSocket, level, name, value, bytes) }
                add("demi_getsockopt", "\(bytes) bytes for option \(name)", EINVAL) {
                    length.pointee = bytes
                    return demi_getsockopt(streamSocket, level, name, value, length)
                }
            }
            add("demi_setsockopt", "an in-memory queue", EOPNOTSUPP) { demi_setsockopt(memoryQueue, level, name, value, 8) }
            add("demi_getsockopt", "an in-memory queue", EOPNOTSUPP) {
                length.pointee = 8
                return demi_getsockopt(memoryQueue, level, name, value, length)
            }
        }
        let negative = UnsafeMutablePointer<Int32>.allocate(capacity: 2)
        negative.initialize(repeating: -1, count: 2)
        for (level, name) in [
            (SOL_SOCKET, SO_LINGER), (SOL_SOCKET, SO_SNDBUF), (Int32(IPPROTO_TCP), TCP_USER_TIMEOUT), (Int32(IPPROTO_IP), IP_TTL),
            (Int32(IPPROTO_IP), IP_TOS), (Int32(IPPROTO_TCP), TCP_KEEPIDLE),
        ] { add("demi_setsockopt", "-1 for option \(name)", EINVAL) { demi_setsockopt(streamSocket, level, name, negative, 8) } }
        for (level, name) in [(Int32(IPPROTO_TCP), TCP_NODELAY), (SOL_SOCKET, SO_LINGER), (SOL_SOCKET, SO_KEEPALIVE)] {
            add("demi_setsockopt", "option \(name) of datagrams", EOPNOTSUPP) { demi_setsockopt(datagramSocket, level, name, value, 8) }
        }

        // Arrays.
        let anything = UnsafeMutableRawPointer.allocate(byteCount: 64, alignment: 16)
        let wrongHandles: [UnsafeMutableRawPointer?] = [
            nil, UnsafeMutableRawPointer(bitPattern: 1), UnsafeMutableRawPointer(bitPattern: -1), good.pointee.sga_buf + 1, good.pointee.sga_buf + 1 << 20,
            good.pointee.sga_segs.sgaseg_buf, anything, UnsafeMutableRawPointer(good),
        ]
        for handle in wrongHandles {
            let wrong = UnsafeMutablePointer<demi_sgarray_t>.allocate(capacity: 1)
            wrong.initialize(to: good.pointee)
            wrong.pointee.sga_buf = handle
            let what = "an array of \(handle.map { "\($0)" } ?? "NULL")"
            add("demi_push", what, EINVAL) { demi_push(qt, memoryQueue, wrong) }
            add("demi_pushto", what, EINVAL) { demi_pushto(qt, datagramSocket, wrong, target, size) }
            add("demi_sgafree", what, EINVAL) { demi_sgafree(wrong) }
            add("demi_sga_segments", what, EINVAL) { demi_sga_segments(wrong, segments + 1, 16, count) }
            add("demi_sga_address", what, EINVAL) { length.pointee = 128; return demi_sga_address(wrong, addressRoom, length) }
        }
        for number: UInt32 in [0, 2, 16, .max] {
            let wrong = UnsafeMutablePointer<demi_sgarray_t>.allocate(capacity: 1)
            wrong.initialize(to: good.pointee)
            wrong.pointee.sga_numsegs = number
            add("demi_push", "\(number) segments", EINVAL) { demi_push(qt, memoryQueue, wrong) }
        }
        let start = good.pointee.sga_segs.sgaseg_buf!
        for (address, bytes) in [(nil, 1), (anything, 4), (start - 1, 4), (start, 5), (start + 4, 1), (start, UInt32.max)] as [(UnsafeMutableRawPointer?, UInt32)] {
            let wrong = UnsafeMutablePointer<demi_sgarray_t>.allocate(capacity: 1)
            wrong.initialize(to: good.pointee)
            wrong.pointee.sga_segs = demi_sgaseg_t(sgaseg_buf: address, sgaseg_len: bytes)
            add("demi_push", "a segment of \(bytes) bytes elsewhere", EINVAL) { demi_push(qt, memoryQueue, wrong) }
            add("demi_pushto", "a segment of \(bytes) bytes elsewhere", EINVAL) { demi_pushto(qt, datagramSocket, wrong, target, size) }
        }
        // A block of 64 bytes holds the four.
        for (address, bytes) in [(nil, 0), (nil, 1), (anything, 4), (start, 65), (start, .max), (start + 4_096, 4)] as [(UnsafeMutableRawPointer?, UInt32)] {
            let wrong = UnsafeMutablePointer<demi_sgaseg_t>.allocate(capacity: 2)
            wrong[0] = good.pointee.sga_segs
            wrong[1] = demi_sgaseg_t(sgaseg_buf: address, sgaseg_len: bytes)
            add("demi_pushv", "a segment of \(bytes) bytes elsewhere", EINVAL) { demi_pushv(qt, memoryQueue, wrong, 2, nil, 0) }
            add("demi_pushv", "a first segment of \(bytes) bytes elsewhere", EINVAL) { demi_pushv(qt, memoryQueue, wrong + 1, 1, nil, 0) }
        }
        let memory = try #require(demi_malloc(100))
        for pointer in [anything, memory + 1, memory + 16, memory - 16, memory + 64, start, UnsafeMutableRawPointer(good)] {
            add("demi_free", "\(pointer)", EINVAL) { demi_free(pointer) }
        }
        return cases
    }

    @Test func initialisationRefusesWhatIsWrong() throws {
        var arguments = demi_args(argc: 1, argv: nil, callback: nil)
        #expect(demi_init(&arguments) == EINVAL)
        arguments.argc = -1
        #expect(demi_init(&arguments) == EINVAL)
        arguments.argc = 0
        try call(demi_init(&arguments))
        defer { CInterface.end() }
        #expect(demi_init(&arguments) == EEXIST)
        #expect(String(cString: demi_last_error()) == "this thread has a runtime already")
    }

    @Test(arguments: [0, 258_049, 1 << 40, .max, -1]) func sizesThatCannotBeAllocatedGiveNone(size: Int) throws {
        try withCalls {
            #expect(demi_sgaalloc(size).sga_numsegs == 0)
            #expect(demi_malloc(size) == nil)
            #expect(!String(cString: demi_last_error()).isEmpty)
        }
    }
}
