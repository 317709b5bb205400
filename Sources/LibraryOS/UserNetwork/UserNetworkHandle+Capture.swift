import DatapathMemory
import EthernetDevice
import Glibc
import QueueRuntime

/// A capture of the device's frames that has begun.
struct FrameCapture {
    let owner: UInt64
    let writer: PacketCaptureWriter
    /// The first one of the file.
    let interface: UInt32 = 0
}

/// Capturing frames of a device in use: while it lasts, the stack has another device, which wraps its own.
extension UserNetworkHandle {
    func beginCapture(_ request: FrameCaptureRequest) -> Int32 {
        guard state.pointee.capture == nil else { return EBUSY }
        let socket = fcntl(request.socket, F_DUPFD_CLOEXEC, 0)
        guard socket >= 0 else { return errno }
        let writer = PacketCaptureWriter(socket: socket)
        do throws(DemikernelError) {
            state.pointee.device = try CapturingDevice.wrap(
                state.pointee.device, writer: writer, interfaceName: request.interfaceName ?? state.pointee.deviceName,
                snapshotByteCount: request.snapshotByteCount)
        } catch {
            writer.close()
            return error.errno
        }
        state.pointee.capture = FrameCapture(owner: request.owner, writer: writer)
        return 0
    }

    func endCapture(into end: UnsafeMutablePointer<FrameCaptureEnd>) {
        guard state.pointee.capture?.owner == end.pointee.owner else { return }
        if let capture = takeCapture() { end.pointee.rest = capture.writer.closeReturningRest(capture.interface) }
    }

    /// At the end of the library OS: the last frames are given to the socket, as long as it takes some within a second.
    func finishCapture() {
        guard let capture = takeCapture() else { return }
        let socket = fcntl(capture.writer.fileDescriptor, F_DUPFD_CLOEXEC, 0)
        let rest = capture.writer.closeReturningRest(capture.interface)
        guard socket >= 0 else { return }
        defer {
            // The end of the file, whoever has a copy of the socket.
            Glibc.shutdown(socket, Int32(SHUT_WR))
            Glibc.close(socket)
        }
        var sent = 0
        rest.withUnsafeBytes { bytes in
            while sent < bytes.count {
                let count = send(
                    socket, bytes.baseAddress.unsafelyUnwrapped + sent, bytes.count - sent, Int32(MSG_DONTWAIT) | Int32(MSG_NOSIGNAL))
                if count > 0 {
                    sent += count
                } else {
                    var room = pollfd(fd: socket, events: Int16(POLLOUT), revents: 0)
                    guard count < 0, errno == EAGAIN || errno == EINTR, Glibc.poll(&room, 1, 1_000) > 0 else { break }
                }
            }
        }
    }

    private func takeCapture() -> FrameCapture? {
        guard let capture = state.pointee.capture else { return nil }
        state.pointee.capture = nil
        state.pointee.device = CapturingDevice.unwrap(state.pointee.device)
        return capture
    }
}
