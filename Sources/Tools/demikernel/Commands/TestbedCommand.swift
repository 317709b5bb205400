import ArgumentParser
import CLinux
import Glibc

struct TestbedCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "testbed",
        abstract: "A cable to try Ethernet devices on, with the Linux kernel at the other end.",
        discussion: """
            up makes a veth pair: \(Testbed.deviceInterface) for a library OS, and \(Testbed.kernelInterface) with \(Testbed.kernelAddress) and \
            \(Testbed.kernelIPv6Address) in the network namespace \(Testbed.namespace). down takes both away. \
            shell makes the pair in a network namespace of its own, and runs a shell or a command there; all of it is gone when that ends.

            EXAMPLES
              sudo demikernel testbed up
              sudo demikernel kv --libos catnip --device xdp:\(Testbed.deviceInterface) --address \(Testbed.stackAddress)
              sudo ip netns exec \(Testbed.namespace) redis-cli -h 10.0.0.2
              sudo demikernel testbed down
              demikernel testbed shell
            """,
        subcommands: [Up.self, Down.self, Shell.self])

    private static func requireRoot(_ command: String) throws {
        guard geteuid() == 0 else {
            throw CommandFailure("\(command) needs root: sudo demikernel \(command); `demikernel testbed shell` does without")
        }
    }

    struct Up: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Make the pair and the namespace; does nothing when they are there.")

        func run() throws {
            try requireRoot("testbed up")
            switch try Testbed.state() {
            case .up: print("the testbed is up already")
            case .foreign(let what):
                throw CommandFailure("\(what) exists, and is not the testbed's: rename or remove it, or use `demikernel testbed shell`")
            case .absent:
                try Testbed.up()
                print(
                    """
                    the testbed is up: \(Testbed.deviceInterface) here, \(Testbed.kernelAddress) and \(Testbed.kernelIPv6Address) \
                    in the network namespace \(Testbed.namespace)
                    """)
            }
        }
    }

    struct Down: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Take the pair and the namespace away; does nothing when they are not there.")

        func run() throws {
            try requireRoot("testbed down")
            switch try Testbed.state() {
            case .absent: print("the testbed is not up")
            case .foreign(let what): throw CommandFailure("\(what) is not the testbed's, and stays")
            case .up:
                try Testbed.down()
                print("the testbed is down")
            }
        }
    }

    struct Shell: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Run a shell or a command with a pair of its own.",
            discussion: """
                Without root it runs in a user namespace, where TAP works (if /dev/net/tun may be opened) and AF_XDP does not. \
                demikernel and the kernel are both inside: the stack at one end of the cable, the kernel at the other.

                EXAMPLES
                  demikernel testbed shell
                  demikernel testbed shell -- demikernel doctor
                """)

        @Argument(parsing: .postTerminator, help: ArgumentHelp("The command; your shell when left out.", valueName: "command"))
        var command: [String] = []

        func run() throws {
            let isRoot = geteuid() == 0
            guard (isRoot ? linux_unshare_network() : linux_unshare_user_and_network()) == 0 else {
                throw CommandFailure(
                    isRoot
                        ? "no network namespace can be made: \(String(cString: strerror(errno)))"
                        : "no user namespace can be made (\(String(cString: strerror(errno)))): allow them with `sudo sysctl -w user.max_user_namespaces=10000` "
                            + "(on Ubuntu also kernel.apparmor_restrict_unprivileged_userns=0), or run it with sudo")
            }
            try Testbed.makeHere()
            let shell = getenv("SHELL").map { String(cString: $0) } ?? "/bin/sh"
            let words = command.isEmpty ? [shell] : command
            if command.isEmpty {
                StandardStreams.writeError(
                    """
                    \(Testbed.kernelInterface) has \(Testbed.kernelAddress) and \(Testbed.kernelIPv6Address); \(Testbed.deviceInterface) is for a library OS. Try:
                      demikernel kv --libos catnip --device \(isRoot ? "xdp:demi0" : "tap:demi2,host=10.0.1.1/24") \
                    --address \(isRoot ? Testbed.stackAddress : "10.0.1.2/24") &

                    """)
            }
            var arguments: [UnsafeMutablePointer<CChar>?] = words.map { strdup($0) }
            arguments.append(nil)
            execvp(words[0], arguments)
            throw CommandFailure("run \(words[0])", errno: errno)
        }
    }
}
