import CLinuxDevices
import DatapathMemory
import EthernetDevice
import Glibc
import NetworkInterface
import TAPDevice
import Testing

@Suite("TAP", .serialized, .enabled(if: reasonToSkip == nil, reasonToSkip)) struct TAPDeviceTests {
    private func withHeap(_ body: (DatapathHeap) throws -> Void) throws {
        let heap = try DatapathHeap(MemoryConfiguration(arenaByteCount: 4 << 20))
        defer { heap.close() }
        try body(heap)
        #expect(heap.usedByteCount == 0)
    }

    /// The next frame of an EtherType, whatever the kernel sends by itself before it.
    private func receive(_ device: EthernetDevice, etherType: UInt16) throws -> Frame {
        while true {
            var found: Frame?
            withUnsafeTemporaryAllocation(of: Frame.self, capacity: 16) { frames in
                for index in 0..<device.receive(frames.baseAddress!, capacity: 16) {
                    let frame = frames[index]
                    let type = UInt16(bigEndian: frame.segmentAddress.loadUnaligned(fromByteOffset: 12, as: UInt16.self))
                    if found == nil, type == etherType { found = frame } else { frame.releaseArray() }
                }
            }
            if let found { return found }
            var readable = pollfd(fd: device.prepareToSleep(), events: Int16(POLLIN), revents: 0)
            guard poll(&readable, 1, 60_000) > 0 else { throw SystemFailure(call: "poll", errno: ETIMEDOUT) }
        }
    }

    @Test("an interface is made, brought up, and gone with the device")
    func life() throws {
        try inNetworkNamespace {
            try self.withHeap { heap in
                let device = try TAPDevice.open(TAPConfiguration(name: "demi0", maximumTransmissionUnit: 1400))
                let interface = NetworkInterface("demi0")
                #expect(try interface.isUp().isUp && interface.isUp().isRunning)
                #expect(try interface.maximumTransmissionUnit() == 1400)
                #expect(device.capabilities.maximumFrameByteCount == 1414)
                // Both ends of the link have an address of their own, and neither is a group's.
                #expect(try interface.macAddress() != device.capabilities.macAddress && device.capabilities.macAddress >> 40 & 3 == 2)
                try device.attach(heap)
                #expect(throws: DemikernelError.self) { try device.attach(heap) }
                device.close()
                #expect(throws: DemikernelError(ENODEV, .initialize)) { _ = try interface.index() }
            }
        }
    }

    @Test("an interface that somebody made stays, with its settings, and the stack has the same address each time")
    func persistentInterface() throws {
        try inNetworkNamespace {
            try Shell.check("ip tuntap add dev demi0 mode tap", "ip link set demi0 mtu 2000 address 02:00:00:00:00:08")
            for _ in 0..<2 {
                let device = try TAPDevice.open(TAPConfiguration(name: "demi0"))
                #expect(device.capabilities.maximumFrameByteCount == 2014)
                #expect(device.capabilities.macAddress == 0x0200_0000_0009)
                device.close()
            }
            try Shell.check("ip link show demi0")
        }
    }

    @Test("what cannot be is refused, with its errno, and leaves nothing")
    func refusals() throws {
        try inNetworkNamespace {
            func refuse(_ configuration: TAPConfiguration, _ code: Int32) {
                let error = #expect(throws: DemikernelError.self) { _ = try TAPDevice.open(configuration) }
                #expect(error?.errno == code && error?.message.utf8CodeUnitCount ?? 0 > 20, "\(String(describing: error))")
            }
            for name in ["", "sixteen-letters-", "a b", "a/b", "..", "a:b"] { refuse(TAPConfiguration(name: name), EINVAL) }
            refuse(TAPConfiguration(name: "lo"), EINVAL)
            refuse(TAPConfiguration(name: "demi0", maximumTransmissionUnit: 100_000), EINVAL)
            let device = try TAPDevice.open(TAPConfiguration(name: "demi1"))
            refuse(TAPConfiguration(name: "demi1"), EBUSY)
            device.close()
            #expect(!Shell.run("ip link show").output.contains("demi"))
        }
    }

    @Test("a descriptor that was received, of an interface in another network namespace")
    func receivedDescriptor() throws {
        try inNetworkNamespace {
            let peer = try PeerNamespace()
            defer { peer.end() }
            var descriptor: Int32 = -1
            try peer.run {
                descriptor = open("/dev/net/tun", O_RDWR | O_CLOEXEC)
                var name = Array("demi0".utf8CString) + [CChar](repeating: 0, count: 10)
                try #require(linux_tap_attach(descriptor, &name, 0) == 0)
                try Shell.check("ip link set demi0 up", "ip address add 10.0.0.1/24 dev demi0")
            }
            try self.withHeap { heap in
                let device = try TAPDevice.make(descriptor: descriptor, maximumTransmissionUnit: 1500, macAddress: 0x0200_0000_0042)
                defer { device.close() }
                try device.attach(heap)
                #expect(device.capabilities.macAddress == 0x0200_0000_0042)
                try peer.run {
                    let client = socket(AF_INET, Int32(SOCK_DGRAM.rawValue), 0)
                    defer { close(client) }
                    var address = sockaddr_in(sin_family: 2, sin_port: 0x0700, sin_addr: in_addr(s_addr: 0x0200_000a), sin_zero: (0, 0, 0, 0, 0, 0, 0, 0))
                    withUnsafePointer(to: &address) {
                        $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { _ = sendto(client, "x", 1, Int32(MSG_DONTWAIT), $0, 16) }
                    }
                }
                // The kernel asks who has 10.0.0.2.
                let frame = try self.receive(device, etherType: 0x0806)
                #expect(frame.segmentAddress.loadUnaligned(fromByteOffset: 38, as: UInt32.self) == 0x0200_000a)
                frame.releaseArray()
            }
            let plain = open("/dev/net/tun", O_RDWR | O_CLOEXEC)
            defer { close(plain) }
            #expect(throws: DemikernelError(EINVAL, .initialize)) { _ = try TAPDevice.make(descriptor: plain, maximumTransmissionUnit: 1500) }
        }
    }

    @Test("frames that cannot be sent are dropped under their reason, and small ones pin small blocks")
    func counts() throws {
        try inNetworkNamespace {
            try self.withHeap { heap in
                let device = try TAPDevice.open(TAPConfiguration(name: "demi0"))
                defer { device.close() }
                try device.attach(heap)
                for byteCount in [13, 14, 1514, 1515] {
                    let frame = try #require(Frame.makeSegment(heap, byteCount: byteCount, priority: .application))
                    memset(frame.segmentAddress, 0, byteCount)
                    #expect(device.transmit(frame))
                }
                #expect(device.statistics.transmitTooShort == 1 && device.statistics.transmitTooLong == 1)
                #expect(device.statistics.transmittedFrames == 2)
                try Shell.check("ip link set demi0 down")
                let frame = try #require(Frame.makeSegment(heap, byteCount: 60, priority: .application))
                #expect(device.transmit(frame))
                #expect(device.statistics.transmitLinkDown == 1 && !device.statistics.isGone)
                try Shell.check("ip link set demi0 up", "ip address add 10.0.0.1/24 dev demi0")
                _ = Shell.run("ping -c 1 -W 1 10.0.0.2 & ")
                let request = try self.receive(device, etherType: 0x0806)
                #expect(request.blockByteCount == 64, "an ARP request has 42 bytes")
                request.releaseArray()
            }
        }
    }
}
