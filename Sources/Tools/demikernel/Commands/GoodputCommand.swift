import ArgumentParser
import Glibc
import Simulation

struct GoodputCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "goodput",
        abstract: "Measure what TCP brings through links with losses and delays, in virtual time.",
        discussion: """
            Transfers over a bottleneck whose queue holds one bandwidth-delay product: one connection or two, with losses from none to 1 %, round trips from \
            1 to 50 ms, and each algorithm of congestion control; then small requests one after the other. Nothing in it is chance but a seed, so that \
            the figures are the same on every machine: they stand in Benchmarks/goodput.txt, and a change of the stack that changes them shows there.

            Mbit/s     payload that came out of the streams, after the start-up of 1 s (20 s where two share)
            of link    the same, of what the link can carry when it is never idle and carries nothing twice
            again      segments that were sent again, of all
            in vain    those that were there already
            start-up   frames that found the queue full in the start-up
            lost       the same after it
            median     bytes in the queue when frames came, after the start-up; and what 99 % of them found no more than
            RTOs       retransmission timeouts
            even       goodput of the slower of two connections, of the faster one's
            fastest    milliseconds that the fastest request has taken; the others are told by how much longer they took

            EXAMPLES
              demikernel goodput > Benchmarks/goodput.txt
              demikernel goodput --only '2 connections' --svg sharing.svg
            """)

    @Option(help: ArgumentHelp("Play the scenarios whose name or sender has this in it.", valueName: "text"))
    var only: String?

    @Option(help: ArgumentHelp("How many worlds are played at once; as many as there are processors when left out.", valueName: "count"))
    var jobs: Int?

    @Option(help: ArgumentHelp("Draw the transfers' goodput over time into this file.", valueName: "file"))
    var svg: String?

    func validate() throws {
        if let jobs, !(1...256).contains(jobs) { throw ValidationError("--jobs must be 1 to 256") }
    }

    func run() throws {
        let wanted = only.map { only in { (name: String) in name.contains(only) } } ?? { _ in true }
        let snapshot = GoodputSnapshot(
            GoodputGrid.transfers.filter { wanted("\($0.name) \($0.sender)") }, GoodputGrid.requests.filter { wanted("\($0.name) \($0.variant)") })
        guard snapshot.count > 0 else { throw CommandFailure("no scenario has \(only ?? "") in its name") }
        Interruption.watch()
        var progress = Progress()
        let jobs = jobs ?? max(1, Int(sysconf(Int32(_SC_NPROCESSORS_ONLN))))
        try snapshot.run(jobs: min(jobs, snapshot.count)) { progress.show("\($0) of \(snapshot.count) scenarios") }
        progress.finish()
        StandardStreams.writeOutput(snapshot.text)
        if let svg { try StandardStreams.writeFile(svg, snapshot.chart.svg()) }
        if Interruption.isRequested { throw ExitCode(Interruption.exitCode) }
    }
}
