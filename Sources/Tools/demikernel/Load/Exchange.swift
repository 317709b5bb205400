import Glibc

/// One kind of request and the reply it must get: two byte templates, with the places at which a decimal number (the stamp) is written into them.
///
/// With the stamp, every request differs, and its whole reply is known: any wrong byte is seen. Nothing is allocated per request.
struct Exchange: ~Copyable {
    /// A place for the last `width` decimal digits of the stamp.
    struct StampField: Equatable {
        let offset: Int
        let width: Int
    }

    let request: UnsafeMutableRawBufferPointer
    let reply: UnsafeMutableRawBufferPointer
    /// Bytes at the front of the reply that state its length (`$64\r\n`). When a reply differs only behind them, its end is still known.
    let replyHeaderCount: Int
    private let requestStamp: StampField
    private let secondRequestStamp: StampField
    private let replyStamp: StampField

    /// - Parameter requestStamps: at most two.
    init(request: [UInt8], requestStamps: [StampField], reply: [UInt8], replyStamp: StampField?, replyHeaderCount: Int) {
        precondition(!request.isEmpty && !reply.isEmpty && requestStamps.count <= 2)
        let none = StampField(offset: 0, width: 0)
        self.request = .allocate(byteCount: request.count, alignment: 64)
        self.reply = .allocate(byteCount: reply.count, alignment: 64)
        self.request.copyBytes(from: request)
        self.reply.copyBytes(from: reply)
        requestStamp = requestStamps.first ?? none
        secondRequestStamp = requestStamps.count > 1 ? requestStamps[1] : none
        self.replyStamp = replyStamp ?? none
        self.replyHeaderCount = replyHeaderCount
    }

    deinit {
        request.deallocate()
        reply.deallocate()
    }

    /// Writes the request stamped with `stamp` to `destination`, which has room for `request.count` bytes.
    @inline(__always)
    func writeRequest(stamp: UInt64, to destination: UnsafeMutableRawPointer) {
        memcpy(destination, request.baseAddress!, request.count)
        Self.write(stamp, requestStamp, destination)
        Self.write(stamp, secondRequestStamp, destination)
    }

    /// Whether `bytes` are what the reply to the request stamped with `stamp` holds from `offset` on.
    @inline(__always)
    func matches(_ bytes: UnsafeRawBufferPointer, stamp: UInt64, offset: Int) -> Bool {
        Self.write(stamp, replyStamp, reply.baseAddress!)
        return memcmp(bytes.baseAddress!, reply.baseAddress! + offset, bytes.count) == 0
    }

    @inline(__always)
    private static func write(_ stamp: UInt64, _ field: StampField, _ destination: UnsafeMutableRawPointer) {
        var rest = stamp
        var index = field.offset + field.width - 1
        while index >= field.offset {
            let (quotient, digit) = rest.quotientAndRemainder(dividingBy: 10)
            destination.storeBytes(of: UInt8(truncatingIfNeeded: digit) &+ 0x30, toByteOffset: index, as: UInt8.self)
            rest = quotient
            index -= 1
        }
    }
}
