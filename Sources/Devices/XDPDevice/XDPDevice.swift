import CLinuxDevices
import DatapathMemory
import EthernetDevice
import Glibc
import NetworkInterface

/// An Ethernet device on an interface of the Linux kernel, whose frames pass the kernel by (AF_XDP), by system calls alone.
///
/// The heap's first arena is the memory that the kernel or the network card reads and writes: a received frame lies where it was received, and a frame
/// that is sent leaves from where it was pushed. What lies elsewhere (another heap, an arena that was added) is copied, and counted as such.
/// The kernel's own path may copy in between; `driverMode` says whether it does, and where the steering program runs.
///
/// The program takes only the frames of `XDPSteering`; the host's own traffic on the interface goes on, and all of it does once the process has ended,
/// however it ended.
///
/// Frames that are sent while others wait to be handled share one call into the kernel: `transmit` leaves those that answer frames received together in the
/// ring until the last of them, the next `receive` or `prepareToSleep`; a frame that was received alone is answered at once.
///
/// While the interface is down, frames that are sent are counted as `transmitLinkDown`. When it is removed, the device is gone for good
/// (`DeviceStatistics.isGone`).
public enum XDPDevice {
    /// What a privileged process makes and hands over, so that another one can have a device: `make(_:heap:)`.
    ///
    /// The device owns the descriptors once it is made, and closes them.
    public struct Descriptors: Sendable {
        /// Fresh AF_XDP sockets, one for each receive queue from `firstQueue` on.
        public var sockets: [Int32]
        /// Several runtimes share an interface by each having some of its queues.
        public var firstQueue: Int
        /// The map of a steering program, from receive queue to socket.
        public var map: Int32
        /// What keeps the steering program on the interface, until all duplicates are closed; nil where somebody else sees to that.
        public var link: Int32?
        /// The interface's number, its hardware address, and bytes of its largest packet.
        public var interfaceIndex: Int
        public var macAddress: UInt64
        public var maximumTransmissionUnit: Int
        /// Whether the program runs in the driver.
        public var isNative: Bool
        public var acceptsPartialChecksums: Bool
        /// Whether the kernel is to complete the checksums of large TCP segments; only where it copies frames.
        public var leavesChecksums = false

        public init(
            sockets: [Int32], firstQueue: Int = 0, map: Int32, link: Int32? = nil, interfaceIndex: Int, macAddress: UInt64, maximumTransmissionUnit: Int, isNative: Bool,
            acceptsPartialChecksums: Bool
        ) {
            self.sockets = sockets
            self.firstQueue = firstQueue
            self.map = map
            self.link = link
            self.interfaceIndex = interfaceIndex
            self.macAddress = macAddress
            self.maximumTransmissionUnit = maximumTransmissionUnit
            self.isNative = isNative
            self.acceptsPartialChecksums = acceptsPartialChecksums
        }

        /// Closes all of them, where no device is made of them.
        public func close() {
            for socket in sockets { Glibc.close(socket) }
            if map >= 0 { Glibc.close(map) }
            if let link { Glibc.close(link) }
        }
    }

    /// The most receive queues of an interface.
    public static let maximumQueues = 64

    /// Attaches the steering program to the interface and binds a socket to each of its receive queues.
    ///
    /// Needs root: CAP_NET_ADMIN, CAP_NET_RAW and CAP_BPF of the machine, and 5.9 or newer as a kernel (6.6 to send without a copy from several places).
    /// - Parameter heap: the one that `attach` is called with; its first arena, committed, is registered whole. It must outlive the device.
    /// - Throws: `EINVAL` for a name that cannot be and for more addresses or port ranges than `XDPSteering` allows, `ENODEV`, `EPERM`, `EBUSY` when the
    ///   interface has an XDP program or a queue has a socket, `EOPNOTSUPP`, `ENETDOWN`, `ENOBUFS` at the limit of locked memory. Nothing is left
    ///   behind then.
    public static func open(_ configuration: XDPConfiguration, heap: DatapathHeap) throws(DemikernelError) -> EthernetDevice {
        let descriptors = try divide(configuration, among: 1)[0]
        do throws(DemikernelError) {
            return try make(descriptors, heap: heap)
        } catch {
            descriptors.close()
            throw error
        }
    }

