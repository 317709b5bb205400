import DatapathMemory
import EthernetDevice
import Glibc
import NetworkStack
import QueueRuntime
import WireFormats

/// The library OS over an Ethernet device with a network stack in user space (Catnip): TCP and UDP over IPv4 and IPv6.
///
/// What is popped lies in the frames that the device received, and what is pushed leaves from the memory that it was pushed in: above 1 KiB nothing
/// is copied between the program and the device. A call that has something to send hands it to the device before it returns.
public enum UserNetwork {
    /// Makes the library OS for a runtime, which owns it once it is registered. The device is taken over, and closed also when this throws.
    /// - Parameters:
    ///   - configuration: `NetworkConfiguration(for:addresses:seed:)` gives one that suits the device.
    ///   - deviceName: what users call the device, for metrics and captures; nil for the name of its kind.
    /// - Throws: `EINVAL` for a configuration that contradicts itself or asks for what the device cannot do, `EBUSY` for a device that has a heap
    ///   already, what the device refused the heap with, `ENOMEM` when the stack's tables cannot be mapped.
    public static func make(
        for core: RuntimeCore, device: EthernetDevice, configuration: NetworkConfiguration, deviceName: String? = nil
    ) throws(DemikernelError) -> LibraryOS {
        precondition(WaitingPops.unlimitedByteCount >= NetworkStack.maximumDeliveryByteCount, "a pop without a limit must take every delivery")
        let stack: NetworkStack
        do throws(DemikernelError) {
            try check(configuration, against: device.capabilities)
            try device.attach(core.heap)
            stack = try NetworkStack(configuration, heap: core.heap, now: core.now)
        } catch {
            device.close()
            throw error
        }
        let state = UnsafeMutablePointer<UserNetworkState>.allocate(capacity: 1)
        state.initialize(to: UserNetworkState(core: core, stack: stack, device: device, deviceName: deviceName ?? "\(device.name)"))
        return libraryOS(state)
    }

    /// As `make(for:device:configuration:)`, with a configuration that suits the device and a seed from the runtime's.
    /// - Parameters:
    ///   - addresses: the interface's addresses with their on-link prefixes; the first one is the default source.
    ///   - adjust: changes the configuration before it is used.
    /// - Throws: as `make(for:device:configuration:)`.
    public static func make(
        for core: RuntimeCore, device: EthernetDevice, addresses: [IPv4Prefix], adjust: (inout NetworkConfiguration) -> Void = { _ in }
    ) throws(DemikernelError) -> LibraryOS {
        var configuration = NetworkConfiguration(for: device, addresses: addresses, seed: core.nextRandom())
        adjust(&configuration)
        return try make(for: core, device: device, configuration: configuration)
    }

    /// What `Runtime(_:making:)` takes: makes the library OS as `make(for:device:addresses:adjust:)` does.
    public static func maker(
        device: EthernetDevice, addresses: [IPv4Prefix], adjust: @escaping (inout NetworkConfiguration) -> Void = { _ in }
    ) -> (RuntimeCore) throws(DemikernelError) -> LibraryOS {
        { (core) throws(DemikernelError) in try make(for: core, device: device, addresses: addresses, adjust: adjust) }
    }

    /// The counts of a library OS that `make` made and whose runtime lives.
    public static func statistics(of libraryOS: LibraryOS) -> UserNetworkStatistics {
        let state = UserNetworkHandle(libraryOS.context).state
        return UserNetworkStatistics(
            network: state.pointee.stack.statistics, device: state.pointee.device.statistics,
            droppedSendBufferFull: state.pointee.droppedSendBufferFull)
    }

    /// Whether everything that was pushed to sockets closed since has been sent and acknowledged, and their peers have ended, too: the runtime can end without
    /// a loss. O(connections that there ever were at once).
    /// - Parameter libraryOS: made by `make`, and its runtime lives; called on the runtime's thread.
    public static func isSettled(_ libraryOS: LibraryOS) -> Bool { UserNetworkHandle(libraryOS.context).stack.isSettled }

    /// How the connection of a stream socket is doing. O(1).
    /// - Parameter libraryOS: made by `make`, and its runtime lives; called on the runtime's thread.
    /// - Throws: `EBADF` for a queue that is not open in this library OS, `EOPNOTSUPP` for a datagram socket.
    public static func connectionInformation(of queue: QueueDescriptor, in libraryOS: LibraryOS) throws(DemikernelError) -> ConnectionInformation {
        let handle = UserNetworkHandle(libraryOS.context)
        guard queue.slot < handle.state.pointee.carvedSockets, case let socket = handle.socket(queue.slot), socket.pointee.phase != .free,
            socket.pointee.queue == queue
        else { throw DemikernelError(EBADF, .option, "no open queue of this library OS has this descriptor") }
        guard socket.pointee.type == .stream else { throw DemikernelError(EOPNOTSUPP, .option, "a datagram socket has no connection") }
        return handle.stack.connectionInformation(socket.pointee.index)
    }

    /// When the network of a library OS that `make` made, and whose runtime lives, has something to do by itself, in nanoseconds of the runtime's clock;
    /// nil for never. For who moves the clock: a poll at that time is the next one that brings something, unless a frame arrives before.
    public static func nextDeadline(of libraryOS: LibraryOS) -> UInt64? {
        UserNetworkHandle(libraryOS.context).stack.nextDeadline
    }

