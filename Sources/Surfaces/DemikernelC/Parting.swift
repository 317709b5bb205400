import DatapathMemory
import Glibc
import QueueRuntime
import UserNetwork

/// What a thread that ends does for that which its program has pushed.
///
/// Where the kernel serves sockets, a program may close a connection and exit: the kernel sends the rest. A stack in the program's own process ends with it; so
/// that the same program does the same, the thread stays for as long as it takes, and no longer than it may.
struct Parting {
    /// The user-level network, if that is what serves the sockets.
    let userNetwork: LibraryOS?
    /// Nanoseconds to stay at most.
    let patience: UInt64

    /// Closes every queue, and takes turns until everything is sent and acknowledged and the peers have ended as well.
    func sendRest(of runtime: borrowing Runtime) {
        runtime.closeAll()
        guard !isSettled(runtime) else { return }
        let end = runtime.now + patience
        do throws(DemikernelError) {
            // Waits for what never comes, a moment each time: a wait sleeps where nothing is to be done.
            let never = try runtime.pop(try runtime.queue())
            while !isSettled(runtime), runtime.now < end {
                do throws(DemikernelError) {
                    _ = try runtime.wait(never, timeout: .milliseconds(1))
                } catch {
                    guard error.errno == ETIMEDOUT else { return }
                }
            }
        } catch {
            // There is no room for one more queue or operation: the rest is as lost as without.
            return
        }
    }

    private func isSettled(_ runtime: borrowing Runtime) -> Bool {
        if let userNetwork { return UserNetwork.isSettled(userNetwork) }
        return runtime.statistics.closingQueues == 0
    }
}
