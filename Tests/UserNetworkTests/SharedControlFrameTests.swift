import Testing

@testable import UserNetwork

/// Which frames one shard hands to the stacks of all others.
@Suite("Control frames of a shared interface") struct SharedControlFrameTests {
    private func ethernet(_ type: UInt16, toGroup: Bool = false) -> [UInt8] {
        [toGroup ? 0x33 : 0x02, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, UInt8(type >> 8), UInt8(truncatingIfNeeded: type)]
    }

    private func arp(_ operation: UInt8) -> [UInt8] { ethernet(0x0806) + [0, 1, 8, 0, 6, 4, 0, operation] + [UInt8](repeating: 0, count: 20) }

    private func ipv4(_ protocolNumber: UInt8, _ payload: [UInt8], options: Int = 0, toGroup: Bool = false) -> [UInt8] {
        ethernet(0x0800, toGroup: toGroup) + [UInt8(0x45 + options)] + [UInt8](repeating: 0, count: 8) + [protocolNumber]
            + [UInt8](repeating: 0, count: 10 + 4 * options) + payload
    }

    private func ipv6(_ next: UInt8, _ payload: [UInt8], toGroup: Bool = false) -> [UInt8] {
        ethernet(0x86dd, toGroup: toGroup) + [0x60, 0, 0, 0, 0, 8, next, 255] + [UInt8](repeating: 0, count: 32) + payload
    }

    private func concernsAll(_ frame: [UInt8]) -> Bool { frame.withUnsafeBytes { SharedControlFrames.concernsAll($0) } }

    @Test("answers, errors and what routers tell concern all stacks")
    func forAll() {
        let eight = [UInt8](repeating: 0, count: 7)
        #expect(concernsAll(arp(2)))
        for type: UInt8 in [3, 5, 11, 12] {
            #expect(concernsAll(ipv4(1, [type] + eight)), "ICMP \(type)")
            #expect(concernsAll(ipv4(1, [type] + eight, options: 2)), "ICMP \(type) behind options")
        }
        for type: UInt8 in [1, 2, 3, 4, 130, 134, 136, 137] { #expect(concernsAll(ipv6(58, [type] + eight)), "ICMPv6 \(type)") }
        #expect(concernsAll(ipv4(2, eight)))
        #expect(concernsAll(ipv4(17, eight, toGroup: true)))
        #expect(concernsAll(ipv6(0, eight, toGroup: true)))
    }

    @Test("flows, and questions that take one answer, stay where they came")
    func forOne() {
        let eight = [UInt8](repeating: 0, count: 7)
        #expect(!concernsAll(arp(1)))
        #expect(!concernsAll(ipv4(1, [8] + eight)), "an echo request")
        #expect(!concernsAll(ipv6(58, [128] + eight)), "an echo request")
        #expect(!concernsAll(ipv6(58, [135] + eight, toGroup: true)), "a solicitation")
        for number: UInt8 in [6, 17] {
            #expect(!concernsAll(ipv4(number, eight)))
            #expect(!concernsAll(ipv6(number, eight)))
        }
        #expect(!concernsAll(ethernet(0x1234) + [UInt8](repeating: 0, count: 60)))
    }

    @Test("a frame cut anywhere is no trap")
    func cut() {
        for frame in [arp(2), ipv4(1, [3, 0], options: 10), ipv6(58, [136, 0]), ipv6(0, [58])] {
            for count in 0...frame.count { _ = concernsAll(Array(frame[..<count])) }
        }
    }
}
