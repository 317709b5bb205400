import DatapathMemory
import Demikernel
import EthernetDevice
import Glibc
import TAPDevice
import XDPDevice

/// What works on this machine, found by trying.
struct Diagnosis {
    /// The library OS and what it is over.
    let name: String
    let works: Bool
    /// How it works, or why it does not and what mends that.
    let text: String

    var line: String { name.padded(to: 18) + (works ? "works  " : "no     ") + text }

    static func all() -> [Diagnosis] { [kernelSockets(), sharedMemory(), memif(), tap(), xdp(), memory()] }

    private static func kernelSockets() -> Diagnosis {
        attempt("catnap") { () throws(DemikernelError) in
            let runtime = try Runtime(smallConfiguration, libraryOSes: [.catnap])
            try runtime.close(try runtime.socket(.ipv4, .stream))
            return "kernel sockets"
        }
    }

    private static func sharedMemory() -> Diagnosis {
        attempt("catmem") { () throws(DemikernelError) in
            let path = temporaryPath("catmem")
            let runtime = try Runtime(smallConfiguration, libraryOSes: [.catmem])
            let listener = try runtime.socket(.path, .stream)
            try runtime.bind(listener, to: try SocketAddress(path: path))
            try runtime.listen(listener, backlog: 1)
            let client = try runtime.socket(.path, .stream)
            let completion = try runtime.wait(try runtime.connect(client, to: try SocketAddress(path: path)), timeout: .seconds(5))
            if case .failed(let error, _) = consume completion.result { throw error }
            return "shared memory between processes of one user"
        }
    }

    private static func memif() -> Diagnosis {
        attempt("catnip on memif") { () throws(DemikernelError) in
            // Its socket is removed with it.
            let specification = DeviceSpecification.Memif(path: temporaryPath("memif"), role: .server)
            let heap = try DatapathHeap()
            defer { heap.close() }
            let device = try InterfaceConfiguration(device: .memif(specification)).openDevice(heap: heap)
            defer { device.close() }
            return describe(device)
        }
    }

    private static func temporaryPath(_ name: String) -> String { "/tmp/demikernel-doctor-\(name)-\(getpid()).sock" }

    private static func tap() -> Diagnosis {
        attempt("catnip on tap") { () throws(DemikernelError) in
            // Gone again with the descriptor.
            let device = try TAPDevice.open(TAPConfiguration(name: "demidoctor\(getpid() % 10_000)"))
            defer { device.close() }
            return describe(device)
        }
    }

    private static func xdp() -> Diagnosis {
        attempt("catnip on xdp") { () throws(DemikernelError) in
            try XDPDevice.check()
            return "AF_XDP; `demikernel doctor --device xdp:INTERFACE` says what a driver grants"
        }
    }

    private static func memory() -> Diagnosis {
        attempt("memory") { () throws(DemikernelError) in
            let heap = try DatapathHeap(MemoryConfiguration(usesHugePages: true))
            defer { heap.close() }
            return heap.statistics.pages == .huge
                ? "huge pages" : "ordinary pages; huge ones would need `sudo sysctl -w vm.nr_hugepages=32` for each runtime of 64 MiB"
        }
    }

    /// Opens the device of a specification, and takes no frame from the kernel.
    static func device(_ specification: DeviceSpecification) -> Diagnosis {
        attempt("\(specification)") { () throws(DemikernelError) in
            let heap = try DatapathHeap()
            defer { heap.close() }
            let device = try InterfaceConfiguration(device: specification).openDevice(heap: heap)
            defer { device.close() }
            return describe(device)
        }
    }

    private static func describe(_ device: EthernetDevice) -> String {
        let capabilities = device.capabilities
        return """
            \(capabilities.driverMode); received by \(capabilities.receiveMode), sent by \(capabilities.transmitMode); \
            \(capabilities.receiveQueueCount) queue\(capabilities.receiveQueueCount == 1 ? "" : "s"), \
            MTU \(capabilities.maximumFrameByteCount - DeviceCapabilities.ethernetHeaderByteCount), \
            \(capabilities.offloads.contains(.receiveChecksumTCP) ? "partial checksums accepted, " : "")\
            \(device.prepareToSleep() == EthernetDevice.cannotWake ? "naps of 50 us when idle" : "sleeps when idle")
            """
    }

    private static var smallConfiguration: RuntimeConfiguration {
        var configuration = RuntimeConfiguration()
        configuration.memory.arenaByteCount = 4 << 20
        return configuration
    }

    private static func attempt(_ name: String, _ body: () throws(DemikernelError) -> String) -> Diagnosis {
        do throws(DemikernelError) {
            return Diagnosis(name: name, works: true, text: try body())
        } catch {
            return Diagnosis(name: name, works: false, text: "\(error)")
        }
    }
}

extension String {
    fileprivate func padded(to width: Int) -> String { self + String(repeating: " ", count: max(1, width - count)) }
}