    private static func check(_ configuration: NetworkConfiguration, against capabilities: DeviceCapabilities) throws(DemikernelError) {
        guard configuration.offloads.isSubset(of: capabilities.offloads) else {
            throw DemikernelError(EINVAL, .initialize, "the configuration counts on offloads that the device does not have")
        }
        guard (1...capabilities.maximumTransmitSegments).contains(configuration.maximumTransmitSegments) else {
            throw DemikernelError(EINVAL, .initialize, "maximumTransmitSegments must be between 1 and what the device gathers")
        }
        guard configuration.maximumTransmissionUnit + DeviceCapabilities.ethernetHeaderByteCount <= capabilities.maximumFrameByteCount else {
            throw DemikernelError(EINVAL, .initialize, "the MTU is larger than the device's frames: lower it to maximumFrameByteCount - 14")
        }
    }

    private static func libraryOS(_ state: UnsafeMutablePointer<UserNetworkState>) -> LibraryOS {
        LibraryOS(
            name: "catnip", context: state,
            socket: { context, family, type, queue in
                UserNetworkHandle(context).open(
                    AddressFamily(rawValue: family).unsafelyUnwrapped, SocketType(rawValue: type).unsafelyUnwrapped,
                    QueueDescriptor(rawValue: queue))
            },
            bind: { context, state, address in
                UserNetworkHandle(context).bind(Int(state), address.assumingMemoryBound(to: SocketAddress.self).pointee)
            },
            listen: { context, state, backlog in UserNetworkHandle(context).listen(Int(state), backlog) },
            accept: { context, state, operation in UserNetworkHandle(context).accept(Int(state), operation) },
            connect: { context, state, operation in UserNetworkHandle(context).connect(Int(state), operation) },
            push: { context, state, operation in UserNetworkHandle(context).push(Int(state), operation) },
            pushDiscarded: { context, state, array, address in
                UserNetworkHandle(context).pushDiscarded(
                    Int(state), array.assumingMemoryBound(to: SegmentDescriptor.self),
                    address?.assumingMemoryBound(to: SocketAddress.self).pointee)
            },
            pushNow: { context, state, array, address in
                UserNetworkHandle(context).pushNow(
                    Int(state), array.assumingMemoryBound(to: SegmentDescriptor.self), address?.assumingMemoryBound(to: SocketAddress.self))
            },
            pop: { context, state, operation in UserNetworkHandle(context).pop(Int(state), operation) },
            shutdown: { context, state, direction in
                UserNetworkHandle(context).shutdown(Int(state), ShutdownDirection(rawValue: direction).unsafelyUnwrapped)
            },
            close: { context, state, operation in UserNetworkHandle(context).close(Int(state), operation) },
            cancel: { context, state, operation in UserNetworkHandle(context).cancel(Int(state), operation) },
            address: { context, state, isPeer, address in
                UserNetworkHandle(context).address(Int(state), isPeer: isPeer, address.assumingMemoryBound(to: SocketAddress.self))
            },
            setOption: { context, state, name, first, second in
                UserNetworkHandle(context).setOption(Int(state), SocketOption.Name(rawValue: name).unsafelyUnwrapped, first, second)
            },
            option: { context, state, name, values in
                UserNetworkHandle(context).option(
                    Int(state), SocketOption.Name(rawValue: name).unsafelyUnwrapped, values.assumingMemoryBound(to: Int64.self))
            },
            poll: { context in UserNetworkHandle(context).poll() },
            prepareToSleep: { context in UserNetworkHandle(context).prepareToSleep() },
            destroy: { context in UserNetworkHandle(context).destroy() },
            metrics: { context, source in
                source.assumingMemoryBound(to: (any MetricSource)?.self).pointee = UserNetworkHandle(context).metrics
            },
            beginCapture: { context, request in
                UserNetworkHandle(context).beginCapture(request.assumingMemoryBound(to: FrameCaptureRequest.self).pointee)
            },
            endCapture: { context, end in
                UserNetworkHandle(context).endCapture(into: end.assumingMemoryBound(to: FrameCaptureEnd.self))
            })
    }
}

/// Counts of one library OS since it was made.
public struct UserNetworkStatistics: Sendable {
    public var network: NetworkStatistics
    public var device: DeviceStatistics
    /// Datagrams of discarded pushes for which the output or the heap had no room.
    public var droppedSendBufferFull: UInt64
}

extension NetworkConfiguration {
    /// The configuration that makes the most of a device: its hardware address, its MTU, its offloads and the segments that it gathers.
    public init(for device: EthernetDevice, addresses: [IPv4Prefix], seed: UInt64) {
        let capabilities = device.capabilities
        self.init(macAddress: MACAddress(value: capabilities.macAddress), addresses: addresses, seed: seed)
        maximumTransmissionUnit = min(capabilities.maximumFrameByteCount - DeviceCapabilities.ethernetHeaderByteCount, 65_535)
        offloads = capabilities.offloads
        maximumTransmitSegments = capabilities.maximumTransmitSegments
        copiesStreamsTogether = capabilities.prefersContiguousStreams
        transmitHeadroomByteCount = capabilities.transmitHeadroomByteCount
    }
}
