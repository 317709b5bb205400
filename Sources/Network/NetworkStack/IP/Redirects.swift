import DatapathMemory
import EthernetDevice
import TaskScheduler
import WireFormats

/// What routers have said of better ways to single destinations, where the configuration takes that from them.
struct RedirectTable {
    struct Entry {
        var destination: IPAddress
        /// Another router on the link, or the destination itself.
        var nextHop: IPAddress
        var expires: UInt64
    }

    private let entries: UnsafeMutablePointer<Entry>
    private(set) var count = 0
    private let capacity: Int
    var timer = TimerIdentifier.none

    /// How long a redirect is believed. The RFCs name no time; a way that is still the better one is told again by the first packet behind it.
    static let lifetime: UInt64 = 600_000_000_000

    init(capacity: Int) {
        self.capacity = capacity
        entries = .allocate(capacity: max(capacity, 1))
    }

    func deallocate() {
        entries.deallocate()
    }

    /// O(redirects).
    func nextHop(to destination: IPAddress) -> IPAddress? {
        for index in 0..<count where entries[index].destination == destination { return entries[index].nextHop }
        return nil
    }

    /// Enters a way in place of an older one to the same destination, or, where there is no room, of the one whose time is over first. O(redirects).
    mutating func set(_ nextHop: IPAddress, to destination: IPAddress, now: UInt64) {
        guard capacity > 0 else { return }
        let entry = Entry(destination: destination, nextHop: nextHop, expires: now &+ RedirectTable.lifetime)
        if let known = (0..<count).first(where: { entries[$0].destination == destination }) {
            entries[known] = entry
        } else if count < capacity {
            (entries + count).initialize(to: entry)
            count += 1
        } else {
            entries[(0..<count).min { entries[$0].expires < entries[$1].expires }.unsafelyUnwrapped] = entry
        }
    }

    /// - Returns: whether there were any.
    mutating func remove(where isGone: (Entry) -> Bool) -> Bool {
        let before = count
        for index in (0..<count).reversed() where isGone(entries[index]) {
            count -= 1
            entries[index] = entries[count]
        }
        return count < before
    }

    var nextExpiry: UInt64? { (0..<count).map { entries[$0].expires }.min() }
}

extension NetworkStack {
    /// The way that a router has told, in place of the one over `gateway`. O(redirects).
    @inline(__always)
    func redirected(_ destination: IPAddress, from gateway: IPAddress) -> IPAddress {
        state.pointee.redirects.count == 0 ? gateway : state.pointee.redirects.nextHop(to: destination) ?? gateway
    }

    /// Takes over a redirect of ICMP.
    func redirectInput(_ frame: Frame, _ packet: IPv4View, _ message: ICMPv4View) {
        guard state.pointee.configuration.acceptsRedirects else { return drop(frame, .redirectRefused) }
        guard let quotation = message.quotation else { return drop(frame, .badControlMessage) }
        let gateway = message.gateway
        //= RFC 1122 section 3.2.2.2
        //# A Redirect message SHOULD be silently discarded if the new gateway address it specifies is not on the same connected (sub-) net through which the
        //# Redirect arrived, or if the source of the Redirect is not the current first-hop gateway for the specified destination
        let routing = state.pointee.routing
        guard message.code <= 3, routing.isOnLinkHost(gateway.ipv4Raw), !routing.isOwn(gateway.ipv4Raw),
            routing.source(onLinkTo: gateway.ipv4Raw) == routing.source(onLinkTo: packet.source.ipv4Raw), isFirstHop(packet.source, to: quotation.destination), isOurs(quotation)
        else { return drop(frame, .badRedirect) }
        //= RFC 1122 section 3.2.2.2
        //# A host receiving a Redirect message MUST update its routing information accordingly. Every host MUST be prepared to accept both Host and Network
        //# Redirects
        //= RFC 792 section Redirect Message
        //# The gateway sends a redirect message to the host: the redirect message advises the host to send its traffic for the network directly to gateway G2
        redirect(quotation.destination, to: gateway)
        frame.releaseArray()
    }

