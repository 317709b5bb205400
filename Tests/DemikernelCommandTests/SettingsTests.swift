import Demikernel
import Testing

@testable import DemikernelCommand

@Suite struct SettingsTests {
    private func read(
        flags: [(key: SettingKey, flag: String, value: String?)] = [], environment: [String: String] = [:], yaml: String = ""
    ) throws -> (settings: ServerSettings, mistakes: [String]) {
        SettingsReader.read([.flags(flags), .environment(environment), try .yaml(Array(yaml.utf8), name: "server.yaml")])
    }

    @Test func nothingSetGivesTheDefaults() throws {
        let (settings, mistakes) = try read()
        #expect("\(settings)" == "\(ServerSettings())")
        #expect(mistakes == [])
    }

    @Test func catmemNeedsAPathAndTheOthersHaveNone() throws {
        let yaml = "demikernel: { libos: catmem, path: /run/kv.sock }"
        let (settings, mistakes) = try read(yaml: yaml)
        #expect(mistakes == [])
        #expect(settings.libOS == .catmem && settings.path == "/run/kv.sock")
        #expect(try read(environment: ["LIBOS": "catmem"]).mistakes.first?.contains("--path") == true)
        #expect(try read(environment: ["DEMIKERNEL_PATH": "/run/kv.sock"]).mistakes.first?.contains("catmem only") == true)
        #expect(try read(flags: [(.path, "--path", "/run/a.sock")], environment: ["LIBOS": "catmem", "DEMIKERNEL_PATH": "/run/b.sock"]).settings.path == "/run/a.sock")
    }

    @Test func aFlagWinsOverTheEnvironmentAndThatOverTheFile() throws {
        let yaml = """
            demikernel:
              idle: adaptive
              memory_mebibytes: 100
              limits:
                maximum_queues: 10
            """
        let environment = ["DEMIKERNEL_IDLE": "adaptive", "DEMIKERNEL_MEMORY_MEBIBYTES": "200", "LIBOS": "catnap"]
        let (settings, mistakes) = try read(flags: [(.idle, "--idle", "spin"), (.memory, "--memory", nil)], environment: environment, yaml: yaml)
        #expect(mistakes == [])
        #expect(settings.idle == .spin)
        #expect(settings.memoryMebibytes == 200)
        #expect(settings.maximumQueues == 10)
    }

    @Test func theOriginalsSocketOptionsAreRead() throws {
        let yaml = """
            tcp_socket_options:
              keepalive: { enabled: true, time_millis: 60000, interval: 5 }
              linger: { enabled: yes, time_seconds: 0 }
              nodelay: false
            """
        let (settings, mistakes) = try read(yaml: yaml)
        #expect(mistakes == [])
        #expect(settings.keepAlive == .init(timeMilliseconds: 60_000, intervalSeconds: 5))
        #expect(settings.lingerSeconds == 0)
        #expect(settings.socketOptions == [.noDelay(false), .keepAlive(idle: 60, interval: 5), .linger(seconds: 0)])
    }

    @Test func optionsThatAreNotEnabledHaveNoEffect() throws {
        let yaml = """
            tcp_socket_options:
              keepalive: { enabled: false, time_millis: 60000, interval: 5 }
              linger: { enabled: false, time_seconds: 3 }
              nodelay: true
            """
        let (settings, mistakes) = try read(yaml: yaml)
        #expect(mistakes == [])
        #expect(settings.socketOptions == [])
    }

    @Test func settingsOfTheOriginalForOtherDevicesAreAccepted() throws {
        let yaml = """
            demikernel: { local_ipv4_addr: 10.0.0.1 }
            dpdk: { eal_init: ["-c", "0xff"] }
            inetstack_config:
              mtu: 1500
              arp_table:
                "aa:bb:cc:dd:ee:ff": 10.0.0.2
            """
        #expect(try read(yaml: yaml).mistakes == [])
    }

    @Test func allMistakesAreListedAtOnce() throws {
        let yaml = """
            demikernel:
              idel: spin
              memory_mebibytes: [1, 2]
            tcp_socket_options:
              nodelay: perhaps
              linger: { enabled: true }
            """
        let environment = ["DEMIKERNEL_MEMORY": "4", "LIBOS": "catnipp", "DEMIKERNEL_LIMITS_MAXIMUM_QUEUES": "0"]
        let mistakes = try read(flags: [(.idle, "--idle", "spni")], environment: environment, yaml: yaml).mistakes
        #expect(mistakes.count == 8)
        func has(_ parts: String...) -> Bool { mistakes.contains { mistake in parts.allSatisfy { mistake.contains($0) } } }
        #expect(has("server.yaml", "demikernel.idel", "did you mean demikernel.idle?"))
        #expect(has("server.yaml: demikernel.memory_mebibytes", "from 4 to 65536", "not a list"))
        #expect(has("server.yaml: tcp_socket_options.nodelay", "true or false", "\"perhaps\""))
        #expect(has("tcp_socket_options.linger.enabled", "needs tcp_socket_options.linger.time_seconds"))
        #expect(has("unknown environment variable DEMIKERNEL_MEMORY"))
        #expect(has("LIBOS", "catnipp", "catnap"))
        #expect(has("DEMIKERNEL_LIMITS_MAXIMUM_QUEUES", "from 1 to 1048575", "\"0\""))
        #expect(has("--idle", "spin or adaptive", "did you mean spin?"))
    }

