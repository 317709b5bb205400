import Glibc
import WireFormats

/// What an ICMP error message says of a packet that was sent (RFC 792, RFC 1122 section 3.2.2.1, RFC 1812 section 5.2.7.1).
enum ControlError: Equatable {
    case netUnreachable, hostUnreachable, protocolUnreachable, portUnreachable
    /// The largest packet that the next hop takes, in bytes; 0 from a router that does not tell.
    case fragmentationNeeded(mtu: UInt16)
    case sourceRouteFailed, adminProhibited, timeExceeded
    /// Where in the packet the fault lies.
    case parameterProblem(pointer: UInt8)

    /// Nil for a message that is no error, and for one whose code is not known.
    init?(_ message: ICMPv4View) {
        switch message.type {
        case ICMPv4Type.destinationUnreachable:
            switch message.code {
            // 6 and 11: the network is unknown, or unreachable for the type of service.
            case ICMPv4Code.networkUnreachable, 6, 11: self = .netUnreachable
            // 7, 8 and 12: the host is unknown, isolated, or unreachable for the type of service.
            case ICMPv4Code.hostUnreachable, 7, 8, 12: self = .hostUnreachable
            case ICMPv4Code.protocolUnreachable: self = .protocolUnreachable
            case ICMPv4Code.portUnreachable: self = .portUnreachable
            case ICMPv4Code.fragmentationNeeded: self = .fragmentationNeeded(mtu: message.nextHopMTU)
            case ICMPv4Code.sourceRouteFailed: self = .sourceRouteFailed
            // 14 and 15: the precedence is refused.
            case ICMPv4Code.networkProhibited, ICMPv4Code.hostProhibited, ICMPv4Code.communicationProhibited, 14, 15: self = .adminProhibited
            default: return nil
            }
        case ICMPv4Type.timeExceeded: self = .timeExceeded
        case ICMPv4Type.parameterProblem: self = .parameterProblem(pointer: message.parameterPointer)
        default: return nil
        }
    }

    /// What a socket reports.
    var errorNumber: Int32 {
        switch self {
        case .netUnreachable: ENETUNREACH
        case .hostUnreachable, .adminProhibited, .timeExceeded: EHOSTUNREACH
        case .protocolUnreachable: ENOPROTOOPT
        case .portUnreachable: ECONNREFUSED
        case .fragmentationNeeded: EMSGSIZE
        case .sourceRouteFailed: EOPNOTSUPP
        case .parameterProblem: EPROTO
        }
    }
}
