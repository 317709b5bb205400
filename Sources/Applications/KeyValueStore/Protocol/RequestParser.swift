import Glibc

/// The requests of one input, found in place.
///
/// The arguments of the current request are slices of the input, or of `unquoted` for an inline request; both are valid until
/// the next call of `parse`. A request that is cut short costs, for each further call, the bytes that are new: `RequestScan`
/// remembers where to go on. When it is complete at last, it is read once more from its start to collect the arguments, so that
/// no connection has to keep them.
struct RequestParser: ~Copyable {
    enum Outcome {
        /// A request of `length` bytes; with `count` 0 there is nothing to execute.
        case request(length: Int)
        /// At least `minimumTotal` bytes are needed.
        case incomplete(minimumTotal: Int)
        case violation(ProtocolViolation)
    }

    private(set) var arguments: UnsafeMutablePointer<ByteSlice>
    private(set) var count = 0
    private var capacity: Int
    private var unquoted: UnsafeMutableRawPointer?

    var maximumBulkLength: Int
    private let maximumRequestLength: Int
    private let maximumArguments: Int
    private let maximumInlineLength: Int

    /// Arguments that there is always room for; more are allocated for a request that has them and freed after it.
    private static let usualCapacity = 1024

    init(limits: KeyValueStore.Limits) {
        arguments = .allocate(capacity: Self.usualCapacity)
        capacity = Self.usualCapacity
        maximumBulkLength = limits.maximumBulkLength
        maximumRequestLength = limits.maximumRequestLength
        maximumArguments = limits.maximumArguments
        maximumInlineLength = limits.maximumInlineLength
    }

    deinit {
        arguments.deallocate()
        unquoted?.deallocate()
    }

    /// Looks for the request that begins at `start`, of which `available` bytes (at least one) are there.
    @inline(__always)
    mutating func parse(_ start: UnsafeRawPointer, available: Int, scan: inout RequestScan) -> Outcome {
        if capacity > Self.usualCapacity { resize(to: Self.usualCapacity) }
        if start.load(as: UInt8.self) == UInt8(ascii: "*") {
            return parseArray(start, available: available, scan: &scan)
        }
        return parseInline(start, available: available, scan: &scan)
    }

    @inline(never)
    private mutating func resize(to newCapacity: Int) {
        let fresh = UnsafeMutablePointer<ByteSlice>.allocate(capacity: newCapacity)
        if newCapacity > capacity { fresh.initialize(from: arguments, count: capacity) }
        arguments.deallocate()
        arguments = fresh
        capacity = newCapacity
    }

    // MARK: Arrays of bulk strings

    private mutating func parseArray(_ start: UnsafeRawPointer, available: Int, scan: inout RequestScan) -> Outcome {
        var cursor = 1
        var expected: Int
        let isResumed = scan.offset > 0
        count = 0
        if isResumed {
            cursor = scan.offset
            expected = scan.remainingArguments
        } else {
            switch readCount(start, from: &cursor, available: available) {
            case .incomplete: return .incomplete(minimumTotal: available + 1)
            case .tooLong: return .violation(.longArrayCount)
            case .malformed: return .violation(.arrayLength)
            case .value(let value): expected = value
            }
            if expected > maximumArguments { return .violation(.arrayLength) }
        }
        while expected > 0 {
            let header = cursor
            guard cursor < available else {
                scan = RequestScan(offset: header, remainingArguments: expected)
                return .incomplete(minimumTotal: header + 4)
            }
            let type = start.load(fromByteOffset: cursor, as: UInt8.self)
            guard type == UInt8(ascii: "$") else { return .violation(.expectedBulk(type)) }
            cursor += 1
            let length: Int
            switch readCount(start, from: &cursor, available: available) {
            case .incomplete:
                scan = RequestScan(offset: header, remainingArguments: expected)
                return .incomplete(minimumTotal: max(available, header + 3) + 1)
            case .tooLong: return .violation(.longBulkCount)
            case .malformed: return .violation(.bulkLength)
            case .value(let value): length = value
            }
            if length < 0 || length > maximumBulkLength { return .violation(.bulkLength) }
            let end = cursor + length + 2
            if end > maximumRequestLength { return .violation(.requestLength) }
            guard end <= available else {
                scan = RequestScan(offset: header, remainingArguments: expected)
                return .incomplete(minimumTotal: end)
            }
            if !isResumed {
                if count == capacity { resize(to: min(2 * capacity, maximumArguments)) }
                arguments[count] = ByteSlice(start: start + cursor, count: length)
                count += 1
            }
            cursor = end
            expected -= 1
        }
        scan = RequestScan()
        return isResumed ? parseArray(start, available: available, scan: &scan) : .request(length: cursor)
    }

