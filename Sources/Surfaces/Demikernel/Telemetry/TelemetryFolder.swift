import Glibc

/// Where processes publish their telemetry: one folder for each user, which nobody else can enter, with a socket for each process.
public enum TelemetryFolder {
    /// The folders that a user's processes may publish in, the preferred one first: in `$XDG_RUNTIME_DIR`, in `/run/user/UID`, in `/tmp`.
    /// - Parameter user: nil for this process's own, whose `$XDG_RUNTIME_DIR` is known.
    public static func candidates(ofUser user: uid_t? = nil) -> [String] {
        let identifier = user ?? geteuid()
        var paths: [String] = []
        if user == nil || user == geteuid(), let folder = getenv("XDG_RUNTIME_DIR").map({ String(cString: $0) }), folder.hasPrefix("/"),
            isOwn(folder, identifier)
        {
            paths.append("\(folder)/demikernel")
        }
        if isOwn("/run/user/\(identifier)", identifier), !paths.contains("/run/user/\(identifier)/demikernel") {
            paths.append("/run/user/\(identifier)/demikernel")
        }
        return paths + ["/tmp/demikernel-\(identifier)"]
    }

    /// Makes the first of the candidates that can be made, with mode 0700.
    /// - Throws: `EACCES` when all of them are somebody else's, or open to others.
    public static func make() throws(DemikernelError) -> String {
        for path in candidates() where mkdir(path, 0o700) == 0 || errno == EEXIST {
            if isPrivate(path) { return path }
        }
        throw DemikernelError(
            EACCES, .bind, "no folder for telemetry can be made: /tmp/demikernel-UID is another user's, or others may enter it; remove it")
    }

    /// The socket of a process.
    public static func socketPath(in folder: String, process: pid_t) -> String { "\(folder)/\(process).sock" }

    /// Whether a folder is this user's alone. A link is not followed: in /tmp another user may have made it.
    public static func isPrivate(_ path: String, ofUser user: uid_t = geteuid()) -> Bool {
        var status = stat()
        return lstat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFDIR && status.st_uid == user && status.st_mode & 0o077 == 0
    }

    private static func isOwn(_ path: String, _ user: uid_t) -> Bool {
        var status = stat()
        return stat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFDIR && status.st_uid == user
    }
}
