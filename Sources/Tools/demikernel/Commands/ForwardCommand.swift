import ArgumentParser
import Demikernel
import EthernetDevice
import Glibc

struct ForwardCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "forward",
        abstract: "Send every frame of a device back as it came: what the device alone can carry.",
        discussion: """
            No stack, and no look at a frame: what dpdk-testpmd does with --forward-mode=io on one port. It spins, and stops on SIGINT and SIGTERM.

            EXAMPLES
              demikernel forward --device memif:/run/user/1000/m.sock,role=server
              sudo demikernel forward --device dpdk:net_memif0,role=server,socket=/run/m.sock,socket-abstract=no
            """)

    @Option(help: ArgumentHelp("The Ethernet device, as --device of the servers has it.", valueName: "kind:interface"))
    var device: String

    @Option(help: ArgumentHelp("How to idle: this command only spins.", valueName: "policy", visibility: .hidden))
    var idle: String?

    @OptionGroup var process: ProcessOptions

    private static let burst = 32

    func run() throws {
        Interruption.watch()
        try process.apply()
        let specification: DeviceSpecification
        do throws(ConfigurationMistakes) { specification = try DeviceSpecification(parsing: device) } catch {
            throw ValidationError("--device: \(error)")
        }
        do throws(DemikernelError) {
            let heap = try DatapathHeap()
            defer { heap.close() }
            let device = try InterfaceConfiguration(device: specification).openDevice(heap: heap)
            defer { device.close() }
            try device.attach(heap)
            StandardStreams.writeOutput("demikernel forward: forwarding on \(specification)\n")
            forward(device)
            let statistics = device.statistics
            ReadyLine.printEnd("forward", "\(statistics.receivedFrames) frames received, \(statistics.transmittedFrames) sent back")
        } catch {
            throw CommandFailure("\(specification): \(error)\(DeviceSpecification.takeDriverMessage().map { " [\($0)]" } ?? "")")
        }
    }

    private func forward(_ device: EthernetDevice) {
        let frames = UnsafeMutablePointer<Frame>.allocate(capacity: Self.burst)
        defer { frames.deallocate() }
        while !Interruption.isRequested {
            let count = device.receive(frames, capacity: Self.burst)
            guard count > 0 else { continue }
            // What finds no room is lost, as in any forwarder.
            for index in device.transmit(frames, count: count)..<count { frames[index].releaseArray() }
        }
    }
}