    @Test func settingsThatContradictEachOtherAreAMistake() throws {
        let mistakes = try read(flags: [(.idle, "--idle", "spin")], environment: ["DEMIKERNEL_IDLE_SPIN_MICROS": "5"]).mistakes
        #expect(mistakes.count == 1)
        #expect(mistakes.first?.contains("DEMIKERNEL_IDLE_SPIN_MICROS") == true)
    }

    @Test func shardsAreOneToSixtyFour() throws {
        #expect(SettingsReader.read([.flags([])]).settings.shards == 1)
        let two = SettingsReader.read([.flags([(.shards, "--shards", "2")])])
        #expect(two.mistakes == [])
        #expect(two.settings.shards == 2)
        for count in ["0", "65", "two"] {
            #expect(SettingsReader.read([.flags([(.shards, "--shards", count)])]).mistakes.count == 1, "\(count)")
        }
    }

    @Test func shardsServeWhereOneAddressCanBeShared() throws {
        func mistakes(_ flags: [(SettingKey, String, String?)]) -> [String] {
            SettingsReader.read([.flags([(.shards, "--shards", "2")] + flags)]).mistakes
        }
        let address: (SettingKey, String, String?) = (.address, "--address", "10.0.0.2/24")
        #expect(mistakes([(.libOS, "--libos", "catnip"), (.device, "--device", "tap:demi0"), address]) == [])
        #expect(mistakes([(.libOS, "--libos", "catnip"), (.device, "--device", "xdp:demi0"), address]) == [])
        let memif = mistakes([(.libOS, "--libos", "catnip"), (.device, "--device", "memif:/run/x.sock"), address])
        #expect(memif.count == 1 && memif[0].contains("serves one shard"), "\(memif)")
        #expect(mistakes([(.libOS, "--libos", "catmem"), (.path, "--path", "/run/x.sock")]).count == 1)
    }

    @Test func anEmptyVariableIsNotSet() throws {
        #expect(try read(environment: ["LIBOS": "", "DEMIKERNEL_IDLE": ""]).mistakes == [])
    }

    @Test(arguments: ["", "# only a comment\n", "\n\n"]) func aFileWithoutSettingsIsNoMistake(yaml: String) throws {
        let (settings, mistakes) = try read(yaml: yaml)
        #expect("\(settings)" == "\(ServerSettings())")
        #expect(mistakes == [])
    }

    @Test(arguments: ["just words", "- a\n- list\n", "key: [unclosed", "a: b: c"]) func aFileThatIsNoMappingIsRefused(yaml: String) {
        #expect(throws: CommandFailure.self) { _ = try read(yaml: yaml) }
    }

    @Test func everyKeyHasItsOwnEnvironmentVariable() {
        let names = SettingKey.all.map(\.environmentName)
        #expect(Set(names).count == names.count)
        #expect(SettingKey.libOS.environmentName == "LIBOS")
        #expect(SettingKey.keepAliveTime.environmentName == "DEMIKERNEL_TCP_SOCKET_OPTIONS_KEEPALIVE_TIME_MILLIS")
        #expect(SettingKey.memory.environmentName == "DEMIKERNEL_MEMORY_MEBIBYTES")
    }

    @Test func theRuntimesConfigurationFollows() {
        var settings = ServerSettings()
        #expect(settings.runtimeConfiguration.idle == RuntimeConfiguration().idle)
        settings.spinMicroseconds = 7
        settings.memoryMebibytes = 8
        settings.maximumOperations = 9
        #expect(settings.runtimeConfiguration.idle == .adaptive(spinNanoseconds: 7000))
        #expect(settings.runtimeConfiguration.memory.arenaByteCount == 8 << 20)
        #expect(settings.runtimeConfiguration.limits.maximumOperations == 9)
        settings.idle = .spin
        #expect(settings.runtimeConfiguration.idle == .spin)
    }

    @Test func nearMisses() {
        #expect(NearMiss.distance("idle", "idel") == 1)
        #expect(NearMiss.distance("kitten", "sitting") == 3)
        #expect(NearMiss.distance("", "abc") == 3)
        #expect(NearMiss.suggestion(for: "catnpa", among: ["catnap", "catnip"]) == "catnap")
        #expect(NearMiss.suggestion(for: "elephant", among: ["catnap", "catnip"]) == nil)
    }

    @Test func aLibraryOSOfAnotherVersionIsNamed() {
        #expect(LibraryOSName.mistake("catmint").contains("RDMA"))
        #expect(LibraryOSName.mistake("catnpa").contains("did you mean catnap?"))
        #expect(LibraryOSName.mistake("x").contains("catnap (kernel sockets)"))
    }
}
