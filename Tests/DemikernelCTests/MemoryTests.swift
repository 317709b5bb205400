@preconcurrency import CDemikernel
import DemikernelC
import Glibc
import Testing

/// Who owns memory, and which thread.
@Suite struct MemoryTests {
    @Test(arguments: [1, 64, 4_096, 258_048]) func anArrayHasTheSizeThatWasAskedFor(size: Int) throws {
        try withCalls {
            var sga = demi_sgaalloc(size)
            #expect(sga.sga_numsegs == 1 && Int(sga.sga_segs.sgaseg_len) == size)
            memset(sga.sga_segs.sgaseg_buf, 0xa5, size)
            try call(demi_sgafree(&sga))
            #expect(try statistics().live_blocks == 0)
        }
    }

    @Test func aDoubleFreeIsSeenAlsoWhenTheMemoryHasAnotherUseByThen() throws {
        try withCalls {
            let queue = try descriptor { demi_queue($0) }
            var first = try array([1, 2, 3])
            var copy = first
            try call(demi_sgafree(&first))
            // The same block and the same slot of the table.
            let second = try array([4, 5, 6])
            #expect(second.sga_segs.sgaseg_buf == copy.sga_segs.sgaseg_buf)
            #expect(demi_sgafree(&copy) == EINVAL)
            #expect(error { demi_push($0, queue, &copy) } == EINVAL)
            #expect(bytes(second) == [4, 5, 6])
            try free(second)
            let memory = try #require(demi_malloc(40))
            try call(demi_free(memory))
            let again = try #require(demi_malloc(40))
            #expect(again == memory && UInt(bitPattern: again) % 16 == 0)
            try call(demi_free(again))
            #expect(demi_free(again) == EINVAL)
            #expect(try statistics().live_blocks == 0)
        }
    }

    @Test func anArrayMayBeFreedAsSoonAsItWasPushed() throws {
        try withCalls {
            let queue = try descriptor { demi_queue($0) }
            let push = try { () throws in
                var sga = try array([1, 2, 3])
                let push = try token { demi_push($0, queue, &sga) }
                try free(sga)
                return push
            }()
            // Whatever is allocated now is other memory.
            let others = try (0..<100).map { _ in try array([9, 9, 9]) }
            #expect(try wait(push).qr_opcode == DEMI_OPC_PUSH)
            #expect(try pop(queue) == [1, 2, 3])
            for other in others { try free(other) }
        }
    }

    @Test func theHeapsEndIsAnErrorAndNotACrash() throws {
        try withCalls {
            var arrays: [demi_sgarray_t] = []
            while case let sga = demi_sgaalloc(258_048), sga.sga_numsegs == 1 { arrays.append(sga) }
            #expect(arrays.count > 200)
            #expect(String(cString: demi_last_error()).contains("the heap is at its limit"))
            for sga in arrays { try free(sga) }
            #expect(try statistics().memory_used == 0)
            #expect(try statistics().allocations_refused == 1)
        }
    }

    @Test func statisticsGrowOnlyAtTheirEnd() throws {
        try withCalls {
            let room = UnsafeMutableRawPointer.allocate(byteCount: 256, alignment: 8)
            defer { room.deallocate() }
            memset(room, 0xff, 256)
            let statistics = room.assumingMemoryBound(to: demi_statistics.self)
            // A program of an older header, and one of a newer.
            try call(demi_get_statistics(statistics, 16))
            #expect(statistics.pointee.version == 1 && statistics.pointee.size == 16 && room.load(fromByteOffset: 16, as: UInt8.self) == 0xff)
            try call(demi_get_statistics(statistics, 200))
            #expect(statistics.pointee.size == 104)
            #expect((104..<200).allSatisfy { room.load(fromByteOffset: $0, as: UInt8.self) == 0 } && room.load(fromByteOffset: 200, as: UInt8.self) == 0xff)
        }
    }

    /// A thread that has to be waited for.
    private func onAnotherThread(_ body: @escaping @Sendable () -> Void) {
        final class Box { let body: () -> Void; init(_ body: @escaping () -> Void) { self.body = body } }
        var thread = pthread_t()
        let box = Unmanaged.passRetained(Box(body)).toOpaque()
        #expect(pthread_create(&thread, nil, { Unmanaged<Box>.fromOpaque($0!).takeRetainedValue().body(); return nil }, box) == 0)
        pthread_join(thread, nil)
    }

    @Test func anotherThreadIsRefusedAndMayHaveItsOwn() throws {
        try withCalls {
            let queue = try descriptor { demi_queue($0) }
            let sga = try array([1])
            let memory = UInt(bitPattern: demi_malloc(10))
            let pop = try token { demi_pop($0, queue) }
            onAnotherThread {
                var value: Int32 = 0
                var copy = sga
                #expect(demi_socket(&value, AF_INET, Int32(SOCK_STREAM.rawValue), 0) == EPERM)
                #expect(demi_close(queue) == EPERM)
                #expect(demi_sgafree(&copy) == EPERM)
                #expect(demi_sgaalloc(10).sga_numsegs == 0)
                #expect(demi_malloc(10) == nil)
                #expect(String(cString: demi_last_error()).contains("belongs to the thread that made it"))
                var arguments = demi_args()
                #expect(demi_init(&arguments) == 0)
                // Of its own it has none of these.
                var result = demi_qresult_t()
                #expect(demi_sgafree(&copy) == EINVAL)
                #expect(demi_free(UnsafeMutableRawPointer(bitPattern: memory)) == EINVAL)
                #expect(demi_wait(&result, pop, nil) == EINVAL)
                #expect(demi_queue(&value) == 0)
                #expect((try? push(value, [7])) != nil && (try? DemikernelCTests.pop(value)) == [7])
            }
            #expect(bytes(sga) == [1])
            try push(queue, [2])
            let popped = try wait(pop)
            #expect(bytes(popped.qr_value.sga) == [2])
            try free(popped.qr_value.sga)
            try free(sga)
            try call(demi_free(UnsafeMutableRawPointer(bitPattern: memory)))
        }
    }

    /// Where a signal handler interrupts a call, its own calls meet no half change.
    @Test func aCallInsideOfACallIsRefused() throws {
        try withCalls {
            let queue = try descriptor { demi_queue($0) }
            let taken = demi_take_runtime()
            #expect(demi_close(queue) == EBUSY)
            #expect(error { demi_pop($0, queue) } == EBUSY)
            // A process that ends here leaves the runtime alone.
            CInterface.end()
            demi_return_runtime(taken)
            try call(demi_close(queue))
        }
    }
}
