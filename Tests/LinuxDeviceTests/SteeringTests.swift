import CLinuxDevices
import Glibc
import Testing

@testable import XDPDevice

/// The steering program in the kernel, run on one frame at a time.
@Suite(.enabled(if: reasonToSkip == nil, reasonToSkip)) struct SteeringTests {
    private static let ours = "0a000002"
    private static let ours6 = "20010db8000000000000000000000002"
    private static let other6 = "20010db8000000000000000000000003"

    /// Whether the program takes each frame.
    private func taken(_ steering: XDPSteering, _ frames: [String: String]) throws -> Set<String> {
        let map = linux_bpf_make_socket_map(1)
        try #require(map >= 0)
        defer { close(map) }
        // A verdict of its own where a socket would get the frame: XDP_DROP.
        let instructions = SteeringProgram.instructions(steering, map: map, withoutSocket: 1)
        let program = try XDPAttachment.load(instructions)
        defer { close(program) }
        var taken: Set<String> = []
        for (name, text) in frames {
            let frame = bytes(text)
            let verdict = linux_bpf_run_xdp(program, frame, UInt32(frame.count))
            try #require(verdict == 1 || verdict == 2, "\(name): \(verdict)")
            if verdict == 1 { taken.insert(name) }
        }
        return taken
    }

    private func bytes(_ text: String) -> [UInt8] {
        let digits = text.filter { $0 != " " }.map { UInt8($0.hexDigitValue!) }
        return stride(from: 0, to: digits.count, by: 2).map { digits[$0] << 4 | digits[$0 + 1] }
    }

    private static let stations = "020000000002 020000000001"

    private static func ipv4(_ destination: String, transport: String = "11", port: String = "0007", fragment: String = "4000", options: Bool = false) -> String {
        "\(stations) 0800 \(options ? "46" : "45")00 0020 0001 \(fragment) 40 \(transport) 0000 0a000001 \(destination) \(options ? "01010101" : "")"
            + "03e8 \(port) 000c 0000 68692121"
    }

    private static func ipv6(_ destination: String, next: String = "11", port: String = "0007") -> String {
        "\(stations) 86dd 60000000 000c \(next) 40 20010db8000000000000000000000001 \(destination) 03e8 \(port) 000c 0000 68692121"
    }

    private static func arp(_ target: String) -> String {
        "ffffffffffff 020000000001 0806 0001 0800 06 04 0001 020000000001 0a000001 000000000000 \(target)"
    }

    private static func solicitation(_ target: String) -> String {
        "3333ff000002 020000000001 86dd 60000000 0020 3a ff 20010db8000000000000000000000001 ff0200000000000000000001ff000002"
            + "87 00 0000 00000000 \(target) 0101 020000000001"
    }

    private static func advertisement(_ target: String) -> String {
        "333300000001 020000000001 86dd 60000000 0020 3a ff 20010db8000000000000000000000001 ff020000000000000000000000000001"
            + "88 00 0000 20000000 \(target) 0201 020000000001"
    }

    private static let frames = [
        "ours": ipv4(ours), "another's": ipv4("0a000003"), "another port": ipv4(ours, port: "0008"), "TCP": ipv4(ours, transport: "06"),
        "ICMP": ipv4(ours, transport: "01"), "a fragment": ipv4(ours, fragment: "0001"), "a first fragment": ipv4(ours, fragment: "2000"),
        "options": ipv4(ours, options: true), "broadcast": ipv4("ffffffff"),
        "a last byte": "\(stations) 0800 4500 0015 0001 00b9 40 11 0000 0a000001 \(ours) 68",
        "ARP for us": arp(ours), "ARP for another": arp("0a000003"), "half an ARP": "ffffffffffff 020000000001 0806 0001 0800 06 04 0001 020000000001 0a000001 000000000000",
        "ours, IPv6": ipv6(ours6), "another's, IPv6": ipv6(other6), "another port, IPv6": ipv6(ours6, port: "0008"), "ICMPv6": ipv6(ours6, next: "3a"),
        "solicits us": solicitation(ours6), "solicits another in the group": solicitation(other6),
        "has our address": advertisement(ours6), "advertises another's": advertisement(other6),
        "all nodes": ipv6("ff020000000000000000000000000001"), "VLAN": "\(stations) 8100 0001 0800 \(ipv4(ours).dropFirst(31))",
        "a header alone": "\(stations) 0800", "LLDP": "\(stations) 88cc 0000000000000000000000000000000000000000000000000000000000000000",
    ]

    private static let base: XDPSteering = {
        var steering = XDPSteering()
        steering.ipv4Addresses = [0x0200_000a]
        steering.ipv6Addresses = [.init(words: (0x0000_0000_b80d_0120, 0x0200_0000_0000_0000))]
        return steering
    }()

    @Test func allForOurAddressesIsTakenAndNothingElse() throws {
        #expect(
            try taken(Self.base, Self.frames) == [
                "ours", "another port", "TCP", "ICMP", "a fragment", "a first fragment", "options", "a last byte", "ARP for us", "ours, IPv6",
                "another port, IPv6", "ICMPv6", "solicits us", "has our address",
            ])
    }

    @Test func withPortsOtherPortsAreTheKernels() throws {
        var steering = Self.base
        steering.ports = [5...7, 80...80]
        #expect(
            try taken(steering, Self.frames) == [
                "ours", "TCP", "ICMP", "a fragment", "a first fragment", "options", "a last byte", "ARP for us", "ours, IPv6", "ICMPv6", "solicits us", "has our address",
            ])
    }

    @Test func withSharedAddressesOnlyThePortsAreTaken() throws {
        var steering = Self.base
        steering.ports = [7...7]
        steering.sharesAddresses = true
        #expect(try taken(steering, Self.frames) == ["ours", "TCP", "ours, IPv6"])
    }

    @Test func oneFamilyAloneLeavesTheOtherToTheKernel() throws {
        var steering = Self.base
        steering.ipv6Addresses = []
        #expect(try taken(steering, Self.frames).isDisjoint(with: ["ours, IPv6", "solicits us", "ICMPv6"]))
        steering = Self.base
        steering.ipv4Addresses = []
        #expect(try taken(steering, Self.frames) == ["ours, IPv6", "another port, IPv6", "ICMPv6", "solicits us", "has our address"])
    }

    @Test func nothingIsTakenWithoutAddresses() throws {
        #expect(try taken(XDPSteering(), Self.frames) == [])
    }

    @Test func theMostAddressesAndPortsAreAccepted() throws {
        var steering = Self.base
        steering.ipv4Addresses = (1...64).map { UInt32($0) << 24 | 0x0a }
        steering.ipv6Addresses = (1...64).map { .init(words: (0x0000_0000_b80d_0120, UInt64($0) << 56)) }
        steering.ports = (1...64).map { UInt16($0 * 10)...UInt16($0 * 10 + 1) }
        #expect(try taken(steering, ["ours": Self.ipv4("0a000040", port: "0281"), "beside": Self.ipv4("0a000040", port: "0282")]) == ["ours"])
    }
}
