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
            writeArray(array.takeOver(), source, to: result + Offset.value)
        case .endOfStream:
            opcode(DEMI_OPC_POP, result)
            writeArray(nil, nil, to: result + Offset.value)
        case .accepted(let queue, let peer):
            opcode(DEMI_OPC_ACCEPT, result)
            result.storeBytes(of: queue.rawValue, toByteOffset: Offset.value, as: Int32.self)
            let (first, second) = peer.shortForm
            result.storeBytes(of: first, toByteOffset: Offset.value + Offset.peer, as: UInt64.self)
            result.storeBytes(of: second, toByteOffset: Offset.value + Offset.peer + 8, as: UInt64.self)
            // A connection that its peer has ended already takes none any more, which its next pop tells.
            try? setDefaults(of: queue)
        case .connected: opcode(DEMI_OPC_CONNECT, result)
        case .closed: opcode(DEMI_OPC_CLOSE, result)
        case .failed(let error, _):
            opcode(DEMI_OPC_FAILED, result)
            result.storeBytes(of: Int64(error.errno), toByteOffset: Offset.outcome, as: Int64.self)
        }
    }

    @inline(__always)
    private func opcode(_ opcode: demi_opcode, _ result: UnsafeMutableRawPointer) {
        result.storeBytes(of: opcode.rawValue, as: UInt32.self)
    }

    @inline(__always)
    private func writeArray(_ array: UnsafeMutablePointer<SegmentDescriptor>?, _ source: SocketAddress?, to sga: UnsafeMutableRawPointer) {
        let entry = state.pointee.arrays.add(array)
        let (first, second): (UInt64, UInt64)
        if let source {
            entry.pointee.source = source
            entry.pointee.hasSource = true
            (first, second) = source.shortForm
        } else {
            (first, second) = (0, 0)
        }
        sga.storeBytes(of: entry.handle, as: UnsafeMutableRawPointer?.self)
        let address = array?.segmentAddress ?? demi_end_of_stream_address().unsafelyUnwrapped
        sga.storeBytes(of: UInt32(truncatingIfNeeded: array?.arraySegmentCount ?? 1), toByteOffset: Offset.segmentCount, as: UInt32.self)
        sga.storeBytes(of: address, toByteOffset: Offset.segmentAddress, as: UnsafeMutableRawPointer.self)
        sga.storeBytes(of: UInt32(truncatingIfNeeded: array?.segmentByteCount ?? 0), toByteOffset: Offset.segmentByteCount, as: UInt32.self)
        sga.storeBytes(of: first, toByteOffset: Offset.source, as: UInt64.self)
        sga.storeBytes(of: second, toByteOffset: Offset.source + 8, as: UInt64.self)
    }
}
