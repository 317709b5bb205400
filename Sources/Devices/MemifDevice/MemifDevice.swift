import CDatapath
import DatapathMemory
import EthernetDevice
import Glibc
import SharedMemory

/// An Ethernet device over memory shared with another process: memif 2.0, as DPDK and VPP speak it, in both roles, with one queue in each direction.
///
/// The link is up while a peer is connected; frames that are sent before or after are lost, and counted as `transmitLinkDown`. A server takes one client
/// at a time, and the next one when it is gone; a client connects again and again, every 10 ms. Every frame is copied, on its way in before anybody looks at
/// it: the peer is not trusted, and one that breaks the rules of the rings loses the link, counted.
public enum MemifDevice {
    /// Makes a device that listens at a path, or connects to it.
    ///
    /// The socket's file is its owner's alone (mode 0600). A client need not find its server yet.
    /// - Throws: `EINVAL` for a configuration that cannot be, `EADDRINUSE` and others with their mends for a path that cannot be had, `EMFILE`.
    public static func make(path: String, _ configuration: MemifConfiguration) throws(DemikernelError) -> EthernetDevice {
        let handle = try makeHandle(configuration, lastingAddress(path, configuration))
        do throws(DemikernelError) {
            switch configuration.role {
            case .server:
                let listener = try PathSocket.listen(at: path, backlog: 4)
                handle.state.pointee.listener = listener
                try handle.listen(listener.file)
            case .client:
                guard (1...PathSocket.maximumPathByteCount).contains(path.utf8.count) else {
                    throw DemikernelError(ENAMETOOLONG, .initialize, "the path of a socket has 1 to 107 bytes: choose a shorter one")
                }
                handle.state.pointee.path = path
                handle.call()
            }
        } catch {
            handle.close()
            throw error
        }
        return handle.device
    }

    /// Makes a device from a descriptor that was received: a server's listening socket, from which clients come and come back, or a socket that is
    /// connected to a server, which lasts as long as that connection. The device takes the descriptor over, also when this throws.
    /// - Throws: `EINVAL` for a configuration or a descriptor that cannot be, `EMFILE`.
    public static func make(socket file: Int32, _ configuration: MemifConfiguration) throws(DemikernelError) -> EthernetDevice {
        let handle: MemifHandle
        do throws(DemikernelError) {
            guard socketOption(file, SO_DOMAIN) == AF_UNIX, socketOption(file, SO_TYPE) == Int32(SOCK_SEQPACKET.rawValue),
                socketOption(file, SO_ACCEPTCONN) == (configuration.role == .server ? 1 : 0)
            else {
                throw DemikernelError(
                    EINVAL, .initialize, "a memif server is made from a listening unix socket of type SOCK_SEQPACKET, a client from a connected one")
            }
            handle = try makeHandle(configuration, randomAddress())
        } catch {
            Glibc.close(file)
            throw error
        }
        _ = fcntl(file, F_SETFL, fcntl(file, F_GETFL, 0) | O_NONBLOCK)
        do throws(DemikernelError) {
            if configuration.role == .server {
                handle.state.pointee.receivedListener = file
                try handle.listen(file)
            } else if !handle.converse(on: file) {
                throw DemikernelError(errno, .initialize, "the kernel cannot watch another socket: raise fs.epoll.max_user_watches")
            }
        } catch {
            handle.close()
            throw error
        }
        return handle.device
    }

    /// The counts of a device that `make` made and that is not closed.
    public static func statistics(of device: EthernetDevice) -> MemifStatistics {
        MemifHandle(device.context).state.pointee.statistics
    }

    /// Whether a peer is connected to a device that `make` made and that is not closed.
    public static func isLinkUp(_ device: EthernetDevice) -> Bool {
        MemifHandle(device.context).state.pointee.phase == .up
    }

    private static func socketOption(_ file: Int32, _ name: Int32) -> Int32 {
        var value: Int32 = -1
        var length = socklen_t(MemoryLayout<Int32>.size)
        return getsockopt(file, SOL_SOCKET, name, &value, &length) == 0 ? value : -1
    }

    /// The same for the same path, identifier and role: neighbours know a process that comes back.
    private static func lastingAddress(_ path: String, _ configuration: MemifConfiguration) -> UInt64 {
        // FNV-1a.
        var hash: UInt64 = 0xcbf2_9ce4_8422_2325
        for byte in path.utf8 { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3 }
        for word in [UInt64(configuration.identifier), configuration.role == .server ? 1 : 2] { hash = (hash ^ word) &* 0x100_0000_01b3 }
        return local(hash ^ hash >> 32)
    }

    private static func randomAddress() -> UInt64 {
        var random: UInt64 = 0
        _ = getrandom(&random, 8, 0)
        return local(random)
    }

    /// Unicast, and locally administered.
    private static func local(_ bits: UInt64) -> UInt64 { bits & 0x00ff_ffff_ffff | 0x0200_0000_0000 }

