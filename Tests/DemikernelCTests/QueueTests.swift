import CDemikernel
import DemikernelC
import Glibc
import Testing

private let stream = Int32(SOCK_STREAM.rawValue)
private let datagram = Int32(SOCK_DGRAM.rawValue)

/// The calls over kernel sockets and in-memory queues, as the headers describe them.
@Suite struct QueueTests {
    @Test(arguments: ["127.0.0.1:0", "[::1]:0"]) func aStreamCarriesBytesBothWaysAndEnds(host: String) throws {
        try withCalls {
            let (client, server) = try connection(host)
            try push(client, Array("ping".utf8))
            #expect(try pop(server) == Array("ping".utf8))
            try push(server, Array("pong".utf8))
            #expect(try pop(client) == Array("pong".utf8))
            #expect(try readAddress { demi_getpeername(client, $0, $1) } == readAddress { demi_getsockname(server, $0, $1) })
            try call(demi_close(client))
            // The end: a segment of no bytes, which is freed as any other.
            let end = try wait(try token { demi_pop($0, server) })
            #expect(end.qr_opcode == DEMI_OPC_POP && end.qr_ret == 0)
            #expect(end.qr_value.sga.sga_numsegs == 1 && end.qr_value.sga.sga_segs.sgaseg_len == 0)
            #expect(end.qr_value.sga.sga_segs.sgaseg_buf != nil)
            var sga = end.qr_value.sga
            #expect(error { demi_push($0, server, &sga) } == EINVAL)
            #expect(demi_sgafree(&sga) == 0)
            #expect(demi_sgafree(&sga) == EINVAL)
            try call(demi_close(server))
            let counts = try statistics()
            #expect(counts.live_operations == 0 && counts.open_queues == 0 && counts.live_arrays == 0 && counts.live_segments == 0)
        }
    }

    /// Results that are there already are taken without a turn, but not for ever: devices and timers have to get theirs.
    @Test func waitsThatFindTheirResultTakeATurnNowAndThen() throws {
        try withCalls {
            let queue = try descriptor { demi_queue($0) }
            let before = try statistics().turns
            for _ in 0..<1_000 {
                try push(queue, [1])
                #expect(try pop(queue) == [1])
            }
            let turns = try statistics().turns - before
            #expect((20...100).contains(turns), "\(turns) turns in 2,000 waits")
        }
    }

    /// The first operations and arrays are made by another way than those whose slots were used before: all of them at once, and again.
    @Test(arguments: [1, 100, 3_000]) func manyOperationsAtOnceComeBackInOrder(count: Int) throws {
        try withCalls {
            let queue = try descriptor { demi_queue($0) }
            for _ in 0..<3 {
                var pops: [demi_qtoken_t] = []
                for _ in 0..<count { pops.append(try token { demi_pop($0, queue) }) }
                for index in 0..<count { try push(queue, [UInt8(truncatingIfNeeded: index), 7]) }
                var arrays: [demi_sgarray_t] = []
                for index in 0..<count {
                    let result = try wait(pops[index])
                    try #require(bytes(result.qr_value.sga) == [UInt8(truncatingIfNeeded: index), 7])
                    arrays.append(result.qr_value.sga)
                    #expect(demi_wait(nil, pops[index], nil) == EINVAL)
                }
                #expect(try statistics().live_arrays == UInt64(count))
                for array in arrays { try free(array) }
                var twice = arrays[0]
                #expect(demi_sgafree(&twice) == EINVAL)
            }
            let end = try statistics()
            #expect(end.live_arrays == 0 && end.live_operations == 0 && end.live_segments == 0 && end.live_blocks == 0)
        }
    }

