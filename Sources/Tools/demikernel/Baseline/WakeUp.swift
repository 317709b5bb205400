import Glibc

/// A descriptor that becomes readable, and stays so, when another thread signals it.
struct WakeUp: Sendable {
    let descriptor: Int32
    private let writer: Int32

    init() throws(CommandFailure) {
        var ends: [Int32] = [-1, -1]
        guard pipe(&ends) == 0 else { throw CommandFailure("pipe", errno: errno) }
        for end in ends {
            _ = fcntl(end, F_SETFD, FD_CLOEXEC)
            _ = fcntl(end, F_SETFL, O_NONBLOCK)
        }
        descriptor = ends[0]
        writer = ends[1]
    }

    func signal() {
        var byte: UInt8 = 1
        _ = write(writer, &byte, 1)
    }
}
