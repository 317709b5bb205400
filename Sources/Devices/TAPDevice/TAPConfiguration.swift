/// How a TAP device is opened.
public struct TAPConfiguration: Sendable {
    /// The name of the kernel's network interface, such as "demi0"; 1 to 15 bytes.
    public var name: String
    /// Bytes of the largest packet, which the interface is set to; nil takes the interface's own, 1500 for a new one.
    public var maximumTransmissionUnit: Int?
    /// The stack's hardware address, 48 bits; nil makes one from that of the kernel's side, always the same for the same interface.
    public var macAddress: UInt64?

    /// Queues that the interface is to have, each of them a device that is opened with this same number, from queue 0 on, by this process or another one.
    /// The frames of a flow of TCP or UDP all come to the same queue, all others to queue 0. More than one need CAP_BPF as well.
    public var queueCount: Int

    public init(name: String, maximumTransmissionUnit: Int? = nil, macAddress: UInt64? = nil, queueCount: Int = 1) {
        self.queueCount = queueCount
        self.name = name
        self.maximumTransmissionUnit = maximumTransmissionUnit
        self.macAddress = macAddress
    }
}
