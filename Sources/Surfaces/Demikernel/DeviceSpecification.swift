import EthernetDevice
import NetworkInterface
import TAPDevice
import WireFormats

/// An Ethernet device by the text that users type: a kind, a colon, a name, and options behind commas.
///
/// | text | device |
/// |---|---|
/// | `tap:demi0` | the TAP interface demi0, made if there is none |
/// | `tap:demi0,host=10.0.0.1/24` | the same, and the kernel's side of it gets an address (also IPv6; may be repeated) |
public enum DeviceSpecification: Equatable, Sendable {
    case tap(TAP)

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
    public static let forms = ["tap:INTERFACE[,host=ADDRESS/LENGTH]"]

    /// - Throws: all that is wrong with the text.
    public init(parsing text: String) throws(ConfigurationMistakes) {
        var options = text.split(separator: ",", omittingEmptySubsequences: false).map(String.init)
        let head = options.removeFirst()
        let parts = head.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
        var mistakes: [String] = []
        let name = parts.count == 2 ? parts[1] : ""
        if !NetworkInterface.isValidName(name) {
            mistakes.append("\"\(head)\" is no device: write a kind, a colon and the name of an interface, such as \(DeviceSpecification.example)")
        }
        switch parts[0] {
        case "tap": self = .tap(TAP(interface: name, options: options, mistakes: &mistakes))
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
        }
    }
}
