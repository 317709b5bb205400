import DatapathMemory

/// One direction of a connection: what was pushed into it, and what has come out. Its bytes are a function of the stream's number and their place, so that
/// one that is lost, doubled, moved or another stream's is found.
final class StreamRecord {
    let name: String
    private let key: UInt64
    /// Bytes that were pushed and not cancelled.
    var pushed = 0
    /// The sender has ended the stream behind its last byte, and nothing has failed before that.
    var isEnded = false
    private(set) var delivered = 0
    private(set) var hasSeenEnd = false

    init(name: String, number: UInt64, seed: UInt64) {
        self.name = name
        key = SimulationRandom.mix(seed ^ number &* 0xd1b5_4a32_d192_ed03)
    }

    @inline(__always)
    private func word(_ index: Int) -> UInt64 { SimulationRandom.mix(key &+ UInt64(truncatingIfNeeded: index) &* 0x9e37_79b9_7f4a_7c15) }

    @inline(__always)
    private func byte(_ offset: Int) -> UInt8 { UInt8(truncatingIfNeeded: word(offset >> 3) >> UInt64(8 * (offset & 7))) }

    /// Writes the stream's bytes from `offset` on.
    func fill(_ target: UnsafeMutableRawPointer, from offset: Int, count: Int) {
        var position = 0
        while position < count, (offset + position) & 7 != 0 {
            target.storeBytes(of: byte(offset + position), toByteOffset: position, as: UInt8.self)
            position += 1
        }
        while count - position >= 8 {
            target.storeBytes(of: word((offset + position) >> 3).littleEndian, toByteOffset: position, as: UInt64.self)
            position += 8
        }
        while position < count {
            target.storeBytes(of: byte(offset + position), toByteOffset: position, as: UInt8.self)
            position += 1
        }
    }

    /// Takes the next bytes that came out.
    /// - Returns: what is wrong with them.
    func deliver(_ array: borrowing ScatterGatherArray) -> String? {
        if hasSeenEnd { return "\(name): bytes behind the end of the stream" }
        for segment in 0..<array.segmentCount {
            let mismatch: Int? = array.withUnsafeBytes(ofSegment: segment) { bytes in
                var position = 0
                while position < bytes.count {
                    if (delivered + position) & 7 == 0, bytes.count - position >= 8 {
                        if bytes.loadUnaligned(fromByteOffset: position, as: UInt64.self) == word((delivered + position) >> 3).littleEndian {
                            position += 8
                            continue
                        }
                    }
                    if bytes[position] != byte(delivered + position) { return delivered + position }
                    position += 1
                }
                delivered += bytes.count
                return nil
            }
            if let mismatch { return "\(name): the byte at \(mismatch) is another one than was pushed (\(pushed) bytes were)" }
        }
        return delivered <= pushed ? nil : "\(name): \(delivered) bytes came out, \(pushed) were pushed"
    }

    /// The receiver has met the end of the stream.
    /// - Returns: what is wrong with that.
    func end() -> String? {
        hasSeenEnd = true
        if !isEnded { return "\(name): the stream ended after \(delivered) bytes, but its sender has not ended it" }
        return delivered == pushed ? nil : "\(name): the stream ended after \(delivered) of \(pushed) bytes"
    }
}
