import Foundation

/// The package as it lies on disk, found from this file.
enum Repository {
    static let root: URL = {
        var directory = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
        while !FileManager.default.fileExists(atPath: directory.appendingPathComponent("Package.swift").path) {
            precondition(directory.path != "/", "no Package.swift above the tests")
            directory.deleteLastPathComponent()
        }
        return directory
    }()

    /// The Swift files below a folder, as paths from the root; hidden folders (build products) are left out.
    static func swiftFiles(below folder: String) -> [String] {
        files(below: folder).filter { $0.hasSuffix(".swift") }
    }

    static func files(below folder: String) -> [String] {
        let start = root.appendingPathComponent(folder)
        let paths = FileManager.default.enumerator(at: start, includingPropertiesForKeys: [.isRegularFileKey], options: [.skipsHiddenFiles])
        var found: [String] = []
        while let file = paths?.nextObject() as? URL {
            guard (try? file.resourceValues(forKeys: [.isRegularFileKey]).isRegularFile) == true else { continue }
            found.append(folder + file.standardizedFileURL.path.dropFirst(start.standardizedFileURL.path.count))
        }
        return found.sorted()
    }

    static func lines(of path: String) throws -> [Substring] {
        try text(of: path).split(separator: "\n", omittingEmptySubsequences: false)
    }

    static func text(of path: String) throws -> String {
        String(decoding: try Data(contentsOf: root.appendingPathComponent(path)), as: UTF8.self)
    }
}
