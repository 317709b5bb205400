/// The data types of RESP2 and RESP3 (the Redis serialisation protocol specification).
extension ReplyOutput {
    /// Writes `text`, of at most `minimumRoom` bytes, as it stands.
    @inline(__always)
    mutating func raw(_ text: StaticString) {
        let count = text.utf8CodeUnitCount
        reserve(count).copyMemory(from: UnsafeRawPointer(text.utf8Start), byteCount: count)
        advance(count)
    }

    @inline(__always)
    mutating func ok() { raw("+OK\r\n") }

    /// A simple string.
    mutating func simple(_ text: StaticString) {
        raw("+")
        raw(text)
        raw("\r\n")
    }

    @inline(__always)
    mutating func integer(_ value: Int) { number(UInt8(ascii: ":"), Int64(value)) }

    /// A bulk string.
    @inline(__always)
    mutating func bulk(_ slice: ByteSlice) {
        number(UInt8(ascii: "$"), Int64(slice.count))
        append(slice)
        raw("\r\n")
    }

    mutating func bulk(_ text: StaticString) { bulk(ByteSlice(text)) }

    mutating func bulk(_ value: UInt64) {
        var text = String(value)
        text.withUTF8 { bulk(ByteSlice(start: UnsafeRawPointer($0.baseAddress!), count: $0.count)) }
    }

    @inline(__always)
    mutating func null() {
        if usesRESP3 { raw("_\r\n") } else { raw("$-1\r\n") }
    }

    mutating func nullArray() {
        if usesRESP3 { raw("_\r\n") } else { raw("*-1\r\n") }
    }

    /// The head of an array of `count` values.
    mutating func array(_ count: Int) { number(UInt8(ascii: "*"), Int64(count)) }

    /// The head of a map of `count` pairs: in RESP2 a flat array.
    mutating func map(_ count: Int) {
        if usesRESP3 { number(UInt8(ascii: "%"), Int64(count)) } else { array(2 * count) }
    }

    /// The head of a set of `count` values: in RESP2 an array.
    mutating func set(_ count: Int) {
        if usesRESP3 { number(UInt8(ascii: "~"), Int64(count)) } else { array(count) }
    }

    /// A double: in RESP2 a bulk string.
    mutating func double(_ value: Double) {
        if !usesRESP3 {
            withUnsafeTemporaryAllocation(byteCount: NumberText.capacity, alignment: 1) { text in
                let count = NumberText.write(value, to: text.baseAddress!)
                bulk(ByteSlice(start: UnsafeRawPointer(text.baseAddress!), count: count))
            }
            return
        }
        let destination = reserve(NumberText.capacity + 3)
        destination.storeBytes(of: UInt8(ascii: ","), as: UInt8.self)
        advance(1 + NumberText.write(value, to: destination + 1))
        raw("\r\n")
    }

    /// Text of any length: in RESP2 a bulk string.
    mutating func verbatim(_ text: String) {
        var text = text
        text.withUTF8 { bytes in
            guard let start = bytes.baseAddress else { return bulk(ByteSlice("")) }
            let slice = ByteSlice(start: UnsafeRawPointer(start), count: bytes.count)
            guard usesRESP3 else { return bulk(slice) }
            number(UInt8(ascii: "="), Int64(slice.count + 4))
            raw("txt:")
            append(slice)
            raw("\r\n")
        }
    }

    @inline(__always)
    private mutating func number(_ type: UInt8, _ value: Int64) {
        let destination = reserve(NumberText.capacity + 3)
        destination.storeBytes(of: type, as: UInt8.self)
        let count = NumberText.write(value, to: destination + 1)
        destination.storeBytes(of: 0x0A0D, toByteOffset: count + 1, as: UInt16.self)
        advance(count + 3)
    }

    // MARK: Errors

    /// An error whose text begins with its code, such as `ERR`.
    mutating func error(_ text: StaticString) {
        raw("-")
        raw(text)
        raw("\r\n")
    }

    /// An error made of `before`, text of a peer, and `after`.
    mutating func error(_ before: StaticString, quoting text: ByteSlice, _ after: StaticString) {
        raw("-")
        raw(before)
        appendOneLine(text)
        raw(after)
        raw("\r\n")
    }

    /// Writes text of a peer up to its first zero byte, as Redis does, and without line breaks, which would end an error reply
    /// early.
    mutating func appendOneLine(_ text: ByteSlice) {
        for byte in text.bytes.prefix(while: { $0 != 0 }) {
            let isLineBreak = byte == UInt8(ascii: "\r") || byte == UInt8(ascii: "\n")
            reserve(1).storeBytes(of: isLineBreak ? UInt8(ascii: " ") : byte, as: UInt8.self)
            advance(1)
        }
    }

    mutating func notAnInteger() { error("ERR value is not an integer or out of range") }
    mutating func syntaxError() { error("ERR syntax error") }
    mutating func wrongArity(_ command: StaticString) {
        error("ERR wrong number of arguments for '", quoting: ByteSlice(command), "' command")
    }

    /// Whether `entry` holds a value of `kind`; writes the error if not.
    @inline(__always)
    mutating func check(_ entry: EntryPointer, is kind: ValueKind) -> Bool {
        if entry.pointee.kind == kind { return true }
        error("WRONGTYPE Operation against a key holding the wrong kind of value")
        return false
    }
}
