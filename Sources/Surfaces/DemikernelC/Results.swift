import CDemikernel
import DatapathMemory
import Glibc
import QueueRuntime

/// How results stand in a `demi_qresult_t`, which may lie anywhere: it is packed.
extension CurrentRuntime {
    private enum Offset {
        static let queue = 4, token = 8, outcome = 16, value = 24
        // Of an array in the value.
        static let segmentCount = 8, segmentAddress = 12, segmentByteCount = 20, source = 24
        // Of an accept's result in the value.
        static let peer = 4
    }

    /// Writes the result of an operation. There must be room for an array.
    @inline(__always)
    func write(_ completion: consuming Completion, to result: UnsafeMutableRawPointer) {
        result.storeBytes(of: completion.queue.rawValue, toByteOffset: Offset.queue, as: Int32.self)
        result.storeBytes(of: completion.token.rawValue, toByteOffset: Offset.token, as: UInt64.self)
        result.storeBytes(of: 0, toByteOffset: Offset.outcome, as: Int64.self)
        switch consume completion.result {
        case .pushed: opcode(DEMI_OPC_PUSH, result)
        case .popped(let array, let source):
            opcode(DEMI_OPC_POP, result)
            if let source {
                writeArray(array.takeOver(), from: source, to: result + Offset.value)
            } else {
                writeArray(array.takeOver(), to: result + Offset.value)
            }
        case .endOfStream:
            opcode(DEMI_OPC_POP, result)
            writeEnd(to: result + Offset.value)
        case .accepted(let queue, let peer):
            opcode(DEMI_OPC_ACCEPT, result)
            writeConnection(queue, peer, to: result + Offset.value)
        case .connected: opcode(DEMI_OPC_CONNECT, result)
        case .closed: opcode(DEMI_OPC_CLOSE, result)
        case .failed(let error, _):
            opcode(DEMI_OPC_FAILED, result)
            result.storeBytes(of: Int64(error.errno), toByteOffset: Offset.outcome, as: Int64.self)
        }
    }

    /// Writes the result of a push.
    @inline(__always)
    func writePush(_ queue: QueueDescriptor, _ token: demi_qtoken_t, to result: UnsafeMutableRawPointer) {
        opcode(DEMI_OPC_PUSH, result)
        result.storeBytes(of: queue.rawValue, toByteOffset: Offset.queue, as: Int32.self)
        result.storeBytes(of: token, toByteOffset: Offset.token, as: UInt64.self)
        result.storeBytes(of: 0, toByteOffset: Offset.outcome, as: Int64.self)
    }

    /// Writes the result of a pop from no address. The table must have a free entry.
    @inline(__always)
    func writePop(
        _ queue: QueueDescriptor, _ token: demi_qtoken_t, _ array: UnsafeMutablePointer<SegmentDescriptor>, to result: UnsafeMutableRawPointer
    ) {
        opcode(DEMI_OPC_POP, result)
        result.storeBytes(of: queue.rawValue, toByteOffset: Offset.queue, as: Int32.self)
        result.storeBytes(of: token, toByteOffset: Offset.token, as: UInt64.self)
        result.storeBytes(of: 0, toByteOffset: Offset.outcome, as: Int64.self)
        writeArray(array, state.pointee.arrays.addToFreeEntry(array), to: result + Offset.value)
    }

    @inline(__always)
    private func opcode(_ opcode: demi_opcode, _ result: UnsafeMutableRawPointer) {
        result.storeBytes(of: opcode.rawValue, as: UInt32.self)
    }

    @inline(never)
    private func writeConnection(_ queue: QueueDescriptor, _ peer: SocketAddress, to value: UnsafeMutableRawPointer) {
        value.storeBytes(of: queue.rawValue, as: Int32.self)
        let (first, second) = peer.shortForm
        value.storeBytes(of: first, toByteOffset: Offset.peer, as: UInt64.self)
        value.storeBytes(of: second, toByteOffset: Offset.peer + 8, as: UInt64.self)
        // A connection that its peer has ended already takes none any more, which its next pop tells.
        try? setDefaults(of: queue)
    }

    /// A bare array: popped from a stream.
    @inline(__always)
    private func writeArray(_ array: UnsafeMutablePointer<SegmentDescriptor>, to sga: UnsafeMutableRawPointer) {
        writeArray(array, state.pointee.arrays.add(array), to: sga)
    }

    @inline(__always)
    private func writeArray(
        _ array: UnsafeMutablePointer<SegmentDescriptor>, _ entry: UnsafeMutablePointer<ArrayTable.Entry>, to sga: UnsafeMutableRawPointer
    ) {
        sga.storeBytes(of: entry.handle, as: UnsafeMutableRawPointer?.self)
        sga.storeBytes(of: UInt32(truncatingIfNeeded: array.arraySegmentCount), toByteOffset: Offset.segmentCount, as: UInt32.self)
        sga.storeBytes(of: array.segmentAddress, toByteOffset: Offset.segmentAddress, as: UnsafeMutableRawPointer.self)
        sga.storeBytes(of: UInt32(truncatingIfNeeded: array.segmentByteCount), toByteOffset: Offset.segmentByteCount, as: UInt32.self)
        sga.storeBytes(of: 0, toByteOffset: Offset.source, as: UInt64.self)
        sga.storeBytes(of: 0, toByteOffset: Offset.source + 8, as: UInt64.self)
    }

    /// A datagram, with its source.
    @inline(never)
    private func writeArray(_ array: UnsafeMutablePointer<SegmentDescriptor>, from source: SocketAddress, to sga: UnsafeMutableRawPointer) {
        writeArray(array, to: sga)
        let entry = state.pointee.arrays.entry(sga.loadUnaligned(as: UnsafeMutableRawPointer?.self)).unsafelyUnwrapped
        entry.pointee.source = source
        entry.pointee.hasSource = true
        let (first, second) = source.shortForm
        sga.storeBytes(of: first, toByteOffset: Offset.source, as: UInt64.self)
        sga.storeBytes(of: second, toByteOffset: Offset.source + 8, as: UInt64.self)
    }

    /// The end of a stream: one segment of no bytes.
    @inline(never)
    private func writeEnd(to sga: UnsafeMutableRawPointer) {
        sga.storeBytes(of: state.pointee.arrays.add(nil).handle, as: UnsafeMutableRawPointer?.self)
        sga.storeBytes(of: 1, toByteOffset: Offset.segmentCount, as: UInt32.self)
        sga.storeBytes(of: demi_end_of_stream_address(), toByteOffset: Offset.segmentAddress, as: UnsafeMutableRawPointer?.self)
        memset(sga + Offset.segmentByteCount, 0, 20)
    }
}
