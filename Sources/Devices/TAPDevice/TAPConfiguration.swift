/// How a TAP device is opened.
public struct TAPConfiguration: Sendable {
    /// The name of the kernel's network interface, such as "demi0"; 1 to 15 bytes.
    public var name: String
    /// Bytes of the largest packet, which the interface is set to; nil takes the interface's own, 1500 for a new one.
    public var maximumTransmissionUnit: Int?
    /// The stack's hardware address, 48 bits; nil makes one from that of the kernel's side, always the same for the same interface.
    public var macAddress: UInt64?

    public init(name: String, maximumTransmissionUnit: Int? = nil, macAddress: UInt64? = nil) {
        self.name = name
        self.maximumTransmissionUnit = maximumTransmissionUnit
        self.macAddress = macAddress
    }
}
