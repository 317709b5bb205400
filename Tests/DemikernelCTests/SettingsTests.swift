import CDemikernel
import DatapathMemory
import Demikernel
@testable import DemikernelC
import EthernetDevice
import Foundation
import Glibc
import KernelSockets
import NetworkStack
import QueueRuntime
import Testing
import WireFormats

/// What CONFIG_PATH says, and what is wrong with it.
@Suite struct SettingsTests {
    private func read(_ text: String) -> (settings: FileSettings, mistakes: [String]) {
        let (settings, mistakes) = FileSettings.reading(Array(text.utf8))
        return (settings, mistakes)
    }

    @Test func theKeysOfTheOriginalAreRead() throws {
        let (settings, mistakes) = read(
            """
            # As the original's documentation has it.
            demikernel:
              local_ipv4_addr: 10.0.0.2
              local_link_addr: "02:00:00:00:00:02"
            raw_socket:
              linux_interface_name: "eth1"   # of the second card
            dpdk:
              eal_init: ["", "-c", '0xff',
                -n, "4", "-a", "WW:WW.W", "--proc-type=auto"]
            tcp_socket_options:
              keepalive:
                enabled: true
                time_millis: 7200500
                interval: 1000
              linger:
                enabled: true
                time_seconds: 5
              nodelay: false
            inetstack_config:
              mtu: 9000
              mss: 1450
              enable_jumbo_frames: true
              udp_checksum_offload: false
              tcp_checksum_offload: true
              arp_table:
                "02:00:00:00:00:01": "10.0.0.1"
                02:00:00:00:00:03: 10.0.0.3
              arp_cache_ttl: 600
              arp_request_timeout: 1
              arp_request_retries: 5
            """)
        #expect(mistakes == [])
        #expect(settings.localIPv4Address == .ipv4(10, 0, 0, 2))
        #expect(settings.localLinkAddress == MACAddress(value: 0x0200_0000_0002))
        #expect(settings.interfaceName == "eth1")
        #expect(settings.dpdkArguments == ["", "-c", "0xff", "-n", "4", "-a", "WW:WW.W", "--proc-type=auto"])
        #expect(settings.socketDefaults == SocketDefaults(noDelay: false, lingerSeconds: 5, keepAlive: true, keepAliveIdle: 7_201, keepAliveInterval: 1))
        #expect(settings.maximumTransmissionUnit == 9_000 && settings.maximumSegmentSize == 1_450 && settings.allowsJumboFrames)
        #expect(settings.offloadsTCPChecksum == true && settings.offloadsUDPChecksum == false)
        #expect(settings.neighbors.map(\.address) == [.ipv4(10, 0, 0, 1), .ipv4(10, 0, 0, 3)])
        #expect(settings.neighbors.map(\.macAddress.value) == [0x0200_0000_0001, 0x0200_0000_0003])
    }

    @Test func furtherKeysAreRead() throws {
        let (settings, mistakes) = read(
            """
            ---
            demikernel:
                local_ipv4_addr: 192.168.7.2
                local_ipv4_prefix_length: 16
                gateway_ipv4_addr: 192.168.0.1
                local_ipv6_addr: fd00::2
                local_ipv6_prefix_length: 48
                catmem_directory: /run/user/1000
                heap_mebibytes: 8
                idle: spin
            dpdk:
                eal_init:
                - -c
                - "0x1"
            tcp_socket_options: {}
            inetstack_config:
            """)
        #expect(mistakes == [])
        #expect(settings.localIPv4PrefixLength == 16 && settings.gatewayIPv4Address == .ipv4(192, 168, 0, 1))
        #expect(settings.localIPv6Address == IPAddress(parsing: "fd00::2") && settings.localIPv6PrefixLength == 48)
        #expect(settings.sharedMemoryDirectory == "/run/user/1000")
        #expect(settings.heapMebibytes == 8 && settings.spins && settings.dpdkArguments == ["-c", "0x1"])
        var initial = InitialSettings()
        initial.file = settings
        #expect(initial.runtimeConfiguration.memory.arenaByteCount == 8 << 20 && initial.runtimeConfiguration.idle == .spin)
    }

