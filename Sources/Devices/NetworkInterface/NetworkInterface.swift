import CLinuxDevices
import DatapathMemory
import Glibc

/// A network interface of the kernel, by its name in the network namespace of the calling thread.
///
/// Each call asks the kernel anew. What is refused is thrown with the kernel's errno: `ENODEV` when no interface has the name, `EPERM` for a change
/// without CAP_NET_ADMIN.
public struct NetworkInterface: Sendable {
    public let name: String

    /// The longest name of an interface, in bytes.
    public static let maximumNameByteCount = Int(IFNAMSIZ) - 1

    public init(_ name: String) {
        self.name = name
    }

    /// Whether `name` can be that of an interface: 1 to 15 bytes, no white space, slash or colon, and neither "." nor "..".
    public static func isValidName(_ name: String) -> Bool {
        (1...maximumNameByteCount).contains(name.utf8.count) && name != "." && name != ".."
            && name.utf8.allSatisfy { $0 > UInt8(ascii: " ") && $0 != 0x7f && $0 != UInt8(ascii: "/") && $0 != UInt8(ascii: ":") }
    }

    /// The interface's number, which it keeps for its life.
    public func index() throws(DemikernelError) -> Int { try request(linux_interface_index) }

    /// Bytes of the largest packet.
    public func maximumTransmissionUnit() throws(DemikernelError) -> Int { try request(linux_interface_mtu) }

    /// - Throws: `EINVAL` for what the driver does not do.
    public func setMaximumTransmissionUnit(_ byteCount: Int) throws(DemikernelError) {
        try request { linux_interface_set_mtu($0, $1, Int32(clamping: byteCount)) }
    }

    /// Whether it is up (administratively), and whether it has a carrier besides.
    public func isUp() throws(DemikernelError) -> (isUp: Bool, isRunning: Bool) {
        let flags = try request(linux_interface_flags)
        return (flags & IFF_UP != 0, flags & IFF_RUNNING != 0)
    }

    public func setUp() throws(DemikernelError) { try request(linux_interface_set_up) }

    /// 48 bits, the octet that is sent first in bits 47…40.
    /// - Throws: `EAFNOSUPPORT` for an interface that is not Ethernet.
    public func macAddress() throws(DemikernelError) -> UInt64 {
        var bytes = InlineArray<6, UInt8>(repeating: 0)
        var span = bytes.mutableSpan
        try span.withUnsafeMutableBufferPointer { buffer throws(DemikernelError) in
            let address = buffer.baseAddress
            try request { linux_interface_hardware_address($0, $1, address) }
        }
        return NetworkInterface.macAddress(bytes)
    }

    /// The name of its driver, such as "veth"; empty where the driver does not tell.
    public func driver() -> String {
        var text = InlineArray<32, CChar>(repeating: 0)
        var span = text.mutableSpan
        return span.withUnsafeMutableBufferPointer { buffer in
            guard let base = buffer.baseAddress, (try? request { linux_interface_driver($0, $1, base) }) != nil else { return "" }
            return String(cString: base)
        }
    }

    /// Receive queues in use; 1 for a driver that cannot tell.
    public func receiveQueueCount() throws(DemikernelError) -> Int { try request(linux_interface_receive_queues) }

    /// Gives the kernel's side of the interface its IPv4 address; `address` as it lies in memory, in network order.
    public func setIPv4Address(_ address: UInt32, prefixLength: Int) throws(DemikernelError) {
        try request { linux_interface_set_ipv4($0, $1, address, Int32(prefixLength)) }
    }

    /// Gives the kernel's side of the interface one more IPv6 address; the 16 bytes as they lie in memory. An address that it has is no error.
    public func addIPv6Address(_ address: (UInt64, UInt64), prefixLength: Int) throws(DemikernelError) {
        let index = Int32(try index())
        do throws(DemikernelError) {
            try request(family: AF_INET6) { socket, _ in
                withUnsafeBytes(of: address) {
                    linux_interface_add_ipv6(socket, index, $0.assumingMemoryBound(to: UInt8.self).baseAddress, Int32(prefixLength))
                }
            }
        } catch where error.errno == EEXIST {}
    }

    /// Switches the computation of transmit checksums by the device, and so the partial checksums of a veth: what `ethtool -K NAME tx` does.
    public func setTransmitChecksums(_ on: Bool) throws(DemikernelError) {
        try request { linux_interface_set_transmit_checksums($0, $1, on ? 1 : 0) }
    }

    @discardableResult
    private func request(
        family: Int32 = AF_INET, _ call: (_ socket: Int32, _ name: UnsafePointer<CChar>) -> Int32
    ) throws(DemikernelError) -> Int {
        let socket = Glibc.socket(family, Int32(SOCK_DGRAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard socket >= 0 else { throw DemikernelError(errno, .initialize, "no socket to ask the kernel about the interface") }
        defer { close(socket) }
        let result = name.withCString { call(socket, $0) }
        guard result >= 0 else { throw DemikernelError(-result, .initialize, NetworkInterface.message(-result)) }
        return Int(result)
    }

    private static func message(_ code: Int32) -> StaticString {
        switch code {
        case ENODEV: "there is no such network interface here: `ip link` lists those of this network namespace"
        case EPERM: "a network interface can be changed by root only (CAP_NET_ADMIN): run it with sudo, or inside `demikernel testbed shell`"
        case EAFNOSUPPORT: "the network interface is not an Ethernet"
        default: "the kernel refused what was asked of the network interface"
        }
    }

    private static func macAddress(_ bytes: InlineArray<6, UInt8>) -> UInt64 {
        var value: UInt64 = 0
        for index in bytes.indices { value = value << 8 | UInt64(bytes[index]) }
        return value
    }
}