    private static func makeHandle(_ configuration: MemifConfiguration, _ address: UInt64) throws(DemikernelError) -> MemifHandle {
        if let mistake = configuration.mistake { throw DemikernelError(EINVAL, .initialize, mistake) }
        let events = epoll_create1(Int32(EPOLL_CLOEXEC))
        let timer = timerfd_create(CLOCK_MONOTONIC, Int32(TFD_CLOEXEC) | Int32(TFD_NONBLOCK))
        let regions = UnsafeMutablePointer<MemifRegion>.allocate(capacity: Memif.maximumRegions)
        regions.initialize(repeating: MemifRegion(base: UnsafeMutableRawPointer(regions), byteCount: 0), count: Memif.maximumRegions)
        let state = UnsafeMutablePointer<MemifState>.allocate(capacity: 1)
        state.initialize(
            to: MemifState(
                configuration: configuration, macAddress: configuration.macAddress ?? address, events: events, timer: timer, regions: regions))
        let handle = MemifHandle(state)
        guard events >= 0, timer >= 0, handle.watch(timer, .timer) else {
            let error = errno
            handle.close()
            throw DemikernelError(error, .initialize, "no descriptor is left for a memif device: raise the limit with ulimit -n")
        }
        return handle
    }
}

/// The state of a device, at one address for its whole life.
struct MemifState: ~Copyable {
    let configuration: MemifConfiguration
    let macAddress: UInt64
    /// Watches the sockets, the timer, and what the peer signals.
    let events: Int32
    /// Tells a client when to try again.
    let timer: Int32
    /// Those that are not there have no bytes.
    let regions: UnsafeMutablePointer<MemifRegion>
    var regionCount = 0
    var heap: DatapathHeap?
    var phase = MemifPhase.down
    var listener: PathSocket.Listener?
    /// A listening socket that was received; its path, if it has one, is not this device's to remove.
    var receivedListener: Int32 = -1
    /// Where a client connects to; nil for one that was given its connection.
    var path: String?
    /// The connected socket; -1 without a peer.
    var control: Int32 = -1
    var receiveRing: MemifRing?
    var transmitRing: MemifRing?
    /// Receives since the sockets were looked at last.
    var receivesSinceControl = 0
    /// Receives that found nothing.
    var emptyReceives: UInt32 = 0
    /// Receives in which they are looked at all the same: after a sleep was prepared.
    var controlsDue = 0
    /// The peer was asked to signal.
    var isArmed = false
    var deviceStatistics = DeviceStatistics()
    var statistics = MemifStatistics()
}

/// Where the link stands.
enum MemifPhase: UInt8 {
    case down
    /// A server has greeted, and awaits the client's INIT.
    case awaitingInitialize
    /// A server awaits regions, rings, and CONNECT.
    case awaitingMemory
    /// A client awaits the greeting.
    case awaitingHello
    /// A client awaits the acknowledgement of its INIT, of its region, of its first ring, of its second ring.
    case awaitingInitialized, awaitingRegion, awaitingFirstRing, awaitingSecondRing
    /// A client awaits CONNECTED.
    case awaitingConnected
    case up
}

/// A plain handle on the state.
struct MemifHandle {
    let state: UnsafeMutablePointer<MemifState>

    @inline(__always)
    init(_ context: UnsafeMutableRawPointer) {
        state = context.assumingMemoryBound(to: MemifState.self)
    }

    var device: EthernetDevice {
        let configuration = state.pointee.configuration
        let capabilities = DeviceCapabilities(
            macAddress: state.pointee.macAddress,
            maximumFrameByteCount: configuration.maximumTransmissionUnit + DeviceCapabilities.ethernetHeaderByteCount,
            maximumTransmitSegments: 16, driverMode: configuration.role == .server ? "memif server" : "memif client", receiveMode: "copy",
            transmitMode: "copy")
        return EthernetDevice(
            name: "memif", context: state, capabilities: capabilities,
            close: { MemifHandle($0).close() },
            attach: { context, heap in
                let state = MemifHandle(context).state
                guard state.pointee.heap == nil else { return EBUSY }
                state.pointee.heap = heap.assumingMemoryBound(to: DatapathHeap.self).pointee
                return 0
            },
            transmit: { context, frames, count in MemifHandle(context).transmit(frames.assumingMemoryBound(to: Frame.self), Int(count)) },
            receive: { context, frames, capacity in MemifHandle(context).receive(frames.assumingMemoryBound(to: Frame.self), Int(capacity)) },
            prepareToSleep: { MemifHandle($0).prepareToSleep() },
            statistics: { context, into in
                into.assumingMemoryBound(to: DeviceStatistics.self).pointee = MemifHandle(context).state.pointee.deviceStatistics
            })
    }

    /// Ends the link and the device.
    func close() {
        endLink("the device was closed")
        if let listener = state.pointee.listener { listener.close() }
        for file in [state.pointee.receivedListener, state.pointee.timer, state.pointee.events] where file >= 0 { Glibc.close(file) }
        state.pointee.regions.deallocate()
        state.deinitialize(count: 1)
        state.deallocate()
    }
}
