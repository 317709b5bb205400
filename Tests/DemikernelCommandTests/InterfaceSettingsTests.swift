import Demikernel
import Testing

@testable import DemikernelCommand

@Suite struct InterfaceSettingsTests {
    private func read(
        flags: [(key: SettingKey, flag: String, value: String?)] = [], environment: [String: String] = [:], yaml: String = ""
    ) throws -> (settings: ServerSettings, mistakes: [String]) {
        SettingsReader.read([.flags(flags), .environment(environment), try .yaml(Array(yaml.utf8), name: "server.yaml")])
    }

    @Test func aFileDescribesAnInterface() throws {
        let yaml = """
            demikernel:
              libos: catnip
              device: tap:demi0,host=10.0.0.1/24,host=2001:db8::1/64
              address: [10.0.0.2/24, "2001:db8::2/64"]
              gateway: 10.0.0.1
              local_link_addr: "02:00:00:00:00:07"
              neighbors: ["10.0.0.9=02:00:00:00:00:09"]
            inetstack_config: { mtu: 1400 }
            """
        let (settings, mistakes) = try read(yaml: yaml)
        #expect(mistakes == [])
        let interface = try #require(settings.interface)
        #expect("\(interface.device)" == "tap:demi0,host=10.0.0.1/24,host=2001:db8::1/64")
        #expect(interface.addresses.map(\.description) == ["10.0.0.2/24"])
        #expect(interface.ipv6Addresses.map(\.description) == ["2001:db8::2/64"])
        #expect(interface.gateway?.description == "10.0.0.1")
        #expect(interface.macAddress?.description == "02:00:00:00:00:07")
        #expect(interface.neighbors.first?.macAddress.description == "02:00:00:00:00:09")
        #expect(interface.maximumTransmissionUnit == 1400)
        #expect(settings.carrier == "catnip on tap:demi0,host=10.0.0.1/24,host=2001:db8::1/64")
    }

    @Test func aDeviceOfDPDKIsADriverWithItsOptions() throws {
        let (settings, mistakes) = try read(flags: [
            (.libOS, "--libos", "catnip"), (.device, "--device", "dpdk:net_virtio_user0,path=/run/x.sock,queue_size=1024"),
            (.address, "--address", "10.0.0.2/24"),
        ])
        #expect(mistakes == [])
        #expect(settings.carrier == "catnip on dpdk:net_virtio_user0,path=/run/x.sock,queue_size=1024")
        #expect(throws: ConfigurationMistakes.self) { try DeviceSpecification(parsing: "dpdk:,iface=eth0") }
        #if !DPDK
        let error = #expect(throws: DemikernelError.self) { _ = try Runtime(libraryOSes: [settings.libraryOS(nil)]) }
        #expect(error?.message.description.contains("swift build --traits DPDK") == true)
        #endif
    }

    @Test func anAddressInTheEnvironmentWinsOverTheFileAndAFlagOverBoth() throws {
        let yaml = "demikernel: { libos: catnip, device: 'tap:a', address: 10.0.0.3/24 }"
        let environment = ["DEMIKERNEL_ADDRESS": "10.0.0.4/24,2001:db8::4/64"]
        #expect(try read(environment: environment, yaml: yaml).settings.interface?.ipv6Addresses.count == 1)
        let flagged = try read(flags: [(.address, "--address", "10.0.0.5/24")], environment: environment, yaml: yaml)
        #expect(flagged.mistakes == [])
        #expect(flagged.settings.interface?.addresses.map(\.description) == ["10.0.0.5/24"])
    }

    @Test func allMistakesOfAnInterfaceAreListedAtOnce() throws {
        let mistakes = try read(flags: [
            (.libOS, "--libos", "catnip"), (.device, "--device", "tap:demi0,hots=1"), (.address, "--address", "10.0.0.2,2001:db8::2/200"),
            (.gateway, "--gateway", "10.1.0.1,x"), (.mtu, "--mtu", "9"), (.macAddress, "--mac-address", "01:00:00:00:00:00"),
            (.neighbors, "--neighbor", "10.0.0.1"),
        ]).mistakes
        for part in [
            "\"hots=1\"", "\"10.0.0.2\" must be an address", "\"2001:db8::2/200\" must be an address", "10.1.0.1 is not on the link", "\"x\" must be the address of a gateway",
            "--mtu: must be a whole number from 576 to 65521", "must be the address of one station", "\"10.0.0.1\" must be a neighbour's two addresses",
        ] {
            #expect(mistakes.count { $0.contains(part) } == 1, "\(part) in \(mistakes)")
        }
        #expect(mistakes.count == 8)
    }

    @Test func catnipNeedsADeviceAndAnAddress() throws {
        let mistakes = try read(environment: ["LIBOS": "catnip"]).mistakes
        #expect(mistakes.count == 2)
        #expect(mistakes.contains { $0.contains("needs a device") } && mistakes.contains { $0.contains("needs an address") })
    }

    @Test func kernelSocketsTakeNoDeviceFromAFlagAndIgnoreThatOfAFile() throws {
        #expect(try read(flags: [(.device, "--device", "tap:demi0")]).mistakes.count == 1)
        #expect(try read(yaml: "demikernel: { device: 'tap:demi0' }").mistakes == [])
    }

    @Test(arguments: [
        "tap:demi0", "tap:demi0,host=10.0.0.1/24,host=2001:db8::1/64", "xdp:eth0", "xdp:eth0,ports=80+8000-8999,group=239.1.2.3,group=ff05::1",
        "xdp:eth0,ports=7,shared,mode=native,checksums=verify", "xdp:eth0,checksums=offload", "xdp:eth0,mode=generic,checksums=partial",
    ]) func aDeviceIsShownAsItIsWritten(text: String) throws {
        #expect("\(try DeviceSpecification(parsing: text))" == text)
    }

    @Test(arguments: ["xdp:eth0,ports=", "xdp:eth0,ports=0", "xdp:eth0,ports=9-8", "xdp:eth0,ports=70000", "xdp:eth0,group=10.0.0.1", "xdp:eth0,mode=fast",
                      "xdp:eth0,shared=1", "xdp:eth0,"]) func whatAnXDPDeviceHasNot(text: String) {
        #expect(throws: ConfigurationMistakes.self) { _ = try DeviceSpecification(parsing: text) }
    }

    @Test func sharedAddressesNeedPortsAndNeighbours() throws {
        let error = #expect(throws: ConfigurationMistakes.self) {
            _ = try InterfaceConfiguration(device: "xdp:eth0,shared", addresses: ["10.0.0.2/24"], maximumTransmissionUnit: 1400, macAddress: "02:00:00:00:00:01")
        }
        #expect(error?.mistakes.count == 4, "\(String(describing: error))")
    }

    @Test(arguments: ["demi0", "tap:", "tap:a/b", "tap:sixteen-letters-", "dpdk:0", "tap:a,host=10.0.0.1"]) func whatIsNoDevice(text: String) {
        #expect(throws: ConfigurationMistakes.self) { _ = try DeviceSpecification(parsing: text) }
    }
}
