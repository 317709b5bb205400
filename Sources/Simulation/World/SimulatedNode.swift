/// An Ethernet frame on its way, without its frame check sequence.
public struct SimulatedFrame {
    public var bytes: [UInt8]
    /// Sent by something that is no network stack: it may say anything.
    public var isForged: Bool
    /// A link has flipped bits. A second damage could hide the first from the checksums.
    var isDamaged = false

    public init(_ bytes: [UInt8], isForged: Bool = false) {
        self.bytes = bytes
        self.isForged = isForged
    }

    /// The frame as a device sends it: filled up to Ethernet's 60 bytes, with bytes that no packet has at its end by chance.
    var padded: SimulatedFrame {
        guard bytes.count < 60 else { return self }
        var frame = self
        frame.bytes += [UInt8](repeating: 0xa5, count: 60 - bytes.count)
        return frame
    }
}

/// What a link ends at: a host, a switch, a router.
public protocol SimulatedNode: AnyObject {
    var name: String { get }
    /// Takes the end of a link.
    /// - Returns: the number of the port, with which the link's frames come.
    func attach(_ end: LinkEnd) -> Int
    /// A frame has arrived.
    func receive(_ frame: SimulatedFrame, port: Int)
}

/// One end of a link: where a node sends frames.
public struct LinkEnd {
    public let link: SimulatedLink
    let side: Int

    /// The node at the other end; nil when the world has ended.
    var peer: (any SimulatedNode)? { link.receiver(from: side) }

    /// Sends a frame to the other end.
    public func send(_ frame: SimulatedFrame) { link.send(frame, from: side) }
}
