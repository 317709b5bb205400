import Glibc

/// A failure that ends a command with exit code 1. The text says what failed and, where it is known, how to mend it.
struct CommandFailure: Error, CustomStringConvertible {
    let description: String

    init(_ description: String) {
        self.description = description
    }

    /// A failed system call: "connect to 127.0.0.1:1: Connection refused".
    init(_ what: String, errno code: Int32) {
        description = "\(what): \(String(cString: strerror(code)))"
    }
}
