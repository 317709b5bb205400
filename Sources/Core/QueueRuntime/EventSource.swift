import CDatapath
import Glibc
import TaskScheduler

/// A descriptor for another event loop: readable when a poll of the runtime would make progress.
///
/// One epoll descriptor over the devices' wake-ups, the interruption, a timerfd for the next timer and an eventfd for tasks that are ready.
final class EventSource {
    let descriptor: Int32
    private let timer: Int32
    private let ready: Int32
    private var armedDeadline: UInt64?
    /// The devices' wake-up descriptors; a device may have its first one late.
    private var devices: [Int32] = []
    private var isSignalled = false

    init?(interruption: Int32) {
        descriptor = epoll_create1(Int32(EPOLL_CLOEXEC))
        timer = timerfd_create(CLOCK_MONOTONIC, Int32(TFD_CLOEXEC | TFD_NONBLOCK))
        ready = eventfd(0, Int32(EFD_CLOEXEC | EFD_NONBLOCK))
        guard descriptor >= 0, timer >= 0, ready >= 0 else { return nil }
        for watched in [timer, ready, interruption] { watch(watched) }
    }

    deinit {
        for descriptor in [descriptor, timer, ready] where descriptor >= 0 { close(descriptor) }
    }

    /// Adds a device's wake-up descriptor, the first time.
    func watchDevice(_ descriptor: Int32) {
        guard !devices.contains(descriptor) else { return }
        devices.append(descriptor)
        watch(descriptor)
    }

    private func watch(_ watched: Int32) {
        var event = epoll_event()
        event.events = EPOLLIN.rawValue
        event.data.fd = watched
        if epoll_ctl(descriptor, EPOLL_CTL_ADD, watched, &event) != 0 {
            precondition(Glibc.errno == EEXIST, "a device's wake-up descriptor cannot be watched")
        }
    }

    /// Makes the descriptor readable until the next `settle`.
    func signal() {
        guard !isSignalled else { return }
        isSignalled = true
        var one: UInt64 = 1
        _ = write(ready, &one, 8)
    }

    /// After a poll: readable from now on if something is ready, or at the next timer's deadline, or when a device says so.
    func settle(isReady: Bool, nextDeadline: UInt64?, now: UInt64) {
        if isReady {
            signal()
        } else if isSignalled {
            var value: UInt64 = 0
            _ = read(ready, &value, 8)
            isSignalled = false
        }
        guard nextDeadline != armedDeadline else { return }
        armedDeadline = nextDeadline
        var setting = itimerspec()
        if let nextDeadline {
            // Relative, because the runtime's clock need not be CLOCK_MONOTONIC to the nanosecond; 0 would disarm it.
            let delay = nextDeadline > now ? nextDeadline - now : 1
            setting.it_value = timespec(tv_sec: Int(delay / 1_000_000_000), tv_nsec: Int(delay % 1_000_000_000))
        }
        timerfd_settime(timer, 0, &setting, nil)
    }
}