    private enum Count {
        case value(Int)
        case incomplete
        case malformed
        case tooLong
    }

    /// Reads the decimal number at `cursor` and moves behind the two bytes that end its line.
    @inline(__always)
    private func readCount(_ start: UnsafeRawPointer, from cursor: inout Int, available: Int) -> Count {
        // One digit, two digits, then up to nine without a leading zero: what every client sends.
        if cursor + 4 <= available {
            let line = start.loadUnaligned(fromByteOffset: cursor, as: UInt32.self)
            let first = line & 0xFF &- 0x30
            let second = line &>> 8 & 0xFF
            if first <= 9 && second == 0x0D {
                cursor += 3
                return .value(Int(first))
            }
            if first &- 1 < 9 && second &- 0x30 <= 9 && line &>> 16 & 0xFF == 0x0D {
                cursor += 4
                return .value(Int(first &* 10 &+ second &- 0x30))
            }
        }
        var value = 0
        var index = cursor
        let limit = min(available - 2, cursor + 9)
        while index <= limit {
            let byte = start.load(fromByteOffset: index, as: UInt8.self)
            let digit = byte &- UInt8(ascii: "0")
            if digit > 9 {
                let hasLeadingZero = start.load(fromByteOffset: cursor, as: UInt8.self) == UInt8(ascii: "0")
                guard byte == UInt8(ascii: "\r"), index > cursor, index == cursor + 1 || !hasLeadingZero else { break }
                cursor = index + 2
                return .value(value)
            }
            value = value &* 10 &+ Int(digit)
            index += 1
        }
        return readUnusualCount(start, from: &cursor, available: available)
    }

    @inline(never)
    private func readUnusualCount(_ start: UnsafeRawPointer, from cursor: inout Int, available: Int) -> Count {
        let window = min(available - cursor, maximumInlineLength + 1)
        guard window > 0, let found = memchr(start + cursor, Int32(UInt8(ascii: "\r")), window) else {
            return window > maximumInlineLength ? .tooLong : .incomplete
        }
        let line = ByteSlice(start: start + cursor, count: UnsafeRawPointer(found) - (start + cursor))
        guard cursor + line.count + 2 <= available else { return .incomplete }
        guard let value = line.integer(), value <= Int64(Int32.max) else { return .malformed }
        cursor += line.count + 2
        return .value(Int(value))
    }

    // MARK: Inline requests

    private mutating func parseInline(_ start: UnsafeRawPointer, available: Int, scan: inout RequestScan) -> Outcome {
        count = 0
        let window = min(available, maximumInlineLength + 1)
        let seen = min(scan.offset, window)
        guard let found = memchr(start + seen, Int32(UInt8(ascii: "\n")), window - seen) else {
            if window > maximumInlineLength { return .violation(.longInline) }
            scan.offset = available
            return .incomplete(minimumTotal: available + 1)
        }
        scan = RequestScan()
        let lineEnd = UnsafeRawPointer(found) - start
        guard split(ByteSlice(start: start, count: lineEnd)) else { return .violation(.unbalancedQuotes) }
        return .request(length: lineEnd + 1)
    }

