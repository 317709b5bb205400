import Demikernel
import Glibc

/// A library OS that writes down by address what it is given: its sockets are loops, whose pops give back what was pushed, as it is.
///
/// It stands for a device with zero-copy: it registers the heap's arena, and takes only memory that is registered.
final class RecordingDevice {
    fileprivate let core: RuntimeCore
    fileprivate var queues: [UInt32: Loop] = [:]
    /// The arenas that the heap has registered, and how many of them it has taken back.
    var arenas: [(base: UnsafeMutableRawPointer, byteCount: Int)] = []
    var unregisteredCount = 0
    /// Where the segments lay that were pushed, and what the heap says of their registration.
    var pushed: [UnsafeMutableRawPointer] = []
    var registrations: [UInt64?] = []
    var isDestroyed = false
    /// What else happens in each turn.
    var whenPolled: () -> Void = {}
    fileprivate var device: DeviceIdentifier?

    fileprivate struct Loop {
        var descriptor: QueueDescriptor
        var first: UnsafeMutablePointer<SegmentDescriptor>?
        var last: UnsafeMutablePointer<SegmentDescriptor>?
        var pops = OperationList()
    }

    fileprivate init(core: RuntimeCore) { self.core = core }

    /// The table of C-convention functions, and the device behind it. The runtime owns one reference until `destroy`.
    static func make(for core: RuntimeCore, keeping kept: Shared<RecordingDevice?>) -> LibraryOS {
        let device = RecordingDevice(core: core)
        kept.value = device
        let context = Unmanaged.passRetained(device).toOpaque()
        device.device = core.heap.register(
            DeviceRegistration(
                context: context,
                register: { context, base, byteCount in
                    let device = RecordingDevice.of(context)
                    device.arenas.append((base, byteCount))
                    return UInt64(100 + device.arenas.count)
                },
                unregister: { context, _, _ in RecordingDevice.of(context).unregisteredCount += 1 }))
        return LibraryOS(
            name: "recording", context: context,
            socket: { context, _, _, queue in
                let descriptor = QueueDescriptor(rawValue: queue)
                RecordingDevice.of(context).queues[UInt32(descriptor.slot)] = Loop(descriptor: descriptor)
                return Int64(descriptor.slot)
            },
            bind: { context, _, _ in RecordingDevice.of(context).core.refuse(EOPNOTSUPP, "a loop has no address") },
            listen: { _, _, _ in EOPNOTSUPP },
            accept: { _, _, _ in EOPNOTSUPP },
            connect: { _, _, _ in EOPNOTSUPP },
            push: { context, state, operation in
                let device = RecordingDevice.of(context)
                let array = device.core.operation(operation).pointee.array!
                let byteCount = array.arrayByteCount
                device.take(array, on: state)
                device.core.completePush(operation, byteCount: byteCount)
                return 0
            },
            pushDiscarded: { context, state, array, _ in
                RecordingDevice.of(context).take(array.assumingMemoryBound(to: SegmentDescriptor.self), on: state)
                return 0
            },
            pop: { context, state, operation in
                let device = RecordingDevice.of(context)
                device.core.append(operation, to: &device.queues[state]!.pops)
                return 0
            },
            shutdown: { _, _, _ in EOPNOTSUPP },
            close: { context, state, operation in
                let device = RecordingDevice.of(context)
                guard var loop = device.queues.removeValue(forKey: state) else { return }
                device.core.failAll(&loop.pops, ECANCELED)
                while let array = loop.first {
                    loop.first = array.pointee.nextArray
                    array.releaseArray()
                }
                device.core.finishClose(loop.descriptor, operation: operation)
            },
            cancel: { context, state, operation in
                let device = RecordingDevice.of(context)
                device.core.remove(operation, from: &device.queues[state]!.pops)
                device.core.fail(operation, ECANCELED)
            },
            address: { _, _, _, _ in EOPNOTSUPP },
            setOption: { _, _, _, _, _ in EOPNOTSUPP },
            option: { _, _, _, _ in EOPNOTSUPP },
            poll: { context in RecordingDevice.of(context).poll() },
            prepareToSleep: nil,
            destroy: { context in
                let device = RecordingDevice.of(context)
                device.core.heap.unregister(device.device!)
                device.isDestroyed = true
                Unmanaged<RecordingDevice>.fromOpaque(context).release()
            })
    }

    private static func of(_ context: UnsafeMutableRawPointer) -> RecordingDevice {
        Unmanaged<RecordingDevice>.fromOpaque(context).takeUnretainedValue()
    }

    private func take(_ array: UnsafeMutablePointer<SegmentDescriptor>, on state: UInt32) {
        var segment: UnsafeMutablePointer<SegmentDescriptor>? = array
        while let current = segment {
            pushed.append(current.segmentAddress)
            registrations.append(core.heap.registration(of: current.segmentAddress, with: device!))
            segment = current.nextSegment
        }
        array.pointee.nextArray = nil
        if let last = queues[state]!.last { last.pointee.nextArray = array } else { queues[state]!.first = array }
        queues[state]!.last = array
    }

    /// Pops are completed here alone, in a turn, as a device would.
    private func poll() -> Int32 {
        whenPolled()
        var progress: Int32 = 0
        for state in queues.keys {
            while let array = queues[state]!.first, !queues[state]!.pops.isEmpty {
                let pop = core.removeFirst(from: &queues[state]!.pops)
                let next = array.pointee.nextArray
                let rest = core.completePop(pop, cutting: array)
                rest?.pointee.nextArray = next
                queues[state]!.first = rest ?? next
                if next == nil { queues[state]!.last = rest }
                progress += 1
            }
        }
        return progress
    }
}
