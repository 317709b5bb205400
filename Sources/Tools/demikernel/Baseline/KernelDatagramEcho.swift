import Glibc

/// The ordinary UDP echo: receives a datagram and sends it back.
struct KernelDatagramEcho: ~Copyable {
    private let socket: Int32
    private let spins: Bool
    private let wakeUp: WakeUp
    private(set) var datagrams = 0

    /// Takes over `socket`, bound and non-blocking.
    init(socket: Int32, spins: Bool, wakeUp: WakeUp) {
        self.socket = socket
        self.spins = spins
        self.wakeUp = wakeUp
    }

    deinit { close(socket) }

    /// Serves until `wakeUp` is signalled.
    mutating func run() {
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 65_536, alignment: 16)
        defer { buffer.deallocate() }
        var peer = sockaddr_in6()
        while !Interruption.isRequested {
            var length = socklen_t(MemoryLayout<sockaddr_in6>.size)
            let received = withUnsafeMutablePointer(to: &peer) {
                $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { recvfrom(socket, buffer.baseAddress, buffer.count, 0, $0, &length) }
            }
            guard received >= 0 else {
                if !spins && errno == EAGAIN { waitUntilReadable() }
                continue
            }
            datagrams += 1
            // A full send buffer drops the reply, as a network would.
            _ = withUnsafePointer(to: &peer) {
                $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { sendto(socket, buffer.baseAddress, received, 0, $0, length) }
            }
        }
    }

    private func waitUntilReadable() {
        var watched = [pollfd(fd: socket, events: Int16(POLLIN), revents: 0), pollfd(fd: wakeUp.descriptor, events: Int16(POLLIN), revents: 0)]
        _ = poll(&watched, nfds_t(watched.count), -1)
    }
}
