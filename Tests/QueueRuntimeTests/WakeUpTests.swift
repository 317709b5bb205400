import CDatapath
import Demikernel
import Glibc
import Synchronization
import Testing

@testable import QueueRuntime

/// What ends a sleep: an interruption from outside, and for another event loop the event descriptor.
@Suite("Wake-ups") struct WakeUpTests {
    /// Whether a descriptor is readable now, or becomes so within `milliseconds`.
    private func isReadable(_ descriptor: Int32, within milliseconds: Int32 = 0) -> Bool {
        var entry = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        return Glibc.poll(&entry, 1, milliseconds) == 1
    }

    private func settle(_ runtime: borrowing Runtime) { while runtime.poll() {} }

    @Test(
        "an interruption from another thread ends a sleeping wait with EINTR; the operation stays pending",
        arguments: [IdlePolicy.spin, .adaptive(spinNanoseconds: 0)])
    func interrupt(_ idle: IdlePolicy) throws {
        let runtime = try makeSocketRuntime { $0.idle = idle }
        let queue = try runtime.queue()
        let token = try runtime.pop(queue)
        let interrupter = runtime.interrupter
        for _ in 0..<20 {
            let thread = onOtherThread { interrupter.interrupt() }
            #expect(refusal { () throws(DemikernelError) in _ = try runtime.wait(token, timeout: generous) } == DemikernelError(EINTR, .wait))
            pthread_join(thread, nil)
        }
        #expect(errorNumber { () throws(DemikernelError) in _ = try runtime.wait(token, timeout: .zero) } == ETIMEDOUT, "each is taken once")
        try runtime.push(queue, runtime.buffer([1]), completion: .discarded)
        #expect(try runtime.result(token) == .popped([1]))
    }

    @Test("a wait really sleeps, and a socket's input ends the sleep")
    func sleepAndWake() throws {
        let runtime = try makeSocketRuntime { $0.idle = .adaptive(spinNanoseconds: 0) }
        let receiver = try runtime.socket(.ipv4, .datagram)
        try runtime.bind(receiver, to: .loopback(port: 0))
        let address = try runtime.localAddress(receiver)
        let token = try runtime.pop(receiver)
        #expect(errorNumber { () throws(DemikernelError) in _ = try runtime.wait(token, timeout: .milliseconds(5)) } == ETIMEDOUT)
        let sleeps = runtime.statistics.sleeps
        #expect(sleeps > 0)
        let port = address.port
        let thread = onOtherThread {
            guard let other = try? makeSocketRuntime(), let sender = try? other.socket(.ipv4, .datagram) else { return }
            try? other.pushTo(sender, other.array([7]), .loopback(port: port), completion: .discarded)
        }
        #expect(try runtime.result(token) == .popped([7]))
        pthread_join(thread, nil)
    }

    @Test("where a device cannot wake the thread, a wait naps ever longer, and does not poll in between")
    func naps() throws {
        let runtime = try makeSocketRuntime { $0.idle = .standard }
        let device = Shared<RecordingDevice?>(nil)
        var library = RecordingDevice.make(for: runtime.core, keeping: device)
        library.prepareToSleep = { _ in LibraryOS.cannotWake }
        try runtime.register(library)
        let token = try runtime.pop(runtime.queue())
        #expect(errorNumber { () throws(DemikernelError) in _ = try runtime.wait(token, timeout: .milliseconds(300)) } == ETIMEDOUT)
        let statistics = runtime.statistics
        // Of 2 ms each after the first 40. A busy machine makes them longer, and so fewer.
        #expect(statistics.sleeps > 0 && statistics.sleeps < 1_000, "\(statistics.sleeps)")
        // Those of the first 50 µs, and two for each nap.
        #expect(statistics.turns < 20_000, "\(statistics.turns)")
    }

    @Test("an interruption before the wait ends the next wait, and run as well; pending tasks go on")
    func interruptBefore() throws {
        let runtime = try makeRuntime()
        let token = try runtime.pop(runtime.queue())
        runtime.interrupter.interrupt()
        runtime.interrupter.interrupt()
        #expect(errorNumber { () throws(DemikernelError) in _ = try runtime.next(timeout: generous) } == EINTR)
        #expect(errorNumber { () throws(DemikernelError) in _ = try runtime.wait(token, timeout: .zero) } == ETIMEDOUT, "two before the wait are one")
        let isReleased = Shared(false)
        try runtime.spawn { runtime in while !isReleased.value { runtime.yield() } }
        runtime.interrupter.interrupt()
        #expect(refusal { () throws(DemikernelError) in try runtime.run() } == DemikernelError(EINTR, .wait))
        #expect(runtime.statistics.tasks == 1)
        isReleased.value = true
        try runtime.run()
    }

