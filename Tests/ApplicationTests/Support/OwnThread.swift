import Glibc

/// A kernel thread that runs one closure. It has to be joined.
struct OwnThread {
    private var thread = pthread_t()

    init(_ body: @escaping () -> Void) {
        final class Body {
            let run: () -> Void
            init(_ run: @escaping () -> Void) { self.run = run }
        }
        let context = Unmanaged.passRetained(Body(body)).toOpaque()
        let error = pthread_create(
            &thread, nil,
            { context in
                Unmanaged<Body>.fromOpaque(context!).takeRetainedValue().run()
                return nil
            }, context)
        precondition(error == 0, "no thread can be made")
    }

    /// Waits for the closure's end.
    func join() {
        pthread_join(thread, nil)
    }
}

/// Something that one thread waits for and another one tells, once or more.
final class Signal: @unchecked Sendable {
    // Unchecked: a semaphore is made to be shared.
    private let semaphore = UnsafeMutablePointer<sem_t>.allocate(capacity: 1)

    init() {
        sem_init(semaphore, 0, 0)
    }

    deinit {
        sem_destroy(semaphore)
        semaphore.deallocate()
    }

    func raise() {
        sem_post(semaphore)
    }

    func wait() {
        while sem_wait(semaphore) != 0 {}
    }
}

/// Runs `body` on a thread of its own, and gives what it returns: a runtime may block that thread, which none of Swift's own threads should be.
func onOwnThread<Result: Sendable>(_ body: @escaping @Sendable () throws -> Result) async throws -> Result {
    try await withCheckedThrowingContinuation { continuation in
        let thread = OwnThread { continuation.resume(with: Swift.Result { try body() }) }
        thread.detach()
    }
}

extension OwnThread {
    /// Nobody will join the thread.
    fileprivate func detach() {
        pthread_detach(thread)
    }
}
