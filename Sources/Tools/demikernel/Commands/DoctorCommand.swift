import ArgumentParser
import Demikernel

struct DoctorCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "doctor",
        abstract: "Say which library OSes and devices work here, in which mode, and what mends those that do not.",
        discussion: """
            Tries each of them, and leaves nothing behind. With --device that device is opened instead, and says what it obtained; \
            it takes no frame from the kernel meanwhile.

            EXAMPLES
              demikernel doctor
              sudo demikernel doctor --device xdp:eth0

            Exit codes: 0, or 1 when the device of --device does not work.
            """)

    @Option(help: ArgumentHelp("A device to open.", valueName: "kind:interface"))
    var device: String?

    func run() throws {
        guard let device else {
            for finding in Diagnosis.all() { print(finding.line) }
            return
        }
        let specification: DeviceSpecification
        do {
            specification = try DeviceSpecification(parsing: device)
        } catch {
            throw ValidationError("\(error)")
        }
        let finding = Diagnosis.device(specification)
        print(finding.line)
        if !finding.works { throw ExitCode.failure }
    }
}