    @Test func anAcceptTellsThePeer() throws {
        try withCalls {
            let listener = try descriptor { demi_socket($0, AF_INET, stream, Int32(IPPROTO_TCP)) }
            let place = try bind(listener, "127.0.0.1:0")
            try call(demi_listen(listener, 1))
            let accept = try token { demi_accept($0, listener) }
            let client = try descriptor { demi_socket($0, AF_INET, stream | Int32(SOCK_NONBLOCK.rawValue), 0) }
            let connect = try withAddress(place) { address, size in try token { demi_connect($0, client, address, size) } }
            let connected = try wait(connect)
            #expect(connected.qr_opcode == DEMI_OPC_CONNECT && connected.qr_qd == client && connected.qr_qt == connect && connected.qr_ret == 0)
            let accepted = try wait(accept)
            #expect(accepted.qr_opcode == DEMI_OPC_ACCEPT && accepted.qr_qd == listener && accepted.qr_qt == accept)
            let peer = accepted.qr_value.ares.addr
            #expect(Int32(peer.sin_family) == AF_INET && peer.sin_addr.s_addr == UInt32(0x7f00_0001).bigEndian)
            #expect(try readAddress { demi_getsockname(client, $0, $1) } == "127.0.0.1:\(UInt16(bigEndian: peer.sin_port))")
        }
    }

    @Test func aFailedOperationIsAResultAndNoRefusal() throws {
        try withCalls {
            // A port that was free a moment ago.
            let probe = try descriptor { demi_socket($0, AF_INET, stream, 0) }
            let place = try bind(probe, "127.0.0.1:0")
            let client = try descriptor { demi_socket($0, AF_INET, stream, 0) }
            let connect = try withAddress(place) { address, size in try token { demi_connect($0, client, address, size) } }
            let result = try wait(connect)
            #expect(result.qr_opcode == DEMI_OPC_FAILED && result.qr_ret == Int64(ECONNREFUSED) && result.qr_qd == client)
        }
    }

    @Test(arguments: ["127.0.0.1:0", "[::1]:0"]) func datagramsTellWhereTheyCameFrom(host: String) throws {
        try withCalls {
            let domain = host.hasPrefix("[") ? AF_INET6 : AF_INET
            let one = try descriptor { demi_socket($0, domain, datagram, 0) }
            let other = try descriptor { demi_socket($0, domain, datagram, 0) }
            let (from, to) = (try bind(one, host), try bind(other, host))
            var sga = try array([1, 2, 3])
            let push = try withAddress(to) { address, size in try token { demi_pushto($0, one, &sga, address, size) } }
            try free(sga)
            #expect(try wait(push).qr_opcode == DEMI_OPC_PUSH)
            var popped = try wait(try token { demi_pop($0, other) }).qr_value.sga
            #expect(bytes(popped) == [1, 2, 3])
            #expect(Int32(popped.sga_addr.sin_family) == domain)
            #expect(from.hasSuffix(":\(UInt16(bigEndian: popped.sga_addr.sin_port))"))
            #expect(try readAddress { demi_sga_address(&popped, $0, $1) } == from)
            try free(popped)
            var own = try array([1])
            var storage = sockaddr()
            var size: socklen_t = 16
            #expect(demi_sga_address(&own, &storage, &size) == ENOTCONN)
            try free(own)
        }
    }

    @Test func anArrayMayBeNarrowedAndNotWidened() throws {
        try withCalls {
            let queue = try descriptor { demi_queue($0) }
            let sga = try array([1, 2, 3, 4, 5])
            var narrowed = sga
            narrowed.sga_segs.sgaseg_buf += 1
            narrowed.sga_segs.sgaseg_len = 3
            #expect(try wait(try token { demi_push($0, queue, &narrowed) }).qr_opcode == DEMI_OPC_PUSH)
            #expect(try pop(queue) == [2, 3, 4])
            for (start, length) in [(-1, 5), (0, 6), (1, 5), (6, 0), (0, Int(UInt32.max))] {
                var wide = sga
                wide.sga_segs.sgaseg_buf += start
                wide.sga_segs.sgaseg_len = UInt32(length)
                #expect(error { demi_push($0, queue, &wide) } == EINVAL)
            }
            try free(sga)
        }
    }