    /// Attaches the steering program to the interface and divides its receive queues among several devices, each of which is then made on its own thread
    /// with its own heap (`make(_:heap:)`). Whichever queue the interface gives a frame to decides whose it is; the program goes with the last device.
    /// - Returns: `count` of them, in the order of the queues.
    /// - Throws: as `open(_:heap:)`, and `ENOSPC` where the interface has fewer queues than devices.
    public static func divide(_ configuration: XDPConfiguration, among count: Int) throws(DemikernelError) -> [Descriptors] {
        guard NetworkInterface.isValidName(configuration.interface) else {
            throw DemikernelError(EINVAL, .initialize, "the name of an interface has 1 to 15 letters, without space, slash or colon")
        }
        let steering = configuration.steering
        guard max(steering.ipv4Addresses.count, steering.ipv6Addresses.count) <= XDPSteering.maximumAddresses,
            steering.ports.count <= XDPSteering.maximumPortRanges
        else { throw DemikernelError(EINVAL, .initialize, "an XDP program steers at most 64 addresses of each family and 64 ranges of ports") }
        let interface = NetworkInterface(configuration.interface)
        let index = try interface.index()
        let queueCount = try interface.receiveQueueCount()
        guard queueCount <= maximumQueues else {
            throw DemikernelError(E2BIG, .initialize, "the interface has more than 64 receive queues: `ethtool -L NAME combined 64`")
        }
        guard queueCount >= count else {
            throw DemikernelError(
                ENOSPC, .initialize,
                "the interface has fewer receive queues than there are shards: `ethtool -L NAME combined N` (`rx N` for a veth), or ask for fewer")
        }
        let macAddress = try interface.macAddress()
        let maximumTransmissionUnit = try interface.maximumTransmissionUnit()
        guard try interface.isUp().isUp else {
            throw DemikernelError(ENETDOWN, .initialize, "the interface is down: `ip link set dev NAME up`")
        }
        var parts: [Descriptors] = []
        do throws(DemikernelError) {
            for part in 0..<count {
                let queues = queueCount * part / count..<queueCount * (part + 1) / count
                parts.append(
                    Descriptors(
                        sockets: [], firstQueue: queues.lowerBound, map: -1, interfaceIndex: index, macAddress: macAddress,
                        maximumTransmissionUnit: maximumTransmissionUnit, isNative: false, acceptsPartialChecksums: false))
                for _ in queues { parts[part].sockets.append(try XDPSocket.make()) }
            }
            let attachment = try XDPAttachment(configuration, interface: index, queueCount: queueCount)
            defer { attachment.detach() }
            for part in parts.indices {
                parts[part].map = try duplicate(attachment.map)
                parts[part].link = try duplicate(attachment.link)
                parts[part].isNative = attachment.isNative
                // Neither has zero copy.
                let isCopied = !attachment.isNative || interface.driver() == "veth"
                parts[part].acceptsPartialChecksums = configuration.acceptsPartialChecksums ?? isCopied
                parts[part].leavesChecksums = isCopied && configuration.offloadsChecksums
            }
            return parts
        } catch {
            for part in parts { part.close() }
            throw error
        }
    }

    private static func duplicate(_ descriptor: Int32) throws(DemikernelError) -> Int32 {
        let duplicate = fcntl(descriptor, F_DUPFD_CLOEXEC, 0)
        guard duplicate >= 0 else { throw DemikernelError(errno, .initialize, "no descriptor is left for the XDP program: raise the limit with ulimit -n") }
        return duplicate
    }

    /// Whether this process may have a device at all: makes what one needs, without an interface, and takes it back.
    /// - Throws: as `open(_:heap:)`.
    public static func check() throws(DemikernelError) {
        close(try XDPSocket.make())
        try XDPAttachment.check()
    }

    /// A device on descriptors that somebody else has made, and handed over.
    /// - Throws: as `open(_:heap:)`; the descriptors stay the caller's then.
    public static func make(_ descriptors: Descriptors, heap: DatapathHeap) throws(DemikernelError) -> EthernetDevice {
        guard (1...maximumQueues).contains(descriptors.sockets.count) else {
            throw DemikernelError(EINVAL, .initialize, "an XDP device has 1 to 64 queues")
        }
        let maximumFrameByteCount = min(descriptors.maximumTransmissionUnit, 65_521) + DeviceCapabilities.ethernetHeaderByteCount
        return device(try XDPState.make(descriptors, heap: heap, maximumFrameByteCount: maximumFrameByteCount), descriptors)
    }

    private static func device(_ state: UnsafeMutablePointer<XDPState>, _ descriptors: Descriptors) -> EthernetDevice {
        let grant = state.pointee.grant
        let mode: StaticString =
            switch (descriptors.isNative, grant.isZeroCopy) {
            case (true, true): "native XDP, zero copy"
            case (true, false): "native XDP, the kernel copies"
            case (false, _): "generic XDP, the kernel copies"
            }
        // Where the kernel copies, each further segment costs it a page, and one that is freed on another processor: half of what bulk data could have.
        let prefersContiguousStreams = !grant.isZeroCopy && state.pointee.maximumFrameByteCount <= state.pointee.memory.chunkByteCount
        let transmitMode: StaticString =
            switch (grant.gathers, prefersContiguousStreams) {
            case (false, _): "copied together by the stack"
            case (true, true): "zero copy, streams copied together by the stack"
            case (true, false): "zero copy"
            }
        // Of a frame with a partial checksum nobody has to compute it.
        var offloads: DeviceOffloads = descriptors.acceptsPartialChecksums ? [.receiveChecksumIPv4, .receiveChecksumTCP, .receiveChecksumUDP] : []
        if grant.completesChecksums { offloads.insert(.transmitChecksumTCP) }
        let capabilities = DeviceCapabilities(
            macAddress: descriptors.macAddress, maximumFrameByteCount: state.pointee.maximumFrameByteCount,
            maximumTransmitSegments: state.pointee.maximumTransmitSegments, prefersContiguousStreams: prefersContiguousStreams,
            transmitHeadroomByteCount: XDPState.metadataByteCount, receiveQueueCount: descriptors.sockets.count, transmitQueueCount: 1,
            offloads: offloads, driverMode: mode, receiveMode: "zero copy", transmitMode: transmitMode)
        return EthernetDevice(
            name: "xdp", context: UnsafeMutableRawPointer(state), capabilities: capabilities,
            close: { XDPState.at($0).close() },
            attach: { XDPState.at($0).attach($1.assumingMemoryBound(to: DatapathHeap.self).pointee) },
            transmit: { Int32(truncatingIfNeeded: XDPState.at($0).transmit($1.assumingMemoryBound(to: Frame.self), Int($2))) },
            receive: { Int32(truncatingIfNeeded: XDPState.at($0).receive($1.assumingMemoryBound(to: Frame.self), Int($2))) },
            prepareToSleep: { XDPState.at($0).prepareToSleep() },
            statistics: { $1.assumingMemoryBound(to: DeviceStatistics.self).pointee = XDPState.at($0).statistics })
    }
}