    @Test("after many interruptions that race with waits, none is left over and the runtime still sleeps")
    func racingInterruptions() throws {
        let runtime = try makeSocketRuntime { $0.idle = .adaptive(spinNanoseconds: 0) }
        let token = try runtime.pop(runtime.queue())
        let interrupter = runtime.interrupter
        final class Flag: Sendable { let isSet = Atomic(false) }
        var count = 0
        for _ in 0..<100 {
            let isDone = Flag()
            let thread = onOtherThread {
                for _ in 0..<100 { interrupter.interrupt() }
                isDone.isSet.store(true, ordering: .releasing)
            }
            while !isDone.isSet.load(ordering: .acquiring) {
                if errorNumber({ () throws(DemikernelError) in _ = try runtime.wait(token, timeout: .microseconds(50)) }) == EINTR { count += 1 }
            }
            pthread_join(thread, nil)
            // At most one is pending.
            if errorNumber({ () throws(DemikernelError) in _ = try runtime.wait(token, timeout: .zero) }) == EINTR { count += 1 }
            #expect(errorNumber { () throws(DemikernelError) in _ = try runtime.wait(token, timeout: .milliseconds(1)) } == ETIMEDOUT)
            #expect(!isReadable(interrupter.descriptor), "a sleep would end at once")
        }
        #expect(count > 0)
    }

    @Test("an interruption that was taken between its flag and its write costs one sleep, not every one that follows")
    func lateWrite() throws {
        let runtime = try makeSocketRuntime { $0.idle = .adaptive(spinNanoseconds: 0) }
        let token = try runtime.pop(runtime.queue())
        // What is left then: a written descriptor, and no flag.
        var one: UInt64 = 1
        #expect(write(runtime.interrupter.descriptor, &one, 8) == 8)
        #expect(errorNumber { () throws(DemikernelError) in _ = try runtime.wait(token, timeout: .milliseconds(10)) } == ETIMEDOUT)
        #expect(!isReadable(runtime.interrupter.descriptor))
        #expect(runtime.statistics.sleeps < 10)
    }

    @Test("the event descriptor is readable on a socket's input and not otherwise, whenever it was made", arguments: [false, true])
    func eventDescriptorInput(isMadeFirst: Bool) throws {
        let runtime = try makeSocketRuntime()
        let early = isMadeFirst ? try runtime.eventDescriptor() : -1
        let receiver = try runtime.socket(.ipv4, .datagram)
        try runtime.bind(receiver, to: .loopback(port: 0))
        let sender = try runtime.socket(.ipv4, .datagram)
        let token = try runtime.pop(receiver)
        let descriptor = try runtime.eventDescriptor()
        if isMadeFirst { #expect(descriptor == early) }
        settle(runtime)
        for round in 0..<5 {
            #expect(!isReadable(descriptor), "nothing has come, round \(round)")
            let pop = round == 0 ? token : try runtime.pop(receiver)
            settle(runtime)
            try runtime.pushTo(sender, runtime.array([UInt8(round)]), runtime.localAddress(receiver), completion: .discarded)
            #expect(isReadable(descriptor, within: 10_000))
            settle(runtime)
            #expect(try runtime.result(pop, timeout: .zero) == .popped([UInt8(round)]))
            settle(runtime)
        }
        #expect(!isReadable(descriptor))
    }

    @Test("the event descriptor is readable when a timer is due, and not before")
    func eventDescriptorTimer() throws {
        let runtime = try makeRuntime()
        let descriptor = try runtime.eventDescriptor()
        let queue = try runtime.queue()
        let number = Shared<Int32>(0)
        try runtime.spawn { runtime in
            number.value = errorNumber { () throws(DemikernelError) in _ = try runtime.wait(runtime.pop(queue), timeout: .milliseconds(30)) }
        }
        #expect(isReadable(descriptor), "a coroutine is ready")
        let start = runtime.now
        settle(runtime)
        #expect(!isReadable(descriptor) || runtime.now - start >= 30_000_000)
        #expect(isReadable(descriptor, within: 10_000))
        #expect(runtime.now - start >= 29_000_000)
        while number.value == 0 { runtime.poll() }
        #expect(number.value == ETIMEDOUT)
        settle(runtime)
        #expect(!isReadable(descriptor))
    }

    @Test("the event descriptor is readable for a spawned and for a woken coroutine, and for an interruption")
    func eventDescriptorTasks() throws {
        let runtime = try makeRuntime()
        let descriptor = try runtime.eventDescriptor()
        settle(runtime)
        #expect(!isReadable(descriptor))
        let queue = try runtime.queue()
        let got = Shared<Outcome?>(nil)
        try runtime.spawn { runtime in got.value = try? runtime.result(runtime.pop(queue)) }
        #expect(isReadable(descriptor))
        settle(runtime)
        #expect(!isReadable(descriptor), "it waits")
        try runtime.push(queue, runtime.buffer([1]), completion: .discarded)
        #expect(isReadable(descriptor), "its pop has completed")
        settle(runtime)
        #expect(got.value == .popped([1]))
        #expect(!isReadable(descriptor))
        runtime.interrupter.interrupt()
        #expect(isReadable(descriptor))
        #expect(errorNumber { () throws(DemikernelError) in _ = try runtime.next(timeout: .zero) } == EINTR)
        #expect(!isReadable(descriptor))
    }
}