    @Test func severalSegmentsTravelAsOneArray() throws {
        try withCalls {
            let queue = try descriptor { demi_queue($0) }
            let head = try #require(demi_malloc(4))
            head.copyMemory(from: [9, 8, 7, 6] as [UInt8], byteCount: 4)
            let body = try array([1, 2, 3])
            let segments = [demi_sgaseg_t(sgaseg_buf: head + 1, sgaseg_len: 2), body.sga_segs, demi_sgaseg_t(sgaseg_buf: head, sgaseg_len: 1)]
            let push = try token { demi_pushv($0, queue, segments, 3, nil, 0) }
            // Freed at once, before anybody has read them.
            try call(demi_free(head))
            try free(body)
            #expect(try wait(push).qr_opcode == DEMI_OPC_PUSH)
            let popped = try wait(try token { demi_popv($0, queue, 16, .max) }).qr_value.sga
            #expect(popped.sga_numsegs == 3)
            var found = [demi_sgaseg_t](repeating: demi_sgaseg_t(), count: 16)
            var count: UInt32 = 0
            try withUnsafePointer(to: popped) { sga in
                #expect(demi_sga_segments(sga, &found, 2, &count) == EINVAL)
                try call(demi_sga_segments(sga, &found, 16, &count))
            }
            #expect(found[..<Int(count)].flatMap { UnsafeRawBufferPointer(start: $0.sgaseg_buf, count: Int($0.sgaseg_len)) } == [8, 7, 1, 2, 3, 9])
            // Pushed as it is, and popped in parts by those who want one segment.
            var again = popped
            _ = try wait(try token { demi_push($0, queue, &again) })
            try free(popped)
            #expect(try pop(queue) == [8, 7])
            #expect(try pop(queue) == [1, 2, 3])
            #expect(try pop(queue) == [9])
            #expect(try statistics().live_segments == 0)
        }
    }

    @Test func waitAnyTakesTheOneThatCompletedFirst() throws {
        try withCalls {
            let queues = try (0..<3).map { _ in try descriptor { demi_queue($0) } }
            let pops = try queues.map { queue in try token { demi_pop($0, queue) } }
            try push(queues[2], [2])
            try push(queues[0], [0])
            var result = demi_qresult_t()
            var offset: Int32 = -1
            try call(demi_wait_any(&result, &offset, pops, 3, nil))
            #expect(offset == 2 && result.qr_qd == queues[2] && result.qr_qt == pops[2] && bytes(result.qr_value.sga) == [2])
            try free(result.qr_value.sga)
            // A token that was redeemed names nothing, and nothing is redeemed then.
            #expect(demi_wait_any(&result, &offset, pops, 3, nil) == EINVAL)
            try call(demi_wait_any(&result, &offset, [pops[1], pops[0]], 2, nil))
            #expect(offset == 1 && bytes(result.qr_value.sga) == [0])
            try free(result.qr_value.sga)
            var zero = timespec()
            #expect(demi_wait_any(&result, &offset, [pops[1]], 1, &zero) == ETIMEDOUT)
            #expect(demi_wait(&result, pops[1], &zero) == ETIMEDOUT)
        }
    }

    @Test func waitNextTakesWhatIsThereInOrder() throws {
        try withCalls {
            let queue = try descriptor { demi_queue($0) }
            var sga = try array([5])
            let pushes = try (0..<100).map { _ in try token { demi_push($0, queue, &sga) } }
            try free(sga)
            var results = [demi_qresult_t](repeating: demi_qresult_t(), count: 200)
            var redeemed: [demi_qtoken_t] = []
            while redeemed.count < 100 {
                var count: Int32 = -1
                try call(demi_wait_next_n(&results, 200, &count, nil))
                #expect((1...200).contains(count))
                redeemed += results[..<Int(count)].map(\.qr_qt)
            }
            #expect(redeemed == pushes)
            var count: Int32 = -1
            var zero = timespec()
            #expect(demi_wait_next_n(&results, 200, &count, &zero) == ETIMEDOUT)
            #expect(count == 0)
        }
    }

    @Test func waitAllTakesAllOrNothing() throws {
        try withCalls {
            let queue = try descriptor { demi_queue($0) }
            let pops = try (0..<100).map { _ in try token { demi_pop($0, queue) } }
            var results = [demi_qresult_t](repeating: demi_qresult_t(), count: 100)
            for value in 0..<99 { try push(queue, [UInt8(value)]) }
            var zero = timespec()
            #expect(demi_wait_all(&results, pops, 100, &zero) == ETIMEDOUT)
            #expect(demi_wait_all(&results, [pops[0], pops[0]], 2, &zero) == EINVAL)
            try push(queue, [99])
            try call(demi_wait_all(&results, pops, 100, nil))
            #expect(results.map { bytes($0.qr_value.sga) } == (0..<100).map { [UInt8($0)] })
            #expect(results.map(\.qr_qt) == pops)
            for result in results { try free(result.qr_value.sga) }
            #expect(try statistics().live_arrays == 0)
        }
    }

