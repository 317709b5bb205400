import Glibc

/// A pcapng file that several captures are written to, block by block: it is valid after each.
///
/// Each capture is a file of its own, with its own interfaces: they get new numbers here (draft-ietf-opsawg-pcapng, section 4).
struct CaptureFile {
    let path: String
    private let descriptor: Int32
    private let isRegular: Bool
    private var byteCount = 0
    private var hasSection = false
    private var interfaceCount: UInt32 = 0
    /// The numbers of the captures' interfaces.
    private var numbers: [[UInt32]]
    private var unread: [[UInt8]]
    /// Packets written; and packets that captures could not keep, as they say themselves.
    private(set) var packetCount = 0
    private(set) var droppedCount: UInt64 = 0
    private var writtenPacketCount = 0
    /// Packets at most.
    let maximumPacketCount: Int

    /// Bytes of the largest block that is believed.
    private static let maximumBlockByteCount = 1 << 20

    /// Makes the file; "-" is standard output.
    /// - Throws: when it exists and is not to be replaced, or cannot be made.
    init(path: String, replaces: Bool, captures: Int, maximumPacketCount: Int = .max) throws(CommandFailure) {
        self.path = path == "-" ? "standard output" : path
        self.maximumPacketCount = maximumPacketCount
        numbers = Array(repeating: [], count: captures)
        unread = Array(repeating: [], count: captures)
        if path == "-" {
            guard isatty(STDOUT_FILENO) == 0 else {
                throw CommandFailure("a capture is no text for a terminal: name a file, or pipe it into a program (| tcpdump -r -)")
            }
            descriptor = dup(STDOUT_FILENO)
        } else {
            // What an earlier capture may have found is not lost by a slip.
            descriptor = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | (replaces ? O_TRUNC : O_EXCL), 0o600)
        }
        guard descriptor >= 0 else {
            switch errno {
            case EEXIST: throw CommandFailure("\(path) exists: choose another name, or replace it with --force")
            case EACCES, EROFS:
                throw CommandFailure("no permission to write \(path): choose a place that can be written, such as /tmp/capture.pcapng")
            case ENOENT, ENOTDIR: throw CommandFailure("the folder of \(path) does not exist: make it, or choose another")
            case EISDIR: throw CommandFailure("\(path) is a folder: name a file in it")
            default: throw CommandFailure("make \(path)", errno: errno)
            }
        }
        var status = stat()
        isRegular = fstat(descriptor, &status) == 0 && status.st_mode & S_IFMT == S_IFREG
    }

    /// Adds what came of a capture; whole blocks are written.
    /// - Returns: false when `maximumPacketCount` is reached, and nothing more is taken.
    /// - Throws: when it is no capture, or the file takes no more; what was written before is whole.
    mutating func append(_ bytes: ArraySlice<UInt8>, of capture: Int) throws(CommandFailure) -> Bool {
        unread[capture] += bytes
        var output: [UInt8] = []
        var used = 0
        var isFull = packetCount >= maximumPacketCount
        let input = unread[capture]
        while input.count - used >= 12, !isFull {
            let length = Int(Self.number(input, used + 4))
            guard length >= 12, length % 4 == 0, length <= Self.maximumBlockByteCount else { throw malformed }
            guard input.count - used >= length else { break }
            var block = Array(input[used..<used + length])
            guard Self.number(block, length - 4) == UInt32(length) else { throw malformed }
            if try take(&block, capture) { output += block }
            used += length
            isFull = packetCount >= maximumPacketCount
        }
        unread[capture].removeFirst(used)
        try write(output)
        return !isFull
    }

    /// Ends the file.
    func close() throws(CommandFailure) {
        guard Glibc.close(descriptor) == 0 else { throw CommandFailure("write \(path)", errno: errno) }
    }

    private enum BlockType {
        static let sectionHeader: UInt32 = 0x0a0d_0d0a
        static let interfaceDescription: UInt32 = 1
        static let interfaceStatistics: UInt32 = 5
        static let enhancedPacket: UInt32 = 6
    }

    /// Gives a block its place in this file.
    /// - Returns: whether it has one.
    private mutating func take(_ block: inout [UInt8], _ capture: Int) throws(CommandFailure) -> Bool {
        switch Self.number(block, 0) {
        case BlockType.sectionHeader:
            // One section for all captures, which come from this machine and so have one byte order.
            guard block.count >= 28, Self.number(block, 8) == 0x1a2b_3c4d else { throw malformed }
            defer { hasSection = true }
            return !hasSection
        case BlockType.interfaceDescription:
            guard hasSection, numbers[capture].count < 1024 else { throw malformed }
            numbers[capture].append(interfaceCount)
            interfaceCount += 1
            return true
        case BlockType.enhancedPacket:
            guard block.count >= 32 else { throw malformed }
            try renumber(&block, capture)
            packetCount += 1
            return true
        case BlockType.interfaceStatistics:
            guard block.count >= 24 else { throw malformed }
            try renumber(&block, capture)
            droppedCount &+= Self.dropped(block)
            return true
        default: return false
        }
    }

    private func renumber(_ block: inout [UInt8], _ capture: Int) throws(CommandFailure) {
        let number = Int(Self.number(block, 8))
        guard number < numbers[capture].count else { throw malformed }
        withUnsafeBytes(of: numbers[capture][number]) { block.replaceSubrange(8..<12, with: $0) }
    }

    /// The option isb_ifdrop.
    private static func dropped(_ block: [UInt8]) -> UInt64 {
        var place = 20
        while place + 4 <= block.count - 4 {
            let option = UInt16(truncatingIfNeeded: number(block, place))
            let length = Int(number(block, place) >> 16)
            if option == 0 || place + 4 + length > block.count - 4 { break }
            if option == 5, length == 8 { return UInt64(number(block, place + 4)) | UInt64(number(block, place + 8)) << 32 }
            place += 4 + (length + 3) & ~3
        }
        return 0
    }

    private static func number(_ bytes: [UInt8], _ offset: Int) -> UInt32 {
        bytes.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: offset, as: UInt32.self) }
    }

    private mutating func write(_ bytes: [UInt8]) throws(CommandFailure) {
        var written = 0
        while written < bytes.count {
            let count = bytes.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress.unsafelyUnwrapped + written, bytes.count - written) }
            if count < 0, errno == EINTR { continue }
            guard count > 0 else {
                let error = errno
                // Half a block would make the whole file look broken.
                if isRegular { _ = ftruncate(descriptor, byteCount) }
                throw CommandFailure("write \(path) (\(writtenPacketCount) packets are in it)", errno: error)
            }
            written += count
        }
        byteCount += written
        writtenPacketCount = packetCount
    }

    private var malformed: CommandFailure { CommandFailure("what the process sends is no capture") }
}
