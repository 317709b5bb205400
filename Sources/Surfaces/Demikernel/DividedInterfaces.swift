import EthernetDevice
import Synchronization
import XDPDevice

/// Interfaces whose receive queues a group's shards divide among them: the first shard to open one makes the parts of all, and each takes its own.
final class DividedInterfaces: Sendable {
    /// By the interface's name; a part that was taken is nil.
    private let parts = Mutex<[String: [XDPDevice.Descriptors?]]>([:])

    deinit {
        // Of shards that were never made.
        parts.withLock { parts in
            for part in parts.values.joined() { part?.close() }
        }
    }

    /// Opens a shard's part.
    /// - Parameter heap: of the shard's runtime.
    /// - Throws: as `XDPDevice.divide` and `XDPDevice.make`.
    func openPart(of configuration: XDPConfiguration, _ place: ShardGroup.Place, heap: DatapathHeap) throws(DemikernelError) -> EthernetDevice {
        let part = try parts.withLock { (parts) throws(DemikernelError) in
            let name = configuration.interface
            if parts[name] == nil { parts[name] = try XDPDevice.divide(configuration, among: place.count) }
            defer { parts[name]?[place.shard] = nil }
            return parts[name]?[place.shard]
        }
        guard let part else { preconditionFailure("a shard opens its part of an interface once") }
        do throws(DemikernelError) {
            return try XDPDevice.make(part, heap: heap)
        } catch {
            part.close()
            throw error
        }
    }
}