    /// Takes over a redirect of neighbour discovery, whose hop limit and code are right.
    func ipv6RedirectInput(_ frame: Frame, _ packet: IPv6View, _ message: ICMPv6View) {
        guard state.pointee.configuration.ipv6.acceptsRedirects else { return drop(frame, .redirectRefused) }
        //= RFC 4861 section 8.1
        //# A host MUST silently discard any received Redirect message that does not satisfy all of the following validity checks: IP Source Address is a
        //# link-local address. The IP Hop Limit field has a value of 255. ICMP Checksum is valid. ICMP Code is 0. ICMP length (derived from the IP length)
        //# is 40
        //# or more octets. The IP source address of the Redirect is the same as the current first-hop router for the specified ICMP Destination Address. The
        //# ICMP Destination Address field in the redirect message does not contain a multicast address. The ICMP Target Address is either a link-local
        //# address
        //# (when redirected to a router) or the same as the ICMP Destination Address (when redirected to the on-link destination). All included options have
        //# a
        //# length that is greater than zero.
        guard packet.source.isLinkLocal, message.count >= 40, let options = NeighborDiscoveryOptions(message.base + 40, count: message.count &- 40) else {
            return drop(frame, .badRedirect)
        }
        let (target, destination) = (IPAddress(ipv6At: message.base + 8), IPAddress(ipv6At: message.base + 24))
        guard !destination.isMulticast, !destination.isIPv4, target == destination || target.isLinkLocal, state.pointee.ipv6.index(of: target) == nil,
            isFirstHop(packet.source, to: destination), let quotation = options.redirectedPacket, quotation.destination == destination, isOurs(quotation)
        else { return drop(frame, .badRedirect) }
        let hardware = options.linkLayerAddress(NeighborDiscoveryOption.targetLinkLayerAddress)
        if let hardware, hardware.isGroup || hardware.value == 0 { return drop(frame, .badRedirect) }
        //= RFC 4861 section 8.3
        //# A host receiving a valid redirect SHOULD update its Destination Cache accordingly so that subsequent traffic goes to the specified target. If the
        //# redirect contains a Target Link-Layer Address option, the host either creates or updates the Neighbor Cache entry for the target.
        if let hardware { heard(target, hardware) }
        redirect(destination, to: target)
        frame.releaseArray()
    }

    private func isFirstHop(_ router: IPAddress, to destination: IPAddress) -> Bool {
        guard let decision = route(to: destination), !decision.isLocal else { return false }
        return decision.nextHop == router && router != destination
    }

    /// Whether the quoted packet is one that a connection has under way, or a datagram socket may have sent: whoever does not see our packets has to guess.
    private func isOurs(_ quotation: some ControlMessageQuotation) -> Bool {
        guard isLocalAddress(quotation.source) else { return false }
        let local = Endpoint(address: quotation.source, port: quotation.sourcePort)
        let remote = Endpoint(address: quotation.destination, port: quotation.destinationPort)
        switch quotation.protocolNumber {
        case IPProtocol.tcp: return isInFlight(quotation.sequence, local: local, remote: remote)
        case IPProtocol.udp:
            let key = DatagramFilter.key(local: local, remote: remote)
            return (local.address.isIPv4 ? findDatagramSocket(key.addresses, key.ports) : findIPv6DatagramSocket(remote, local)) != 0
        default: return false
        }
    }

    private func redirect(_ destination: IPAddress, to nextHop: IPAddress) {
        state.pointee.redirects.set(nextHop, to: destination, now: state.pointee.now)
        state.pointee.statistics.redirectsAccepted += 1
        // Who sends there looks for the way again.
        raiseNeighborEpoch()
        armRedirectTimer()
    }

    /// A router or host that does not answer is no better way.
    func forgetRedirects(over nextHop: IPAddress) {
        if state.pointee.redirects.remove(where: { $0.nextHop == nextHop }) { raiseNeighborEpoch() }
    }

    private func armRedirectTimer() {
        state.pointee.timers.cancel(state.pointee.redirects.timer)
        state.pointee.redirects.timer = .none
        guard let deadline = state.pointee.redirects.nextExpiry else { return }
        // The wheel has a place for it.
        state.pointee.redirects.timer =
            state.pointee.timers.arm(
                deadline: deadline,
                action: { context, _ in NetworkStack(state: context.assumingMemoryBound(to: StackState.self)).redirectTimerFired() }, context: state, argument: 0
            ).unsafelyUnwrapped
    }

    private func redirectTimerFired() {
        state.pointee.redirects.timer = .none
        let now = state.pointee.now
        if state.pointee.redirects.remove(where: { $0.expires <= now }) { raiseNeighborEpoch() }
        armRedirectTimer()
    }
}
