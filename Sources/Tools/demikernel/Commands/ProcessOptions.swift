import ArgumentParser

/// Options of every server about its own process.
struct ProcessOptions: ParsableArguments {
    @Option(help: ArgumentHelp("Bind the server to this processor.", valueName: "processor"))
    var cpu: Int?

    @Flag(help: ArgumentHelp("End when the process that started this one ends.", visibility: .hidden))
    var endWithParent = false

    func apply() throws(CommandFailure) {
        if endWithParent { ParentProcess.endTogether() }
        if let cpu { try ProcessorPinning.pin(to: cpu) }
    }
}
