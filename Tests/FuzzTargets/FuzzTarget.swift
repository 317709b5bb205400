/// What is fuzzed: functions from bytes to nothing, which throw when a promise is broken, or trap.
///
/// The fuzzers of FuzzTesting run them on bytes that a coverage-guided search makes up; the corpus tests run them on what was kept.
public enum FuzzTarget: String, CaseIterable, Sendable {
    case ethernet, arp, ipv4, icmpv4, igmp, ipv6, icmpv6, udp
    case tcpHeader = "tcp-header"
    /// The requests of the key-value store.
    case resp
    /// The whole network stack: the bytes are a sequence of frames, calls and steps of time.
    case stack

    /// Runs the target on one input.
    public func run(_ input: UnsafeRawBufferPointer) throws(FuzzFailure) {
        switch self {
        case .ethernet: try fuzzEthernet(input)
        case .arp: try fuzzARP(input)
        case .ipv4: try fuzzIPv4(input)
        case .icmpv4: try fuzzICMPv4(input)
        case .igmp: try fuzzIGMP(input)
        case .ipv6: try fuzzIPv6(input)
        case .icmpv6: try fuzzICMPv6(input)
        case .udp: try fuzzUDP(input)
        case .tcpHeader: try fuzzTCPHeader(input)
        case .resp: try fuzzRequests(input)
        case .stack: try fuzzStack(input)
        }
    }

    /// Runs the target for libFuzzer: a broken promise ends the process.
    public func fuzz(_ data: UnsafePointer<UInt8>?, _ size: Int) -> Int32 {
        do {
            try run(UnsafeRawBufferPointer(start: data, count: data == nil ? 0 : size))
        } catch {
            fatalError(error.description)
        }
        return 0
    }
}

/// A promise that the code under test has broken.
public struct FuzzFailure: Error, CustomStringConvertible {
    public let description: String
}

/// Throws unless `condition` holds.
@inline(__always)
func require(_ condition: @autoclosure () -> Bool, _ promise: @autoclosure () -> String) throws(FuzzFailure) {
    if !condition() { throw FuzzFailure(description: promise()) }
}
