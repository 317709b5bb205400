import DatapathMemory
import EthernetDevice
import NetworkStack
import QueueRuntime
import WireFormats

/// Everything that happens in one scenario, drawn from its seed before anything does. Times are nanoseconds from the scenario's start.
struct ScenarioPlan {
    var hosts: [SimulatedHost.Settings] = []
    /// What is between the hosts: a single link, or a link of each to a node.
    enum Middle: String { case link, `switch`, router }

    var middle = Middle.link
    /// One for each link: of a host to its switch or router, or of the two hosts.
    var links: [(forward: LinkConditions, backward: LinkConditions)] = []
    var listeners: [ListenerPlan] = []
    var connections: [ConnectionPlan] = []
    var datagrams: [DatagramPlan] = []
    /// Datagrams to groups, over a switch that snoops.
    var groups: [GroupPlan] = []
    var snooping: GroupSnooping?
    var faults: [Fault] = []
    /// Attacks on the hosts by a station of its own; nil for none.
    var attack: AttackPlan?
    /// What happens to the network and to the hosts may end connections that did nothing wrong.
    var mayLoseConnections = false
    var summary: String = ""

    struct ListenerPlan {
        let host: Int
        let port: UInt16
        /// Of the socket: one of IPv6 takes connections of both.
        var family = AddressFamily.ipv4
        var backlog = 64
        var startsAt: UInt64 = 0
        /// Between two accepts.
        var pause: UInt64 = 0
    }

    struct ConnectionPlan {
        enum Kind { case ordinary, simultaneousOpen, closedPort, reusesTimeWait, canceledConnect }

        var kind = Kind.ordinary
        var family = AddressFamily.ipv4
        let client: Int
        let server: Int
        let port: UInt16
        /// Of the client; 0 to let its stack choose.
        var clientPort: UInt16 = 0
        var startsAt: UInt64 = 0
        /// How often the same two endpoints connect, one after the other.
        var incarnations = 1
        var clientEnd = EndPlan()
        var serverEnd = EndPlan()
    }

    /// What a program does at its end of a connection.
    struct EndPlan {
        enum Ending {
            /// Sends all, ends its direction, reads to the end, closes.
            case orderly
            /// Sends all, reads as many bytes as the peer sends, closes: the first to close.
            case exact
            /// As `exact`, but both close at the same time, so that their ends cross.
            case together
            /// Sends some and resets the connection.
            case reset(after: Int)
            /// Reads some and closes, whatever still comes.
            case deserts(after: Int)
        }

        var ending = Ending.orderly
        var byteCount = 0
        var smallestPush = 1
        var largestPush = 1
        var segments = 1
        /// Pushes that wait at once.
        var depth = 1
        /// One in so many pushes is followed by a pause; 0 for none.
        var writerPauses = 0
        var longestWriterPause: UInt64 = 0
        var popByteCount = Int.max
        var popSegments = 16
        var readerDelay: UInt64 = 0
        var readerPauses = 0
        var longestReaderPause: UInt64 = 0
        var cancels = false
        /// An option that is set on the connection when it is there.
        var noDelay: Bool?
        var keepsAlive = false
        var linger: Int?
        var receiveBuffer: Int?
        var sendBuffer: Int?
    }

    struct DatagramPlan {
        let sender: Int
        let receiver: Int
        let port: UInt16
        var family = AddressFamily.ipv4
        var startsAt: UInt64 = 0
        var count = 1
        var burst = 1
        var pause: UInt64 = 0
        var largest = 64
        /// Nobody receives at the port.
        var isPortClosed = false
        /// The sender's, which the receiver takes datagrams from and from no other; 0 for any.
        var senderPort: UInt16 = 0
        /// Nobody has the address.
        var isNowhere = false
        /// The receiver begins to pop so late.
        var readerDelay: UInt64 = 0
    }

    struct GroupPlan {
        let sender: Int
        let members: [Int]
        let group: IPAddress
        let port: UInt16
        var startsAt: UInt64 = 0
        var count = 1
        var pause: UInt64 = 0
        /// Members leave when half of the datagrams have been sent.
        var leavesEarly = false
    }

    enum Fault {
        case partition(link: Int, at: UInt64, duration: UInt64)
        case clockJump(host: Int, at: UInt64, by: UInt64)
        case memoryGrab(host: Int, at: UInt64, duration: UInt64, leaving: Int, priority: AllocationPriority)
        case conditions(link: Int, at: UInt64, LinkConditions)
    }

    struct AttackPlan {
        let startsAt: UInt64
        let steps: Int
        let longestPause: UInt64
        /// Lies about who has which address, too.
        let spoofsARP: Bool
    }

    /// By how much the clock of a host jumps, in nanoseconds.
    func clockJumps(ofHost index: Int) -> UInt64 {
        faults.reduce(0) { if case .clockJump(index, _, let by) = $1 { $0 + by } else { $0 } }
    }

    /// What a host is held to; nil for one that something may keep from its duty.
    func conduct(ofHost index: Int) -> Conduct? {
        let host = hosts[index]
        let isDisturbed = faults.contains {
            switch $0 {
            case .clockJump(index, _, _), .memoryGrab(index, _, _, _, _): true
            default: false
            }
        }
        // A frame may have to wait for its neighbour, too.
        guard !isDisturbed, host.transmitQueueLength == nil, !host.staticNeighbors.isEmpty || !losesFrames && attack == nil else { return nil }
        return Conduct(
            minimumRetransmissionTimeout: host.tcp.minimumRetransmissionTimeout,
            maximumSegmentSize: min(host.maximumTransmissionUnit - 40, host.tcp.maximumSegmentSize ?? .max),
            reassemblyPieces: host.networkLimits.reassemblyPieces, challengesPerSecond: host.networkLimits.challengesPerSecond,
            acknowledgementsPerSecond: host.networkLimits.acknowledgementsPerSecond,
            resetsPerSecond: host.networkLimits.resetsPerSecond,
            timeWait: host.networkLimits.maximumTimeWait > 3 ? 2 * host.tcp.maximumSegmentLifetime : 0,
            asksForNeighbors: host.staticNeighbors.isEmpty && middle != .router,
            echoesEachMark: host.tcp.congestionControl == .dctcp,
            maximumPacingRate: host.tcp.maximumPacingRate == 0 ? nil : host.tcp.maximumPacingRate,
            mayForgetSilently: host.mayRunOutOfRoom && host.tcp.sendsCookies)
    }

    /// Whether a frame may arrive that is not as it was sent, or was never right.
    var damagesFrames: Bool {
        let changes = faults.contains { if case .conditions(_, _, let conditions) = $0 { conditions.corruption > 0 } else { false } }
        return attack != nil || changes || links.contains { $0.forward.corruption > 0 || $0.backward.corruption > 0 }
    }

    var duplicatesFrames: Bool { links.contains { $0.forward.duplication > 0 || $0.backward.duplication > 0 } || changesDuplicate }
    var losesFrames: Bool {
        !faults.isEmpty || links.contains { [$0.forward, $0.backward].contains { $0.loss > 0 || $0.losesBursts || $0.corruption > 0 || $0.bandwidth != nil } }
    }
    private var changesDuplicate: Bool {
        faults.contains { if case .conditions(_, _, let conditions) = $0 { conditions.duplication > 0 } else { false } }
    }
}

extension SimulatedHost.Settings {
    /// So few connections may be half-open that those of a scenario are too many.
    var mayRunOutOfRoom: Bool { networkLimits.maximumHalfOpen <= 4 }
}
