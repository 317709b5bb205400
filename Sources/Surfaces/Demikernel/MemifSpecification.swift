import EthernetDevice
import MemifDevice
import WireFormats

/// A memif device as users type it: `memif:/run/x.sock,role=server`.
extension DeviceSpecification {
    public struct Memif: Equatable, Sendable {
        /// The socket that a server makes and a client finds.
        public var path: String
        public var configuration: MemifConfiguration

        public init(path: String, role: MemifConfiguration.Role) {
            self.path = path
            configuration = MemifConfiguration(role: role)
        }
    }
}

extension DeviceSpecification.Memif {
    init(path: String, options: [String], mistakes: inout [String]) {
        self.init(path: path, role: .client)
        if !(1...SocketAddress.maximumPathByteCount).contains(path.utf8.count) {
            mistakes.append("a memif device needs the path of a socket, of at most 107 bytes, such as memif:/run/x.sock,role=server")
        }
        for option in options {
            let (key, value) = DeviceSpecification.option(option)
            switch key {
            case "role":
                guard let role = MemifConfiguration.Role(rawValue: value) else {
                    mistakes.append("\"\(option)\" must be role=server or role=client: the two ends need different ones")
                    continue
                }
                configuration.role = role
            case "id":
                guard let identifier = UInt32(value) else {
                    mistakes.append("\"\(option)\" must be a number, such as id=0, the same at both ends")
                    continue
                }
                configuration.identifier = identifier
            case "secret":
                guard (1...24).contains(value.utf8.count) else {
                    mistakes.append("\"\(option)\" must be 1 to 24 bytes, the same at both ends")
                    continue
                }
                configuration.secret = Array(value.utf8)
            default: mistakes.append("a memif device has no option \"\(option)\": it has role=, id= and secret=")
            }
        }
    }

    /// The options that its text has; a secret is not told.
    var options: [String] {
        var options = ["role=\(configuration.role.rawValue)"]
        if configuration.identifier != 0 { options.append("id=\(configuration.identifier)") }
        return options
    }

    func open(_ mtu: Int?, _ macAddress: MACAddress?) throws(DemikernelError) -> EthernetDevice {
        var configuration = configuration
        if let mtu { configuration.maximumTransmissionUnit = mtu }
        configuration.macAddress = macAddress?.value
        return try MemifDevice.make(path: path, configuration)
    }
}
