import DatapathMemory
import Glibc
import SharedMemory

/// Both rings of a connection, mapped, and the limit that the two sides agreed on.
struct SharedConnection {
    let mapping: UnsafeMutableRawPointer
    let mappingByteCount: Int
    private(set) var maximumUnitSize: Int
    var producer: RingProducer
    var consumer: RingConsumer

    /// Maps the rings of `memory`, each twice.
    /// - Throws: as `SealedMemory.map(parts:)`.
    init(_ memory: SealedMemory, ringByteCount: Int, maximumUnitSize: Int, isClient: Bool) throws(DemikernelError) {
        let toServer = RingLayout.controlByteCount
        let toClient = toServer + ringByteCount
        mapping = try memory.map(parts: [
            (0, RingLayout.controlByteCount), (toServer, ringByteCount), (toServer, ringByteCount), (toClient, ringByteCount),
            (toClient, ringByteCount),
        ])
        mappingByteCount = RingLayout.controlByteCount + 4 * ringByteCount
        self.maximumUnitSize = maximumUnitSize
        let data = mapping + RingLayout.controlByteCount
        let (sending, receiving) = isClient ? (0, 1) : (1, 0)
        producer = RingProducer(
            data: data + sending * 2 * ringByteCount, control: mapping + sending * RingLayout.ringControlByteCount, byteCount: ringByteCount)
        consumer = RingConsumer(
            data: data + receiving * 2 * ringByteCount, control: mapping + receiving * RingLayout.ringControlByteCount,
            byteCount: ringByteCount, maximumUnitSize: maximumUnitSize)
    }

    /// Takes the limit that the other side has answered.
    mutating func limitUnits(to byteCount: Int) {
        maximumUnitSize = byteCount
        consumer.maximumUnitSize = byteCount
    }

    func unmap() {
        munmap(mapping, mappingByteCount)
    }
}
