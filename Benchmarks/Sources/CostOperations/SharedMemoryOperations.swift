import Demikernel
import Glibc

// Queues in shared memory, with both ends in this process: a unit of 64 bytes goes through the ring and is pushed again. Time stands still, so that no turn
// looks at the sockets.

private func makeRuntime() throws(DemikernelError) -> Runtime {
    var configuration = RuntimeConfiguration()
    configuration.clock = RuntimeClock(injected: { _ in 1_000_000_000 }, context: nil)
    configuration.idle = .spin
    return try Runtime(configuration, libraryOSes: [.catmem])
}

/// Both ends of a connection.
private func connect(_ runtime: borrowing Runtime) throws(DemikernelError) -> (client: QueueDescriptor, server: QueueDescriptor) {
    let address = try SocketAddress(path: "/tmp/demikernel-cost-\(getpid()).sock")
    let listener = try runtime.socket(.path, .stream)
    try runtime.bind(listener, to: address)
    try runtime.listen(listener, backlog: 1)
    let client = try runtime.socket(.path, .stream)
    let connect = try runtime.connect(client, to: address)
    let completion = try runtime.wait(try runtime.accept(listener))
    guard case .accepted(let server, _) = consume completion.result else { fatalError("the accept failed") }
    _ = try runtime.wait(connect)
    try runtime.close(listener)
    return (client, server)
}

/// The unit stands in the ring when it is popped.
@inline(never)
func pushThroughSharedMemory(_ count: Int) throws(DemikernelError) {
    let runtime = try makeRuntime()
    let (client, server) = try connect(runtime)
    var unit = try ScatterGatherArray(runtime.allocate(64))
    for _ in 0..<count {
        pushed(try runtime.wait(try runtime.push(client, unit)))
        unit = popped(try runtime.wait(try runtime.pop(server)))
    }
}

/// The pop waits for the unit, which a turn finds.
@inline(never)
func popFromSharedMemory(_ count: Int) throws(DemikernelError) {
    let runtime = try makeRuntime()
    let (client, server) = try connect(runtime)
    var unit = try ScatterGatherArray(runtime.allocate(64))
    for _ in 0..<count {
        let pop = try runtime.pop(server)
        pushed(try runtime.wait(try runtime.push(client, unit)))
        unit = popped(try runtime.wait(pop))
    }
}
