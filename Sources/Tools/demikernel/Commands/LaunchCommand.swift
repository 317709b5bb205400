import ArgumentParser
import Glibc

/// Becomes another program, bound to a processor and to the end of the process that started it: both last through `execve`.
struct LaunchCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "launch", abstract: "Run a program bound to a processor, and end it with the process that started it.", shouldDisplay: false)

    @OptionGroup var process: ProcessOptions

    @Argument(parsing: .postTerminator, help: ArgumentHelp("The program and its arguments.", valueName: "command"))
    var command: [String]

    func run() throws {
        try process.apply()
        var arguments: [UnsafeMutablePointer<CChar>?] = command.map { strdup($0) }
        arguments.append(nil)
        execvp(command[0], arguments)
        throw CommandFailure("run \(command[0])", errno: errno)
    }
}
