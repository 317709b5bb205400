import DPDKDevice
import EthernetDevice
import NetworkInterface
import TAPDevice
import WireFormats
import XDPDevice

/// An Ethernet device by the text that users type: a kind, a colon, a name, and options behind commas.
///
/// | text | device |
/// |---|---|
/// | `tap:demi0` | the TAP interface demi0, made if there is none |
/// | `tap:demi0,host=10.0.0.1/24` | the same, and the kernel's side of it gets an address (also IPv6; may be repeated) |
/// | `xdp:eth0` | the kernel's interface eth0, of which the frames for the stack's addresses are taken (AF_XDP, root) |
/// | `memif:/run/x.sock,role=server` | memory shared with the process at the other end of the socket, which is a `role=client`; `id=`, `secret=` |
/// | `xdp:eth0,ports=80+8000-8999` | the same, only for these destination ports of TCP and UDP |
/// | `xdp:eth0,ports=80,shared` | the same, where the kernel has the addresses too: neighbours have to be given |
/// | `xdp:eth0,group=239.1.2.3` | besides, what is sent to a multicast group, which is the kernel's elsewhere; may be repeated |
/// | `xdp:eth0,mode=native` | only in the driver (or `generic`, not in it); left out: in the driver where that can |
/// | `dpdk:net_af_packet0,iface=eth0` | a virtual device of DPDK: its driver's name and a number, and the driver's options as DPDK has them |
/// | `xdp:eth0,checksums=verify` | refuses the partial checksums of a kernel behind a veth (or `partial`, accepts them); left out: by the driver |
public enum DeviceSpecification: Equatable, Sendable {
    case tap(TAP)
    case xdp(XDPConfiguration)
    case memif(Memif)
    case dpdk(DPDKConfiguration)

    public struct TAP: Equatable, Sendable {
        /// The name of the kernel's interface.
        public var interface: String
        /// Addresses for the kernel's side of it.
        public var hostAddresses: [IPv4Prefix] = []
        public var hostIPv6Addresses: [IPv6Prefix] = []

        public init(interface: String) {
            self.interface = interface
        }
    }

    /// The kinds, for help.
    public static let forms = [
        "tap:INTERFACE[,host=ADDRESS/LENGTH]", "xdp:INTERFACE[,ports=N-N][,group=ADDRESS][,shared][,mode=native]",
        "memif:PATH[,role=server][,id=N][,secret=TEXT]", "dpdk:DRIVERn[,OPTIONS]",
    ]

    /// - Throws: all that is wrong with the text.
    public init(parsing text: String) throws(ConfigurationMistakes) {
        var options = text.split(separator: ",", omittingEmptySubsequences: false).map(String.init)
        let head = options.removeFirst()
        let parts = head.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
        var mistakes: [String] = []
        let name = parts.count == 2 ? parts[1] : ""
        if parts[0] == "dpdk" ? name.first?.isLetter != true : parts[0] != "memif" && !NetworkInterface.isValidName(name) {
            mistakes.append("\"\(head)\" is no device: write a kind, a colon and the name of an interface, such as \(DeviceSpecification.example)")
        }
        switch parts[0] {
        case "tap": self = .tap(TAP(interface: name, options: options, mistakes: &mistakes))
        case "memif": self = .memif(Memif(path: name, options: options, mistakes: &mistakes))
        case "xdp": self = .xdp(XDPConfiguration(interface: name, options: options, mistakes: &mistakes))
        case "dpdk": self = .dpdk(DPDKConfiguration(device: name, options: options.joined(separator: ",")))
        default:
            throw ConfigurationMistakes(["\"\(head)\" is no device of this version, which has: \(DeviceSpecification.forms.joined(separator: ", "))"])
        }
        if !mistakes.isEmpty { throw ConfigurationMistakes(mistakes) }
    }

    private static let example = "tap:demi0"

    /// A key and a value of `key=value`.
    static func option(_ text: String) -> (key: String, value: String) {
        let parts = text.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
        return (parts[0], parts.count == 2 ? parts[1] : "")
    }
}

extension DeviceSpecification.TAP {
    init(interface: String, options: [String], mistakes: inout [String]) {
        self.init(interface: interface)
        for option in options {
            let (key, value) = DeviceSpecification.option(option)
            if key != "host" {
                mistakes.append("a tap device has no option \"\(option)\": it has host=ADDRESS/LENGTH")
            } else if let prefix = IPv4Prefix(parsing: value) {
                hostAddresses.append(prefix)
            } else if let prefix = IPv6Prefix(parsing: value) {
                hostIPv6Addresses.append(prefix)
            } else {
                mistakes.append("\"\(option)\" must be an address with the length of its prefix, such as host=10.0.0.1/24")
            }
        }
    }

    /// Opens a queue of the device; the first one gives the kernel's side its addresses.
    func open(_ mtu: Int?, _ macAddress: MACAddress?, queue: Int, of queueCount: Int) throws(DemikernelError) -> EthernetDevice {
        let device = try TAPDevice.open(
            TAPConfiguration(name: interface, maximumTransmissionUnit: mtu, macAddress: macAddress?.value, queueCount: queueCount))
        guard queue == 0 else { return device }
        let kernelSide = NetworkInterface(interface)
        do throws(DemikernelError) {
            for prefix in hostAddresses { try kernelSide.setIPv4Address(prefix.address.ipv4Raw, prefixLength: Int(prefix.length)) }
            for prefix in hostIPv6Addresses { try kernelSide.addIPv6Address(prefix.address.words, prefixLength: Int(prefix.length)) }
        } catch {
            device.close()
            throw error
        }
        return device
    }
}

extension DeviceSpecification: CustomStringConvertible {
    /// The text that it would be parsed from.
    public var description: String {
        switch self {
        case .tap(let tap):
            (["tap:\(tap.interface)"] + tap.hostAddresses.map { "host=\($0)" } + tap.hostIPv6Addresses.map { "host=\($0)" }).joined(separator: ",")
        case .memif(let memif): (["memif:\(memif.path)"] + memif.options).joined(separator: ",")
        case .xdp(let xdp): (["xdp:\(xdp.interface)"] + xdp.options).joined(separator: ",")
        case .dpdk(let dpdk): dpdk.options.isEmpty ? "dpdk:\(dpdk.device)" : "dpdk:\(dpdk.device),\(dpdk.options)"
        }
    }
}

extension DeviceSpecification {
    /// What a device's driver said of its last failure, which is forgotten then; nil where it said nothing, or all that it says is in the error.
    public static func takeDriverMessage() -> String? { DPDKDevice.takeMessage() }
}
