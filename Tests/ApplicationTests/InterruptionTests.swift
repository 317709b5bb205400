import Demikernel
import Glibc
import Testing

/// Interruptions from another thread, while the runtime spins and while it sleeps.
@Suite("Interruption") struct InterruptionTests {
    @Test("an interruption that is taken before it was told to the kernel leaves no wake-up behind", .timeLimit(.minutes(1)))
    func noSpuriousWakeUps() async throws {
        let (interrupted, mostSleeps) = try await onOwnThread {
            var configuration = RuntimeConfiguration()
            configuration.memory.arenaByteCount = 4 << 20
            configuration.memory.commitsAtStart = false
            // It spins long enough to meet the other thread in the middle of an interruption.
            configuration.idle = .adaptive(spinNanoseconds: 200_000)
            let runtime = try Runtime(configuration, libraryOSes: [.catnap])
            let interrupter = runtime.interrupter
            let next = Signal()
            let thread = OwnThread {
                for _ in 0..<500 {
                    next.wait()
                    interrupter.interrupt()
                }
            }
            let token = try runtime.pop(runtime.queue())
            var interrupted = 0
            var mostSleeps: UInt64 = 0
            for _ in 0..<500 {
                next.raise()
                do throws(DemikernelError) {
                    _ = try runtime.wait(token)
                } catch {
                    if error.errno == EINTR { interrupted += 1 }
                }
                let before = runtime.statistics.sleeps
                do throws(DemikernelError) {
                    _ = try runtime.wait(token, timeout: .milliseconds(2))
                } catch {
                    guard error.errno == ETIMEDOUT else { throw error }
                }
                mostSleeps = max(mostSleeps, runtime.statistics.sleeps - before)
            }
            thread.join()
            return (interrupted, mostSleeps)
        }
        #expect(interrupted == 500)
        // A descriptor that stays readable ends every sleep at once: hundreds in two milliseconds.
        #expect(mostSleeps < 20)
    }
}
