import Glibc

/// Asks a library OS over an Ethernet device to write the device's frames to a socket, as a pcapng file.
public struct FrameCaptureRequest: Sendable {
    /// Tells the capture from others, for its end.
    public var owner: UInt64
    /// A stream socket, whose copy the capture keeps; what it does not take is dropped and counted.
    public var socket: Int32
    /// What the interface is called in the capture; nil for the device's own name.
    public var interfaceName: String?
    /// Bytes of a frame that are kept.
    public var snapshotByteCount: Int

    public init(owner: UInt64, socket: Int32, interfaceName: String? = nil, snapshotByteCount: Int = 262_144) {
        self.owner = owner
        self.socket = socket
        self.interfaceName = interfaceName
        self.snapshotByteCount = snapshotByteCount
    }
}

/// How a capture of frames has ended.
public struct FrameCaptureEnd: Sendable {
    /// Whose capture is to end.
    public let owner: UInt64
    /// What the socket has not taken yet: the rest of the file, with the counts at its end. Empty when no capture of the owner's was running.
    public var rest: [UInt8] = []

    public init(owner: UInt64) {
        self.owner = owner
    }
}

extension RuntimeCore {
    /// On the runtime's thread: captures the frames of the first library OS that has any. Nothing is paid for it before this call, or after the end.
    /// - Returns: 0; `EOPNOTSUPP` when no library OS of the runtime has frames, `EBUSY` while another capture runs, `EMFILE`.
    public func beginCapture(_ request: FrameCaptureRequest) -> Int32 {
        checkThread()
        for index in 0..<state.pointee.libraryCount {
            let library = state.pointee.libraries + index
            guard let begin = library.pointee.beginCapture else { continue }
            return withUnsafePointer(to: request) { begin(library.pointee.context, UnsafeRawPointer($0)) }
        }
        return EOPNOTSUPP
    }

    /// On the runtime's thread: ends the owner's capture, if it runs.
    public func endCapture(owner: UInt64) -> FrameCaptureEnd {
        checkThread()
        var end = FrameCaptureEnd(owner: owner)
        for index in 0..<state.pointee.libraryCount {
            let library = state.pointee.libraries + index
            guard let endCapture = library.pointee.endCapture else { continue }
            withUnsafeMutablePointer(to: &end) { endCapture(library.pointee.context, UnsafeMutableRawPointer($0)) }
            break
        }
        return end
    }
}
