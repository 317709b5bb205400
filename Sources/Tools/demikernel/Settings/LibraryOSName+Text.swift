import Demikernel

extension LibraryOSName {
    /// What it is, for help and tables.
    var summary: String {
        switch self {
        case .catnap: "kernel sockets"
        case .catmem: "shared memory between processes"
        case .catnip: "user-level TCP/IP on an Ethernet device"
        }
    }

    /// Whether it serves an interface of its own.
    var needsDevice: Bool { self == .catnip }

    /// Whether shards listen on one port by an option of their sockets; otherwise each has a stack of its own.
    var sharesPortsByOption: Bool { self == .catnap }

    /// Names of the family that this version has nothing behind.
    static let absent: [(name: String, summary: String)] = [
        ("catpowder", "user-level TCP/IP over raw sockets"), ("catmint", "RDMA"), ("cattree", "storage"),
    ]

    /// What is wrong with a name, with the mend.
    static func mistake(_ name: String) -> String {
        let known = allCases.map { "\($0.rawValue) (\($0.summary))" }.joined(separator: ", ")
        if let absent = absent.first(where: { $0.name == name }) {
            return "the library OS \(name) (\(absent.summary)) is not in this version, which has: \(known)"
        }
        let suggestion = NearMiss.suggestion(for: name, among: allCases.map(\.rawValue)).map { ", did you mean \($0)?" } ?? ";"
        return "there is no library OS named \"\(name)\"\(suggestion) this version has: \(known)"
    }
}
