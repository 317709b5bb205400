import DatapathMemory
import EthernetDevice
import QueueRuntime

/// Middleware for a device that is one queue of an interface whose queues belong to several shards, each with a stack of its own and all with the same
/// addresses.
///
/// The interface gives every frame to one queue: those of a flow always to the same, so that a connection lives where its first frame came. What concerns all
/// stacks, whichever queue it comes to, is copied to the others: answers of ARP and neighbour discovery, what routers tell, errors of ICMP (only the
/// stack that sent the quoted packet heeds one), questions about groups, and datagrams to groups. Questions that take one answer (ARP requests,
/// solicitations, echo requests) stay where they came.
///
/// Datagrams in fragments are put together by the shard that gets them. TCP segments in fragments, which no sender with path MTU discovery makes, may come to
/// a shard that does not know their connection.
enum SharedControlFrames {
    fileprivate struct State: ~Copyable {
        let device: EthernetDevice
        var broadcast: ShardBroadcast
        var heap: DatapathHeap?
    }

    fileprivate static func at(_ context: UnsafeMutableRawPointer) -> UnsafeMutablePointer<State> { context.assumingMemoryBound(to: State.self) }

    /// Whether a frame concerns all stacks.
    static func concernsAll(_ frame: UnsafeRawBufferPointer) -> Bool {
        guard frame.count >= 34 else { return false }
        let isToGroup = frame[0] & 1 != 0
        switch UInt16(frame[12]) << 8 | UInt16(frame[13]) {
        case 0x0806:
            // ARP: an answer.
            return frame[20] == 0 && frame[21] == 2
        case 0x0800:
            let type = 14 + Int(frame[14] & 15) * 4
            switch frame[23] {
            // ICMP: unreachable, redirect, time exceeded, parameter problem.
            case 1: return type < frame.count && [3, 5, 11, 12].contains(frame[type])
            // IGMP; UDP.
            case 2: return true
            case 17: return isToGroup
            default: return false
            }
        case 0x86dd where frame.count >= 55:
            switch frame[20] {
            // ICMPv6: errors, a query about groups, a router's advertisement, a neighbour's, a redirect.
            case 58: return frame[54] < 128 || [130, 134, 136, 137].contains(frame[54])
            // Behind a router alert come queries about groups.
            case 0, 17: return isToGroup
            default: return false
            }
        default: return false
        }
    }

    fileprivate static func receive(_ state: UnsafeMutablePointer<State>, _ frames: UnsafeMutablePointer<Frame>, _ capacity: Int) -> Int {
        guard let heap = state.pointee.heap else { return 0 }
        var count = 0
        while count < capacity, let frame = state.pointee.broadcast.receive(heap) {
            frame.frameFlags = []
            frames[count] = frame
            count += 1
        }
        let own = state.pointee.device.receive(frames + count, capacity: capacity - count)
        for index in count..<count + own {
            let frame = frames[index]
            if concernsAll(UnsafeRawBufferPointer(start: frame.segmentAddress, count: frame.segmentByteCount)) {
                state.pointee.broadcast.send(copyOf: frame, heap)
            }
        }
        return count + own
    }
}

extension EthernetDevice {
    /// This device, which is one queue of an interface whose other queues belong to the other shards of `mesh`: what concerns all their stacks is handed on in
    /// `lane`, one without queues. The runtime has to join the mesh, so that it is woken.
    public func sharingControlFrames(_ mesh: ShardMesh, shard: Int, lane: Int) -> EthernetDevice {
        let state = UnsafeMutablePointer<SharedControlFrames.State>.allocate(capacity: 1)
        state.initialize(to: SharedControlFrames.State(device: self, broadcast: ShardBroadcast(mesh, shard: shard, lane: lane)))
        return EthernetDevice(
            name: name, context: UnsafeMutableRawPointer(state), capabilities: capabilities,
            close: { context in
                let state = SharedControlFrames.at(context)
                state.pointee.device.close()
                state.deinitialize(count: 1)
                state.deallocate()
            },
            attach: { context, heap in
                let state = SharedControlFrames.at(context)
                let error = state.pointee.device.attachFunction(state.pointee.device.context, heap)
                if error == 0 { state.pointee.heap = heap.assumingMemoryBound(to: DatapathHeap.self).pointee }
                return error
            },
            transmit: { context, frames, count in
                let device = SharedControlFrames.at(context).pointee.device
                return device.transmitFunction(device.context, frames, count)
            },
            receive: { context, frames, capacity in
                Int32(
                    truncatingIfNeeded: SharedControlFrames.receive(
                        SharedControlFrames.at(context), frames.assumingMemoryBound(to: Frame.self), Int(capacity)))
            },
            prepareToSleep: { SharedControlFrames.at($0).pointee.device.prepareToSleep() },
            statistics: { context, statistics in
                let device = SharedControlFrames.at(context).pointee.device
                device.statisticsFunction(device.context, statistics)
            })
    }
}
