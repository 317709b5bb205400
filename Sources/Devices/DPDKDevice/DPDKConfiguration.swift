/// How a virtual device of DPDK is opened.
public struct DPDKConfiguration: Equatable, Sendable {
    /// The driver's name and a number of its own, such as "net_af_packet0"; each device of the process has another name.
    public var device: String
    /// What the driver is told, such as "iface=eth0,qdisc_bypass=1": DPDK's own words.
    public var options: String
    /// Bytes of the largest packet; nil takes the device's own, or that of the kernel's interface which it is on.
    public var maximumTransmissionUnit: Int?
    /// The stack's hardware address, 48 bits; nil takes the driver's, and where it has none makes one, the same for the same device and options.
    public var macAddress: UInt64?

    /// Bytes of memory that DPDK maps for the whole process at its start, beside the heaps: for its descriptors, and for frames of drivers that take no other.
    public static let environmentByteCount = 128 << 20

    public init(device: String, options: String = "", maximumTransmissionUnit: Int? = nil, macAddress: UInt64? = nil) {
        self.device = device
        self.options = options
        self.maximumTransmissionUnit = maximumTransmissionUnit
        self.macAddress = macAddress
    }
}
