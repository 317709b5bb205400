import Demikernel
import Glibc

/// Long enough for anything on loopback, and short enough that a lost event fails the test.
let generousSeconds = 30

/// A call that failed on the test's own side of a connection.
struct ClientFailure: Error, CustomStringConvertible {
    var call: String
    var errno: Int32
    var description: String { "\(call): \(String(cString: strerror(errno)))" }
}

/// A plain kernel socket that blocks, with which the tests play the peer.
final class Client {
    let file: Int32
    let port: UInt16

    /// Connects.
    /// - Parameter bufferByteCount: of the kernel's buffers, for a peer that is to be slow; nil for the kernel's choice.
    init(_ address: SocketAddress, type: SocketType = .stream, bufferByteCount: Int? = nil) throws {
        file = socket(AF_INET, Int32((type == .stream ? SOCK_STREAM : SOCK_DGRAM).rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        port = address.port
        guard file >= 0 else { throw ClientFailure(call: "socket", errno: errno) }
        var patience = timeval(tv_sec: generousSeconds, tv_usec: 0)
        for option in [SO_RCVTIMEO, SO_SNDTIMEO] {
            setsockopt(file, SOL_SOCKET, option, &patience, socklen_t(MemoryLayout<timeval>.size))
        }
        if let bufferByteCount {
            var value = Int32(bufferByteCount)
            for option in [SO_RCVBUF, SO_SNDBUF] { setsockopt(file, SOL_SOCKET, option, &value, socklen_t(MemoryLayout<Int32>.size)) }
        }
        if type == .stream {
            var one: Int32 = 1
            setsockopt(file, Int32(IPPROTO_TCP), TCP_NODELAY, &one, socklen_t(MemoryLayout<Int32>.size))
        }
        var name = sockaddr_in()
        name.sin_family = sa_family_t(AF_INET)
        name.sin_port = address.port.bigEndian
        name.sin_addr.s_addr = UInt32(truncatingIfNeeded: address.bytes.0)
        let result = withUnsafePointer(to: &name) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { connect(file, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) }
        }
        guard result == 0 else { throw ClientFailure(call: "connect", errno: errno) }
    }

    deinit {
        close(file)
    }

    // MARK: Sending

    func send(_ bytes: [UInt8]) throws {
        try bytes.withUnsafeBytes { try send($0) }
    }

    func send(_ text: String) throws {
        try send(Array(text.utf8))
    }

    func send(_ bytes: UnsafeRawBufferPointer) throws {
        var sent = 0
        repeat {
            let count = Glibc.send(file, bytes.baseAddress.map { $0 + sent }, bytes.count - sent, Int32(MSG_NOSIGNAL))
            guard count >= 0 else { throw ClientFailure(call: "send", errno: errno) }
            sent += count
        } while sent < bytes.count
    }

    /// Sends what the kernel takes at once.
    /// - Returns: how many bytes that were; 0 when it would block.
    func sendWithoutBlocking(_ bytes: ArraySlice<UInt8>) throws -> Int {
        let count = bytes.withUnsafeBytes { Glibc.send(file, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL) | Int32(MSG_DONTWAIT)) }
        guard count < 0 else { return count }
        guard errno == EAGAIN else { throw ClientFailure(call: "send", errno: errno) }
        return 0
    }

    /// Sends the end of the stream.
    func shutdownSend() throws {
        guard shutdown(file, Int32(SHUT_WR)) == 0 else { throw ClientFailure(call: "shutdown", errno: errno) }
    }

    /// Makes the coming close a reset.
    func resetAtEnd() {
        var setting = linger(l_onoff: 1, l_linger: 0)
        setsockopt(file, SOL_SOCKET, SO_LINGER, &setting, socklen_t(MemoryLayout<linger>.size))
    }

    // MARK: Receiving

    /// Exactly `count` bytes; fewer when the stream ends before.
    func receive(_ count: Int) throws -> [UInt8] {
        try [UInt8](unsafeUninitializedCapacity: count) { storage, received in
            while received < count {
                let more = recv(file, storage.baseAddress! + received, count - received, 0)
                guard more >= 0 else { throw ClientFailure(call: "recv", errno: errno) }
                if more == 0 { break }
                received += more
            }
        }
    }

    /// As `receive`, as text.
    func receiveText(_ count: Int) throws -> String {
        String(decoding: try receive(count), as: UTF8.self)
    }

    /// One datagram.
    func receiveDatagram() throws -> [UInt8] {
        try [UInt8](unsafeUninitializedCapacity: 65_536) { storage, count in
            let received = recv(file, storage.baseAddress!, 65_536, 0)
            guard received >= 0 else { throw ClientFailure(call: "recv", errno: errno) }
            count = received
        }
    }

    /// What came up to the end of a stream, and how it ended: 0, or the error of a reset.
    struct Rest {
        var bytes: [UInt8]
        var errno: Int32
        var text: String { String(decoding: bytes, as: UTF8.self) }
    }