    /// Splits a line into arguments by Redis's quoting rules (`sdssplitargs`). Returns false for unbalanced quotes.
    private mutating func split(_ line: ByteSlice) -> Bool {
        // Unquoting never makes text longer, so one buffer of the longest line is enough.
        let destination = unquoted ?? .allocate(byteCount: maximumInlineLength, alignment: 16)
        unquoted = destination
        var written = 0
        var index = 0
        // A zero byte ends the line, as it does for Redis, and stands for its end here.
        func byte(_ index: Int) -> UInt8 { index < line.count ? line[index] : 0 }
        func append(_ byte: UInt8) {
            destination.storeBytes(of: byte, toByteOffset: written, as: UInt8.self)
            written += 1
        }
        while true {
            while byte(index).isSpace { index += 1 }
            if byte(index) == 0 { return true }
            let first = written
            var quote: UInt8 = 0
            argument: while true {
                let current = byte(index)
                let following = byte(index + 1)
                if quote != 0 {
                    if current == 0 { return false }
                    if current == quote {
                        if following != 0 && !following.isSpace { return false }
                        index += 1
                        break argument
                    }
                    if current == UInt8(ascii: "\\") && quote == UInt8(ascii: "\"") && following != 0 {
                        if following == UInt8(ascii: "x"), let high = byte(index + 2).hexadecimalDigit,
                            let low = byte(index + 3).hexadecimalDigit
                        {
                            append(high << 4 | low)
                            index += 4
                        } else {
                            append(following.unescaped)
                            index += 2
                        }
                    } else if current == UInt8(ascii: "\\") && following == quote {
                        append(quote)
                        index += 2
                    } else {
                        append(current)
                        index += 1
                    }
                    continue
                }
                switch current {
                case 0, UInt8(ascii: " "), UInt8(ascii: "\n"), UInt8(ascii: "\r"), UInt8(ascii: "\t"):
                    break argument
                case UInt8(ascii: "\""), UInt8(ascii: "'"):
                    quote = current
                default:
                    append(current)
                }
                index += 1
            }
            if count == capacity { resize(to: 2 * capacity) }
            arguments[count] = ByteSlice(start: UnsafeRawPointer(destination) + first, count: written - first)
            count += 1
        }
    }
}

/// How a peer broke the protocol; each has the reply of Redis.
enum ProtocolViolation {
    case arrayLength
    case bulkLength
    case longArrayCount
    case longBulkCount
    case longInline
    case requestLength
    case unbalancedQuotes
    case expectedBulk(UInt8)

    func write(to replies: inout ReplyOutput) {
        switch self {
        case .arrayLength: replies.error("ERR Protocol error: invalid multibulk length")
        case .bulkLength: replies.error("ERR Protocol error: invalid bulk length")
        case .longArrayCount: replies.error("ERR Protocol error: too big mbulk count string")
        case .longBulkCount: replies.error("ERR Protocol error: too big bulk count string")
        case .longInline: replies.error("ERR Protocol error: too big inline request")
        case .requestLength: replies.error("ERR Protocol error: too big request")
        case .unbalancedQuotes: replies.error("ERR Protocol error: unbalanced quotes in request")
        case .expectedBulk(let byte):
            withUnsafeBytes(of: byte) { text in
                replies.error(
                    "ERR Protocol error: expected '$', got '",
                    quoting: ByteSlice(start: text.baseAddress!, count: 1), "'")
            }
        }
    }
}

extension UInt8 {
    fileprivate var hexadecimalDigit: UInt8? {
        let digit = self &- UInt8(ascii: "0")
        if digit < 10 { return digit }
        let letter = lowercasedASCII &- UInt8(ascii: "a")
        return letter < 6 ? letter + 10 : nil
    }

    /// What this byte means after a backslash.
    fileprivate var unescaped: UInt8 {
        switch self {
        case UInt8(ascii: "n"): UInt8(ascii: "\n")
        case UInt8(ascii: "r"): UInt8(ascii: "\r")
        case UInt8(ascii: "t"): UInt8(ascii: "\t")
        case UInt8(ascii: "b"): 8
        case UInt8(ascii: "a"): 7
        default: self
        }
    }
}