    @Test func anEmptyFileSaysNothing() {
        for text in ["", "\n\n", "# nothing\n", "---\n", "   \n\t\n"] { #expect(read(text).mistakes == [], "\(text)") }
    }

    @Test func everyMistakeIsListedWithItsLine() {
        let (_, mistakes) = read(
            """
            demikernel:
              local_ipv4_addr: 10.0.0.256
              local_ipv4_adr: 10.0.0.2
              heap_mebibytes: many
              catmem_directory: sockets
            tcp_socket_options:
              nodelay: yes
              keepalive:
                interval: 0
            inetstack_config:
              mtu: 500
              mss: 2000
              arp_table:
                "ff:ff:ff:ff:ff:ff": "10.0.0.9"
                "02:00:00:00:00:01": "::1"
            raw_socket:
              linux_interface_name: "a/b"
            catnap:
              speed: 1
            """)
        #expect(
            mistakes == [
                "line 2: demikernel.local_ipv4_addr: 10.0.0.256 is no IPv4 address of one host",
                "line 3: demikernel.local_ipv4_adr: there is no such key",
                "line 4: demikernel.heap_mebibytes: many is no number from 4 to 65536",
                "line 5: demikernel.catmem_directory: sockets is no directory's path: one begins with / and has at most 59 bytes",
                "line 7: tcp_socket_options.nodelay: yes is neither true nor false",
                "line 9: tcp_socket_options.keepalive.interval: 0 is no number from 1 to 32767000",
                "line 11: inetstack_config.mtu: 500 is no number from 576 to 65535",
                "line 14: inetstack_config.arp_table.ff:ff:ff:ff:ff:ff: the key is no hardware address of one host",
                "line 15: inetstack_config.arp_table.02:00:00:00:00:01: the value is no IPv4 address",
                "line 17: raw_socket.linux_interface_name: a/b is no name of an interface: one has 1 to 15 letters, and neither space nor /",
                "line 19: catnap.speed: there is no such key",
                "inetstack_config.mss: 2000 does not fit into an MTU of 1500 beside 40 bytes of headers",
            ])
    }

    @Test(arguments: [
        ("demikernel:\n\tidle: spin\n", "line 2: indentation is made of spaces, not of tabs"),
        ("demikernel:\n  idle: \"spin\n", "line 2: a quote is not closed"),
        ("demikernel:\n  idle: 'spin' x\n", "line 2: something follows a closing quote"),
        ("demikernel:\n  idle: spin\n  idle: spin\n", "line 3: demikernel.idle is set twice"),
        ("demikernel:\n    idle: spin\n  heap_mebibytes: 8\n", "line 3: the indentation is that of no key above"),
        ("demikernel\n", "line 1: this is no setting: one is written key: value"),
        ("demikernel:idle\n", "line 1: this is no setting: one is written key: value"),
        ("dpdk:\n  eal_init: [a, b\n", "line 2: a list has no closing bracket"),
        ("dpdk:\n  eal_init: [a, , b]\n", "line 2: an item of a list is empty"),
        ("dpdk:\n  eal_init: [\"a\" b]\n", "line 2: a comma is missing in a list"),
        ("dpdk:\n  eal_init: [a] b\n", "line 2: something follows a closing bracket"),
        ("dpdk:\n  eal_init: a\n", "line 2: dpdk.eal_init: the value is no list of words"),
        ("- a\n", "line 1: a list stands behind its key"),
        ("demikernel:\n  idle: *spin\n", "line 2: a value that begins with * is not read here: put it in quotes"),
        ("demikernel:\n  idle: |\n", "line 2: a value that begins with | is not read here: put it in quotes"),
        ("demikernel:\n  idle: \"sp\\in\"\n", "line 2: behind a backslash stands a backslash or a quote"),
        ("\"demikernel\" x: 1\n", "line 1: a colon is missing behind the key"),
        ("demikernel:\n  idle:\n", "line 2: demikernel.idle: the value is missing, or no single one"),
        ("demikernel: {}\n---\n", "line 2: there is one document in a file"),
        ("demikernel:\n  gateway_ipv4_addr: 10.0.0.1\n", "demikernel.gateway_ipv4_addr: needs demikernel.local_ipv4_addr"),
        (
            "demikernel:\n  local_ipv4_addr: 10.0.0.2\n  gateway_ipv4_addr: 10.0.1.1\n",
            "demikernel.gateway_ipv4_addr: the gateway is not within demikernel.local_ipv4_addr's prefix"
        ),
        ("inetstack_config:\n  mtu: 9000\n", "inetstack_config.mtu: more than 1500 needs inetstack_config.enable_jumbo_frames: true"),
    ])
    func aMistakeHasAName(text: String, sentence: String) {
        #expect(read(text).mistakes == [sentence])
    }

