/// A cable between the machine and a network namespace: a veth pair. One end is for a library OS, the kernel is at the other.
///
/// Both ends carry a mark, and nothing without it is touched.
enum Testbed {
    /// The end that a device is on; it has no address.
    static let deviceInterface = "demi0"
    /// The kernel's end.
    static let kernelInterface = "demi1"
    static let namespace = "demikernel"
    static let kernelAddress = "10.0.0.1/24"
    static let kernelIPv6Address = "2001:db8::1/64"
    static let stackAddress = "10.0.0.2/24"
    static let stackIPv6Address = "2001:db8::2/64"
    private static let mark = "demikernel-testbed"

    enum State: Equatable {
        case absent
        case up
        /// Something of the same name is there, and was not made by a testbed.
        case foreign(String)
    }

    static func state() throws(CommandFailure) -> State {
        let hasNamespace = try IPProgram.run("netns list").split(separator: "\n").contains { $0.split(separator: " ").first.map(String.init) == namespace }
        let hasInterface = try IPProgram.succeeds("link show dev \(deviceInterface)")
        if hasInterface, !(try isMarked("")) { return .foreign("the interface \(deviceInterface)") }
        if hasNamespace, !(try isMarked("-n \(namespace) ", kernelInterface)) { return .foreign("the network namespace \(namespace)") }
        return hasInterface && hasNamespace ? .up : .absent
    }

    private static func isMarked(_ scope: String, _ interface: String = deviceInterface) throws(CommandFailure) -> Bool {
        guard try IPProgram.succeeds("\(scope)link show dev \(interface)") else { return false }
        return try IPProgram.run("\(scope)link show dev \(interface)").contains("alias \(mark)")
    }

    /// Makes both ends and the namespace; what was made is taken back when something fails.
    static func up() throws(CommandFailure) {
        try IPProgram.run("netns add \(namespace)").discard()
        do throws(CommandFailure) {
            try IPProgram.run("link add \(deviceInterface) type veth peer name \(kernelInterface) netns \(namespace)").discard()
            try configure("", "-n \(namespace) ")
        } catch {
            try? IPProgram.run("link delete \(deviceInterface)").discard()
            try? IPProgram.run("netns delete \(namespace)").discard()
            throw error
        }
    }

    static func down() throws(CommandFailure) {
        try IPProgram.run("link delete \(deviceInterface)").discard()
        try IPProgram.run("netns delete \(namespace)").discard()
    }

    /// Both ends in the network namespace of this process.
    static func makeHere() throws(CommandFailure) {
        try IPProgram.run("link set lo up").discard()
        try IPProgram.run("link add \(deviceInterface) type veth peer name \(kernelInterface)").discard()
        try configure("", "")
    }

    private static func configure(_ device: String, _ kernel: String) throws(CommandFailure) {
        try IPProgram.run("\(device)link set dev \(deviceInterface) alias \(mark) up").discard()
        if !kernel.isEmpty { try IPProgram.run("\(kernel)link set lo up").discard() }
        try IPProgram.run("\(kernel)link set dev \(kernelInterface) alias \(mark) up").discard()
        try IPProgram.run("\(kernel)address add \(kernelAddress) dev \(kernelInterface)").discard()
        // Nobody else is on the cable: no need to wait until that has been found out. A kernel without IPv6 has none.
        try? IPProgram.run("\(kernel)-6 address add \(kernelIPv6Address) dev \(kernelInterface) nodad").discard()
    }
}

extension String {
    fileprivate func discard() {}
}