    @Test func operationsAreCancelledAndConnectionsEndWithAToken() throws {
        try withCalls {
            let (client, server) = try connection()
            let pop = try token { demi_pop($0, server) }
            try call(demi_cancel(pop))
            let cancelled = try wait(pop)
            #expect(cancelled.qr_opcode == DEMI_OPC_FAILED && cancelled.qr_ret == Int64(ECANCELED))
            #expect(demi_cancel(pop) == EINVAL)
            try call(demi_shutdown(client, Int32(SHUT_WR)))
            var sga = try array([1])
            #expect(error { demi_push($0, client, &sga) } == EPIPE)
            try free(sga)
            #expect(try DemikernelCTests.pop(server) == [])
            let close = try token { demi_async_close($0, client) }
            try call(demi_close(server))
            let closed = try wait(close)
            #expect(closed.qr_opcode == DEMI_OPC_CLOSE && closed.qr_qd == client)
        }
    }

    @Test func anotherEventLoopCanSleepForTheRuntime() throws {
        try withCalls {
            let (client, server) = try connection()
            let file = try descriptor { demi_event_fd($0) }
            let pop = try token { demi_pop($0, server) }
            var progress: Int32 = 1
            while progress != 0 { try call(demi_poll(&progress)) }
            var sga = try array([42])
            _ = try wait(try token { demi_push($0, client, &sga) })
            try free(sga)
            var result = demi_qresult_t()
            var zero = timespec()
            while demi_wait(&result, pop, &zero) == ETIMEDOUT {
                try call(demi_poll(&progress))
                if progress != 0 { continue }
                var descriptor = pollfd(fd: file, events: Int16(POLLIN), revents: 0)
                #expect(Glibc.poll(&descriptor, 1, 20_000) == 1)
            }
            #expect(bytes(result.qr_value.sga) == [42])
            try free(result.qr_value.sga)
        }
    }

    @Test func optionsAreThoseOfC() throws {
        try withCalls {
            let socket = try descriptor { demi_socket($0, AF_INET, stream, 0) }
            func get(_ level: Int32, _ name: Int32) throws -> Int32 {
                var value: Int32 = -1
                var size: socklen_t = 4
                try call(demi_getsockopt(socket, level, name, &value, &size))
                #expect(size == 4)
                return value
            }
            func set(_ level: Int32, _ name: Int32, _ value: Int32) -> Int32 {
                var value = value
                return demi_setsockopt(socket, level, name, &value, 4)
            }
            let tcp = Int32(IPPROTO_TCP)
            #expect(try get(tcp, TCP_NODELAY) == 1)
            try call(set(tcp, TCP_NODELAY, 0))
            #expect(try get(tcp, TCP_NODELAY) == 0)
            #expect(try get(SOL_SOCKET, SO_KEEPALIVE) == 0)
            #expect(set(tcp, TCP_KEEPIDLE, 9) == EINVAL)
            try call(set(SOL_SOCKET, SO_KEEPALIVE, 1))
            try call(set(tcp, TCP_KEEPIDLE, 9))
            try call(set(tcp, TCP_KEEPINTVL, 3))
            try call(set(SOL_SOCKET, SO_KEEPALIVE, 1))
            #expect(try get(tcp, TCP_KEEPIDLE) == 9 && get(tcp, TCP_KEEPINTVL) == 3 && get(SOL_SOCKET, SO_KEEPALIVE) == 1)
            var linger = Glibc.linger(l_onoff: 1, l_linger: 7)
            try call(demi_setsockopt(socket, SOL_SOCKET, SO_LINGER, &linger, 8))
            linger = Glibc.linger()
            var size: socklen_t = 8
            try call(demi_getsockopt(socket, SOL_SOCKET, SO_LINGER, &linger, &size))
            #expect(linger.l_onoff == 1 && linger.l_linger == 7)
            try call(set(Int32(IPPROTO_IP), IP_TOS, 0xb8))
            #expect(try get(Int32(IPPROTO_IP), IP_TOS) == 0xb8)
            #expect(set(SOL_SOCKET, SO_DEBUG, 1) == ENOPROTOOPT)
            #expect(set(99, 1, 1) == ENOPROTOOPT)
        }
    }
}
