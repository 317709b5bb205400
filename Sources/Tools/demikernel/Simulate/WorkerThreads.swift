import Glibc

/// A few threads that do the same work, until there is none left.
struct WorkerThreads {
    private var threads: [pthread_t] = []

    private final class Work: Sendable {
        let body: @Sendable () -> Void

        init(_ body: @escaping @Sendable () -> Void) { self.body = body }
    }

    /// Starts `count` threads, or as many as there can be.
    /// - Throws: when there cannot be one.
    init(_ count: Int, body: @escaping @Sendable () -> Void) throws(CommandFailure) {
        let work = Work(body)
        var error: Int32 = 0
        for _ in 0..<count where error == 0 {
            var thread = pthread_t()
            let reference = Unmanaged.passRetained(work)
            error = pthread_create(
                &thread, nil,
                { work in
                    Unmanaged<Work>.fromOpaque(work!).takeRetainedValue().body()
                    return nil
                }, reference.toOpaque())
            if error == 0 { threads.append(thread) } else { reference.release() }
        }
        guard !threads.isEmpty else { throw CommandFailure("start a thread", errno: error) }
    }

    /// Waits until all of them have ended.
    func join() {
        for thread in threads { pthread_join(thread, nil) }
    }
}