    @Test func whateverTheFileSaysTheWorkIsBounded() {
        #expect(read(String(repeating: "a", count: 70_000)).mistakes == ["the file is larger than 65536 bytes"])
        #expect(FileSettings.reading([0x64, 0xff, 0x0a]).mistakes == ["line 1: the line is no text in UTF-8"])
        #expect(FileSettings.reading([0x64, 0x00, 0x0a]).mistakes == ["line 1: the line is no text in UTF-8"])
        let many = (0..<1_100).map { "k\($0): 1\n" }.joined()
        #expect(read(many).mistakes.contains { $0.hasSuffix("there are more than 1024 settings") })
        let deep = (0..<20).map { String(repeating: " ", count: $0) + "k\($0):\n" }.joined()
        #expect(read(deep).mistakes.contains { $0.hasSuffix("keys are nested more than 8 deep") })
        // Any bytes at all: no trap, and an answer.
        var random = SeededRandom(seed: 1)
        let pieces = ["demikernel", ":", " ", "\n", "  ", "\"", "'", "[", "]", ",", "-", "#", "\\", "{}", "\t", "é", "---", "idle", "1", "\r"]
        for _ in 0..<2_000 {
            let text = (0..<Int.random(in: 0...60, using: &random)).map { _ in pieces.randomElement(using: &random)! }.joined()
            _ = read(text)
        }
    }

    @Test func theUserLevelNetworkIsMadeAsTheSettingsSay() throws {
        let (settings, mistakes) = read(
            """
            demikernel:
              local_ipv4_addr: 10.0.0.1
              gateway_ipv4_addr: 10.0.0.254
              local_ipv6_addr: fd00::1
            tcp_socket_options:
              nodelay: false
            inetstack_config:
              mtu: 1300
              mss: 900
              udp_checksum_offload: false
              arp_table:
                "02:00:00:00:00:09": "10.0.0.9"
            """)
        #expect(mistakes == [])
        var configuration = NetworkConfiguration(macAddress: MACAddress(value: 0x0200_0000_0001), addresses: [], seed: 1)
        configuration.offloads = [.transmitChecksumTCP, .transmitChecksumUDP, .receiveChecksumUDP]
        settings.apply(to: &configuration)
        #expect(configuration.addresses.map(\.address) == [.ipv4(10, 0, 0, 1)] && configuration.addresses.map(\.length) == [24])
        #expect(configuration.ipv6Addresses.map(\.address) == [IPAddress(parsing: "fd00::1")])
        #expect(configuration.routes.map(\.gateway) == [.ipv4(10, 0, 0, 254)])
        #expect(configuration.maximumTransmissionUnit == 1_300 && configuration.tcp.maximumSegmentSize == 900 && !configuration.tcp.isNoDelay)
        #expect(configuration.staticNeighbors.map(\.macAddress.value) == [0x0200_0000_0009])
        #expect(configuration.offloads == .transmitChecksumTCP && configuration.macAddress.value == 0x0200_0000_0001)

        // And it works: over a link in memory, to itself.
        let (device, _) = MemoryEthernetPair.make()
        let maker = try settings.userNetwork { (_) throws(DemikernelError) in device }
        try CInterface.begin(over: try Runtime(InitialSettings(libraryOS: .catnip, file: settings).runtimeConfiguration, making: [maker]))
        defer { CInterface.end() }
        let (client, server) = try connection("10.0.0.1:0")
        try push(client, [1, 2, 3])
        #expect(try pop(server) == [1, 2, 3])
        #expect(throws: InitializationFailure.self) { try FileSettings().userNetwork { (_) throws(DemikernelError) in device } }
    }

