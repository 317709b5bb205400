import DatapathMemory
import Demikernel
import EthernetDevice
import Glibc
import Testing

/// The commands about devices, as users run them, each in network namespaces of its own.
@Suite("The command on devices", .serialized, .enabled(if: reasonToSkip == nil, reasonToSkip)) struct DeviceCommandTests {
    private func demikernel(_ arguments: String) -> Shell.Result { Shell.run("\(CommandProcess.path) \(arguments)") }

    @Test("testbed up and down are idempotent, and touch nothing else")
    func testbed() throws {
        try inNetworkNamespace {
            // Named namespaces would be the whole machine's: these commands see an empty /run.
            let script = """
                mount -t tmpfs none /run && mkdir /run/netns && D=\(CommandProcess.path)
                $D testbed down; $D testbed up; $D testbed up
                ip link show demi0 | grep -c UP; ip -n demikernel address show dev demi1 | grep -c -e 10.0.0.1/24 -e 2001:db8::1/64
                $D testbed down; ip link show demi0; ip netns list
                ip link add demi0 type veth peer name other; $D testbed up; $D testbed down; ip link show demi0 | grep -c demi0
                """
            let lines = Shell.run("unshare -m sh -c '\(script)'").output.split(separator: "\n").map(String.init)
            try #require(lines.count == 10, "\(lines)")
            #expect(lines[0] == "the testbed is not up")
            #expect(lines[1].hasPrefix("the testbed is up: demi0 here"))
            #expect(lines[2] == "the testbed is up already")
            #expect(lines[3] == "1" && lines[4] == "2")
            #expect(lines[5] == "the testbed is down")
            #expect(lines[6].contains("does not exist"))
            #expect(lines[7].contains("the interface demi0 exists, and is not the testbed's"))
            #expect(lines[8].contains("is not the testbed's, and stays"))
            #expect(lines[9] == "1")
        }
    }

    @Test("testbed shell has a cable of its own, also without root", .enabled(if: Shell.has("setpriv")))
    func testbedShell() throws {
        let script = "ip -brief address show dev demi1 && ip link show demi0"
        for user in ["", "setpriv --reuid 65534 --regid 65534 --clear-groups "] {
            // Where this user may read the program: it may lie in a folder of root's.
            let result = Shell.run(
                "cp \(CommandProcess.path) /tmp/demikernel.$$ && \(user)/tmp/demikernel.$$ testbed shell -- sh -c '\(script)'; S=$?; rm /tmp/demikernel.$$; exit $S"
            )
            if !user.isEmpty, result.output.contains("no user namespace can be made") { continue }
            #expect(result.status == 0 && result.output.contains("10.0.0.1/24") && result.output.contains("demi0"), "\(result.output)")
        }
        #expect(!Shell.run("ip link show").output.contains("demi1"))
    }

    @Test("doctor says what works, and what a device grants")
    func doctor() throws {
        try inNetworkNamespace {
            let all = demikernel("doctor")
            #expect(all.status == 0)
            for name in ["catnap ", "catnip on tap ", "catnip on xdp "] {
                #expect(all.output.split(separator: "\n").contains { $0.hasPrefix(name) && $0.contains(" works ") }, "\(all.output)")
            }
            #expect(!Shell.run("ip link show").output.contains("demi"))
            try Shell.check("ip link add demi0 type veth peer name demi1", "ip link set demi0 up")
            let device = demikernel("doctor --device xdp:demi0")
            #expect(device.status == 0 && device.output.contains("native XDP, the kernel copies"), "\(device.output)")
            let generic = demikernel("doctor --device xdp:demi0,mode=generic")
            #expect(generic.status == 0 && generic.output.contains("generic XDP"), "\(generic.output)")
            let none = demikernel("doctor --device xdp:nosuch")
            #expect(none.status == 1 && none.output.contains("ENODEV") && none.output.contains("`ip link`"), "\(none.output)")
        }
    }

    @Test("without root, a device says what mends it", .enabled(if: Shell.has("setpriv")))
    func withoutRoot() throws {
        try inNetworkNamespace {
            try Shell.check("ip link add demi0 type veth peer name demi1", "ip link set demi0 up")
            for (device, mend) in [("tap:demi2", "sudo"), ("xdp:demi0", "sudo")] {
                let result = Shell.run(
                    """
                    cp \(CommandProcess.path) /tmp/demikernel.$$ && setpriv --reuid 65534 --regid 65534 --clear-groups --bounding-set -all \
                    /tmp/demikernel.$$ echo --libos catnip --device \(device) --address 10.0.0.2/24; S=$?; rm /tmp/demikernel.$$; exit $S
                    """)
                #expect(result.status == 1 && result.output.contains(mend) && result.output.split(separator: "\n").count == 1, "\(result.output)")
            }
        }
    }

    @Test("ping reaches the kernel over both devices and families")
    func ping() throws {
        try inNetworkNamespace {
            try Shell.check(
                "ip link add demi0 type veth peer name demi1", "ip link set demi0 up", "ip link set demi1 up", "ip address add 10.0.0.1/24 dev demi1",
                "ip -6 address add 2001:db8::1/64 dev demi1 nodad")
            for arguments in [
                "--device xdp:demi0 --address 10.0.0.2/24 10.0.0.1", "--device xdp:demi0 --address 2001:db8::2/64 2001:db8::1",
                "--device tap:demi2,host=10.2.0.1/24 --address 10.2.0.2/24 --size 1400 10.2.0.1",
                "--device tap:demi2,host=10.2.0.1/24 --address 10.2.0.2/24 --gateway 10.2.0.1 10.0.0.1",
            ] {
                let result = demikernel("ping --count 3 --interval 0.5 \(arguments)")
                #expect(result.status == 0 && result.output.contains("3 answered"), "\(arguments): \(result.output)")
            }
            let nobody = demikernel("ping --count 1 --device xdp:demi0 --address 10.0.0.2/24 10.0.0.77")
            #expect(nobody.status == 1 && nobody.output.contains("nobody on the link has the address"), "\(nobody.output)")
        }
    }

    @Test("bench loads a server of the kernel from the user-level stack")
    func bench() throws {
        try inNetworkNamespace {
            try Shell.check(
                "ip link add demi0 type veth peer name demi1", "ip link set demi0 up", "ip link set demi1 up", "ip address add 10.0.0.1/24 dev demi1")
            let server = try CommandProcess(["baseline", "kv", "--listen", "10.0.0.1:6379"])
            #expect(server.readLine().contains("listening"))
            let result = demikernel(
                """
                bench kv --libos catnip --device xdp:demi0 --address 10.0.0.2/24 --connect 10.0.0.1:6379 --duration 0.3 --warmup 0 --quiet \
                --connections 3 --pipeline 4 --size 3000 --keys 100
                """)
            #expect(result.status == 0 && result.output.contains("10.0.0.1:6379"), "\(result.output)")
        }
    }

    /// Where the package is.
    private static let package = #filePath.split(separator: "/").dropLast(3).reduce(into: "") { $0 += "/" + $1 }

    @Test("bench measures the table of goals, and leaves nothing behind", .enabled(if: Shell.has("make") && Shell.has("gcc") && Shell.has("ethtool")))
    func table() throws {
        try inNetworkNamespace {
            let folder = try Shell.makeFolder()
            defer { _ = Shell.run("rm -r \(folder)") }
            try Shell.check("make -C \(Self.package)/Benchmarks/Baselines BUILD=\(folder)/baselines")
            let before = Shell.run("ip link show").output
            let result = demikernel(
                "bench table --baselines \(folder)/baselines --rounds 1 --round 0.02 --quiet --json-file \(folder)/table.json --svg \(folder)/table.svg"
            )
            #expect(result.status == 0, "\(result.output)")
            let json = Shell.run("cat \(folder)/table.json").output
            let needs = [
                ("ring", true), ("tcp-xdp", true), ("udp-xdp", true), ("packets-xdp", true), ("bulk-xdp", true), ("tcp-memif", true),
                ("kv-memif", Shell.has("redis-server")), ("kv-xdp", Shell.has("redis-server")),
            ]
            for (name, isPossible) in needs {
                #expect(json.contains("\"comparison\": \"\(name)\",\n      \"work\"") == isPossible, "\(name): \(result.output)")
                // What is missing is named with its mend.
                if !isPossible {
                    #expect(result.output.contains("not measured: \(name): redis-server is not installed: apt-get install redis-server"))
                }
            }
            #expect(Shell.run("cat \(folder)/table.svg").output.contains("</svg>"))
            #expect(Shell.run("ip link show").output == before)
        }
    }

    @Test("without root, or without the peers, bench says what it could not measure, and why", .enabled(if: Shell.has("setpriv")))
    func tableWithoutRoot() throws {
        let result = Shell.run(
            """
            cp \(CommandProcess.path) /tmp/demikernel.$$ && setpriv --reuid 65534 --regid 65534 --clear-groups \
            /tmp/demikernel.$$ bench --only ring udp-xdp tcp-memif --baselines /nowhere --rounds 1 --round 0.02 --quiet; S=$?; rm /tmp/demikernel.$$; exit $S
            """)
        #expect(result.status == 0, "\(result.output)")
        #expect(result.output.contains("Catmem echo, two processes") && result.output.contains("bare ring"))
        #expect(result.output.contains("not measured: udp-xdp: needs root") && result.output.contains("sudo"), "\(result.output)")
        #expect(result.output.contains("not measured: tcp-memif: the C baselines are not built: make -C Benchmarks/Baselines"), "\(result.output)")
    }

    @Test("demo shows the key-value server over all there is, with root also over AF_XDP")
    func demo() throws {
        try inNetworkNamespace {
            let folder = try Shell.makeFolder()
            defer { _ = Shell.run("rm -r \(folder)") }
            let before = Shell.run("ip link show").output
            let result = demikernel("demo --duration 0.1 --quiet --svg \(folder)/demo.svg")
            #expect(result.status == 0, "\(result.output)")
            for name in ["kernel", "kernel, spinning", "catnap", "catmem", "catnip, memif", "catnip, xdp"] {
                // Once for each of the two loads.
                #expect(result.output.split(separator: "\n").count { $0.hasPrefix("\(name)  ") } == 2, "\(name): \(result.output)")
            }
            #expect(!result.output.contains("left out"))
            #expect(Shell.run("ip link show").output == before)
        }
    }

    @Test("forward sends every frame back")
    func forward() throws {
        let folder = try Shell.makeFolder()
        defer { _ = Shell.run("rm -r \(folder)") }
        let server = try CommandProcess(["forward", "--device", "memif:\(folder)/x.sock,role=server"])
        #expect(server.readLine().contains("forwarding on memif:"))
        let heap = try DatapathHeap()
        defer { heap.close() }
        let device = try InterfaceConfiguration(device: try DeviceSpecification(parsing: "memif:\(folder)/x.sock")).openDevice(heap: heap)
        defer { device.close() }
        try device.attach(heap)
        var came: [UInt8] = []
        // What is sent before the link is up is lost.
        while came.isEmpty {
            guard let frame = Frame.makeSegment(heap, byteCount: 100, priority: .application) else { break }
            memset(frame.segmentAddress, 7, 100)
            if !device.transmit(frame) { frame.releaseArray() }
            for _ in 0..<2_000 where came.isEmpty {
                withUnsafeTemporaryAllocation(of: Frame.self, capacity: 1) { frames in
                    guard device.receive(frames.baseAddress!, capacity: 1) == 1 else { return }
                    came = Array(UnsafeRawBufferPointer(start: frames[0].segmentAddress, count: frames[0].arrayByteCount))
                    frames[0].releaseArray()
                }
            }
        }
        #expect(came == [UInt8](repeating: 7, count: 100))
    }
}
