import Glibc

/// A folder that only this user can enter, for sockets; removed at its end with what is left in it.
final class TemporaryFolder {
    let path: String
    private var names: [String] = []

    /// In the user's own runtime folder where there is one, else in /tmp.
    init() throws(CommandFailure) {
        let parent = getenv("XDG_RUNTIME_DIR").map { String(cString: $0) } ?? "/tmp"
        var template = Array("\(parent)/demikernel-XXXXXX".utf8CString)
        guard let made = template.withUnsafeMutableBufferPointer({ mkdtemp($0.baseAddress!).map { String(cString: $0) } }) else {
            throw CommandFailure("make a folder for sockets in \(parent)", errno: errno)
        }
        path = made
    }

    deinit {
        // A server that was killed leaves its socket.
        for name in names { unlink("\(path)/\(name)") }
        rmdir(path)
    }

    func file(_ name: String) -> String {
        names.append(name)
        return "\(path)/\(name)"
    }
}
