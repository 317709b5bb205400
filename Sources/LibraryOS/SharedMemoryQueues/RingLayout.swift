/// How a connection's shared memory is laid out, and what stands in it.
///
/// One page of control words, then the ring from the client to the server, then the ring back. Each ring has one producer and one consumer. In its bytes
/// stand records, one behind the other and around the end: a header of 8 bytes, the unit, and up to 7 bytes more to the next multiple of 8. The first
/// half of a header is 0 until the record is whole: the producer writes the unit, clears the header of the record to come, and sets this one's. So
/// the consumer finds a small unit in the very line that it polls, and reads no counter of the producer's.
///
/// Control words of a ring, each group in a line of its own (two lines are fetched together, so 128 bytes apart):
/// - what the consumer has consumed, in bytes ever (written by the consumer, when it has become a quarter of the ring more);
/// - what the producer has to know of the consumer after each record: whether it sleeps, whether it will never consume again;
/// - whether the producer waits for room.
enum RingLayout {
    static let controlByteCount = 4_096
    /// The two directions: client to server, server to client.
    static let ringControlByteCount = 512

    static let consumedOffset = 0
    /// Two words of 32 bits that are read as one of 64.
    static let isSleepingOffset = 128
    static let isClosedOffset = 132
    static let producerWaitsOffset = 256

    static let headerByteCount = 8
    static let isWhole: UInt32 = 1 << 31
    /// The producer will send no more.
    static let isEnd: UInt32 = 1 << 30
    static let lengthMask: UInt32 = 1 << 30 - 1

    @inline(__always)
    static func recordByteCount(_ unitByteCount: Int) -> Int { headerByteCount &+ (unitByteCount &+ 7) & ~7 }

    /// The largest unit of a ring: one quarter may be consumed without the producer's knowing, and the header of the next record has its place.
    static func largestUnit(ringByteCount: Int) -> Int { ringByteCount / 4 * 3 - 2 * headerByteCount }

    static func totalByteCount(ringByteCount: Int) -> Int { controlByteCount + 2 * ringByteCount }
}
