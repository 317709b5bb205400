import Demikernel
import EthernetDevice
import Glibc
import NetworkStack
import WireFormats

/// Bytes of resident memory that an idle connection takes with a pop pending; a number on standard output.
///
/// One end of it, and everything of that: the stack's record and timer, the queue, the socket and the pop. The peer's end are frames without a stack
/// (`PeerDevice.Mode.answer`). The figure is the growth over `count` connections after a tenth of that, so that what is made once has been made.
func measureConnectionMemory(_ count: Int) throws(DemikernelError) {
    let session = try Session()
    let listener = try session.runtime.socket(.ipv4, .stream)
    try session.runtime.bind(listener, to: .any(port: 9))
    try session.runtime.listen(listener, backlog: 64)
    // One with a stack behind it: whose neighbours know each other from then on.
    let peer = session.device.peer.makeConnection(owner: 5)
    guard session.device.peer.connect(peer, to: Endpoint(address: PeerDevice.stackAddress, port: 9)) == 0 else { fatalError("the peer cannot connect") }
    _ = accepted(try session.runtime.wait(try session.runtime.accept(listener)))

    session.device.mode = .answer
    var port: UInt16 = 1_024
    func add(_ count: Int) throws(DemikernelError) {
        for _ in 0..<count {
            session.device.synchronize(from: port, to: 9)
            port += 1
            _ = try session.runtime.pop(accepted(try session.runtime.wait(try session.runtime.accept(listener))))
        }
    }
    try add(count / 10)
    let before = residentByteCount()
    try add(count)
    print((residentByteCount() - before) / count)
}

private func residentByteCount() -> Int {
    var pages = 0
    let file = fopen("/proc/self/statm", "r")
    defer { fclose(file) }
    var total = 0
    withUnsafeMutablePointer(to: &total) { total in
        withUnsafeMutablePointer(to: &pages) { pages in _ = withVaList([total, pages]) { vfscanf(file, "%ld %ld", $0) } }
    }
    return pages * 4_096
}
