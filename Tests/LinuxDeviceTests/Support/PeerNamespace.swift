import CLinux
import Glibc
import Testing

/// A second network namespace, in which closures run on a thread of its own.
final class PeerNamespace: @unchecked Sendable {
    // Unchecked: the two threads take turns, by semaphores.
    private let wish = Signal()
    private let done = Signal()
    private var work: (() throws -> Void)?
    private var failure: (any Error)?
    private var thread: OwnThread?
    /// The thread's number, by which `ip` finds the namespace.
    private(set) var identifier = 0

    init() throws {
        thread = OwnThread { [self] in
            if linux_unshare_network() != 0 { failure = SystemFailure(call: "unshare", errno: errno) }
            // "123/task/456"
            var link = [UInt8](repeating: 0, count: 64)
            let count = link.withUnsafeMutableBytes { readlink("/proc/thread-self", $0.baseAddress!.assumingMemoryBound(to: CChar.self), $0.count) }
            identifier = Int(String(decoding: link[..<max(count, 0)], as: UTF8.self).split(separator: "/").last ?? "") ?? 0
            done.raise()
            while true {
                wish.wait()
                guard let work else { return }
                do { try work() } catch { failure = error }
                done.raise()
            }
        }
        done.wait()
        if let failure {
            end()
            throw failure
        }
    }

    /// Runs `body` in the namespace, and returns when it has ended.
    func run(_ body: @escaping () throws -> Void) throws {
        failure = nil
        work = body
        wish.raise()
        done.wait()
        if let failure { throw failure }
    }

    /// Ends the namespace, as a reboot would: with all that was in it.
    func end() {
        work = nil
        wish.raise()
        thread?.join()
        thread = nil
    }
}

/// Runs `body` with a cable between two network namespaces: demi0 in the caller's, demi1 with 10.0.0.1 and 2001:db8::1 in the peer's.
func withCable(options: String = "", mtu: Int = 1500, _ body: @escaping (PeerNamespace) throws -> Void) throws {
    try inNetworkNamespace {
        let peer = try PeerNamespace()
        defer { peer.end() }
        try Shell.check(
            "ip link add demi0 \(options) type veth peer name demi1 \(options) netns \(peer.identifier)", "ip link set demi0 mtu \(mtu) up")
        try peer.run {
            try Shell.check(
                "ip link set lo up", "ip link set demi1 mtu \(mtu) up", "ip address add 10.0.0.1/24 dev demi1",
                "ip -6 address add 2001:db8::1/64 dev demi1 nodad")
        }
        try body(peer)
    }
}