    /// Everything up to the end of the stream.
    func receiveAll() throws -> Rest {
        var bytes: [UInt8] = []
        var piece = [UInt8](repeating: 0, count: 65_536)
        while true {
            let count = recv(file, &piece, piece.count, 0)
            guard count != -1 || errno == ECONNRESET else { throw ClientFailure(call: "recv", errno: errno) }
            if count <= 0 { return Rest(bytes: bytes, errno: count < 0 ? errno : 0) }
            bytes += piece[..<count]
        }
    }

    /// Sends all of `bytes` and receives `count` bytes meanwhile, so that neither side's buffers can stop the other.
    func exchange(_ bytes: [UInt8], receiving count: Int) throws -> [UInt8] {
        var sent = 0
        return try [UInt8](unsafeUninitializedCapacity: count) { storage, received in
            while received < count {
                var watched = pollfd(file: file, events: sent < bytes.count ? POLLIN | POLLOUT : POLLIN)
                guard poll(&watched, 1, Int32(generousSeconds * 1_000)) > 0 else { throw ClientFailure(call: "poll", errno: ETIMEDOUT) }
                if watched.revents & Int16(POLLOUT) != 0, sent < bytes.count { sent += try sendWithoutBlocking(bytes[sent...]) }
                let more = recv(file, storage.baseAddress! + received, count - received, Int32(MSG_DONTWAIT))
                if more > 0 {
                    received += more
                } else if more == 0 {
                    break
                } else if errno != EAGAIN {
                    throw ClientFailure(call: "recv", errno: errno)
                }
            }
        }
    }

    // MARK: Redis

    /// Sends a command in an array of bulk strings, and receives its reply of one line (a status, an error or a number).
    func line(_ words: String...) throws -> String {
        try send(request(words.map { Array($0.utf8) }))
        return try receiveLine()
    }

    /// A line without its end.
    func receiveLine() throws -> String {
        var line: [UInt8] = []
        while line.suffix(2) != [13, 10] {
            let byte = try receive(1)
            guard byte.count == 1 else { break }
            line += byte
        }
        return String(decoding: line.dropLast(2), as: UTF8.self)
    }

    /// The reply to a command, when it is a bulk string.
    func bulk(_ words: String...) throws -> [UInt8] {
        try send(request(words.map { Array($0.utf8) }))
        return try receiveBulk()
    }

    func receiveBulk() throws -> [UInt8] {
        let head = try receiveLine()
        guard head.first == "$", let count = Int(head.dropFirst()), count >= 0 else { throw ClientFailure(call: "reply \(head)", errno: EPROTO) }
        return try receive(count + 2).dropLast(2)
    }

    /// A number of INFO.
    func information(_ field: String) throws -> Int? {
        let text = String(decoding: try bulk("INFO"), as: UTF8.self)
        let line = text.split(whereSeparator: \.isNewline).first { $0.hasPrefix("\(field):") }
        return line.flatMap { Int($0.dropFirst(field.utf8.count + 1)) }
    }
}

extension pollfd {
    fileprivate init(file: Int32, events: Int32) {
        self.init(fd: file, events: Int16(events), revents: 0)
    }
}

/// A command as an array of bulk strings.
func request(_ arguments: [[UInt8]]) -> [UInt8] {
    var bytes = Array("*\(arguments.count)\r\n".utf8)
    for argument in arguments {
        bytes += Array("$\(argument.count)\r\n".utf8)
        bytes += argument
        bytes += [13, 10]
    }
    return bytes
}

func request(_ words: String...) -> [UInt8] {
    request(words.map { Array($0.utf8) })
}

/// `bytes`, `count` times.
func repeated(_ bytes: [UInt8], _ count: Int) -> [UInt8] {
    var all: [UInt8] = []
    all.reserveCapacity(bytes.count * count)
    for _ in 0..<count { all += bytes }
    return all
}

/// Bytes of a seeded sequence, of which a wrong place shows: it repeats after a prime number of bytes.
func pattern(_ count: Int, seed: UInt64 = 1) -> [UInt8] {
    var random = SeededRandom(seed: seed)
    let period = (0..<8_191).map { _ in UInt8(truncatingIfNeeded: random.next()) }
    var bytes: [UInt8] = []
    bytes.reserveCapacity(count + period.count)
    while bytes.count < count { bytes += period }
    bytes.removeLast(bytes.count - count)
    return bytes
}

/// The resident memory of this process in bytes.
func residentByteCount() -> Int {
    let file = open("/proc/self/statm", O_RDONLY)
    defer { close(file) }
    var text = [UInt8](repeating: 0, count: 256)
    let count = read(file, &text, text.count)
    let numbers = String(decoding: text[..<max(0, count)], as: UTF8.self).split(separator: " ")
    return numbers.count > 1 ? (Int(numbers[1]) ?? 0) * Int(sysconf(Int32(_SC_PAGESIZE))) : 0
}