    @Test func socketsBeginWithWhatTheSettingsSay() throws {
        let (settings, _) = read(
            "tcp_socket_options:\n  nodelay: false\n  linger:\n    enabled: true\n    time_seconds: 3\n  keepalive:\n    enabled: true\n    time_millis: 9000\n")
        let runtime = try Runtime()
        try runtime.register(KernelSockets.make(for: runtime.core))
        try CurrentRuntime.adopt(ThreadRuntime(runtime, socketDefaults: settings.socketDefaults))
        defer { CInterface.end() }
        let (client, server) = try connection()
        for queue in [client, server] {
            var value: Int32 = -1
            var size: socklen_t = 4
            try call(demi_getsockopt(queue, Int32(IPPROTO_TCP), TCP_NODELAY, &value, &size))
            #expect(value == 0)
            try call(demi_getsockopt(queue, Int32(IPPROTO_TCP), TCP_KEEPIDLE, &value, &size))
            #expect(value == 9)
            var linger = Glibc.linger()
            size = 8
            try call(demi_getsockopt(queue, SOL_SOCKET, SO_LINGER, &linger, &size))
            #expect(linger.l_onoff == 1 && linger.l_linger == 3)
        }
    }

    @Test func everyKeyStandsInTheManual() throws {
        let manual = try String(contentsOf: Interface.root.appendingPathComponent("scripts/c-interface/demikernel.yaml.5"), encoding: .utf8)
        for key in SettingKey.all {
            let parts = key.path.split(separator: ".", maxSplits: 1)
            #expect(manual.contains(".SS \(parts[0])") && manual.contains(String(parts[1])), "\(key.path)")
        }
        for choice in [LibraryOSChoice.catnap, .catnip, .catpowder, .catmem] { #expect(manual.contains(choice.rawValue)) }
    }

    /// In a process of its own, whose environment is nobody else's: what a C program and its starter see.
    @Test(.enabled(if: access("/usr/bin/gcc", X_OK) == 0, "needs gcc: apt-get install gcc libc6-dev"), arguments: [
        ("catnap", nil, 0, []),
        ("", nil, 0, []),
        ("catmem", nil, 0, []),
        ("catloop", "demikernel:\n  catmem_directory: /run/demikernel\n", 0, []),
        ("cattree", nil, ENOTSUP, ["demikernel: LIBOS=cattree: storage is not part of this library yet; LIBOS=catnap works over kernel sockets"]),
        ("catnip", nil, EINVAL, ["demikernel: demikernel.device: LIBOS=catnip needs a device, such as tap:demi0 or xdp:eth0"]),
        ("catpowder", nil, EINVAL, ["demikernel: raw_socket.linux_interface_name: LIBOS=catpowder needs the name of an interface"]),
        ("catnip", "demikernel:\n  device: tap:demi0\n", EINVAL, [
            "demikernel: demikernel.local_ipv4_addr: the user-level network needs an address: set CONFIG_PATH to a file that has one",
        ]),
        ("catnip", "demikernel:\n  device: ttp:demi0\n", EINVAL, [
            "demikernel: FILE: line 2: demikernel.device: \"ttp:demi0\" is no device of this version, which has: \(DeviceSpecification.forms.joined(separator: ", "))",
        ]),
        ("catfish", "demikernel:\n  idle: fast\n  heap_mebibytes: 1\n", EINVAL, [
            "demikernel: LIBOS=catfish: there is no such library OS; there are catnap, catnip, catpowder, catmem, catloop, catmint, cattree",
            "demikernel: FILE: line 2: demikernel.idle: fast is neither spin nor adaptive",
            "demikernel: FILE: line 3: demikernel.heap_mebibytes: 1 is no number from 4 to 65536",
        ]),
        ("catnap", "missing", ENOENT, ["demikernel: CONFIG_PATH=FILE: No such file or directory"]),
    ] as [(String, String?, Int32, [String])])
    func theEnvironmentChooses(libraryOS: String, text: String?, expected: Int32, sentences: [String]) throws {
        let (result, path) = try initialize([], libraryOS, text)
        #expect(result.status == expected)
        #expect(result.output.replacing(path, with: "FILE").split(separator: "\n").map(String.init) == sentences)
    }

    /// In a network namespace of its own.
    @Test(
        .enabled(if: access("/usr/bin/gcc", X_OK) == 0, "needs gcc: apt-get install gcc libc6-dev"),
        .enabled(if: geteuid() == 0 && access("/usr/sbin/ip", X_OK) == 0, "needs root and iproute2, for interfaces"),
        arguments: [
            ("catnip", "demikernel:\n  device: tap:demi2,host=10.0.0.1/24\n  local_ipv4_addr: 10.0.0.2\n  local_ipv6_addr: 2001:db8::2\n", 0),
            ("catpowder", "demikernel:\n  local_ipv4_addr: 10.0.0.2\nraw_socket:\n  linux_interface_name: demi0\n", 0),
            ("catpowder", "demikernel:\n  local_ipv4_addr: 10.0.0.2\nraw_socket:\n  linux_interface_name: lo\n", EAFNOSUPPORT),
            ("catpowder", "demikernel:\n  local_ipv4_addr: 10.0.0.2\nraw_socket:\n  linux_interface_name: absent0\n", ENODEV),
        ])
    func theUserNetworkRunsOverDevices(libraryOS: String, text: String, expected: Int32) throws {
        let cable = "ip link add demi0 type veth peer name demi1 && ip link set demi0 up && exec \"$0\""
        let (result, _) = try initialize(["/usr/bin/unshare", "--net", "--", "/bin/sh", "-c", cable], libraryOS, text)
        #expect(result.status == expected, "\(result.output)")
        #expect(expected == 0 || result.output.hasPrefix("demikernel: \(libraryOS)"), "\(result.output)")
    }

    /// Runs a program that does nothing but `demi_init`, behind the words of `prefix`.
    /// - Returns: its result, and the path of its settings.
    private func initialize(_ prefix: [String], _ libraryOS: String, _ text: String?) throws -> (result: (status: Int32, output: String), path: String) {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent("settings-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        let source = folder.appendingPathComponent("init.c")
        try "#include <demi/libos.h>\nint main(void) { struct demi_args args = {0, 0, 0}; return demi_init(&args); }\n"
            .write(to: source, atomically: true, encoding: .utf8)
        let program = folder.appendingPathComponent("init").path
        let compilation = try run("/usr/bin/gcc", [
            "-o", program, source.path, "-I", Interface.headers.deletingLastPathComponent().path, "-L", Interface.products.path, "-lDemikernelC",
            "-Wl,-rpath,\(Interface.products.path)",
        ])
        try #require(compilation.status == 0, "\(compilation.output)")
        let file = folder.appendingPathComponent("demikernel.yaml")
        var environment = ["LIBOS": libraryOS]
        if let text {
            environment["CONFIG_PATH"] = file.path
            if text != "missing" { try text.write(to: file, atomically: true, encoding: .utf8) }
        }
        let words = prefix + [program]
        return (try run(words[0], Array(words.dropFirst()), environment: environment), file.path)
    }
}
