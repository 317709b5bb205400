import ArgumentParser

/// Options of every server about its own process.
struct ProcessOptions: ParsableArguments {
    @Option(help: ArgumentHelp("Bind the server to this processor.", valueName: "processor"))
    var cpu: Int?

    @Option(help: ArgumentHelp("The process that started this one; this one ends with it.", valueName: "pid", visibility: .hidden))
    var endWithParent: Int32?

    func apply() throws(CommandFailure) {
        if let endWithParent { ParentProcess.endTogether(with: endWithParent) }
        if let cpu { try ProcessorPinning.pin(to: cpu) }
    }
}
