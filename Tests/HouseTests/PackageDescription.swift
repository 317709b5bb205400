import Foundation

/// What `swift package describe --type json` says of the package.
struct PackageDescription: Decodable {
    struct Target: Decodable {
        let name: String
        let type: String
        let path: String
        let targetDependencies: [String]?
        let productDependencies: [String]?

        enum CodingKeys: String, CodingKey {
            case name, type, path
            case targetDependencies = "target_dependencies"
            case productDependencies = "product_dependencies"
        }

        /// A test, or a library for tests: nothing below Sources may depend on it.
        var isTest: Bool { type == "test" || path.hasPrefix("Tests/") }

        /// The folder below Sources: the layer.
        var layer: Layer? {
            let parts = path.split(separator: "/")
            guard parts.count >= 2, parts[0] == "Sources" else { return nil }
            return Layer(rawValue: String(parts[1]))
        }
    }

    struct DescribeError: Error, CustomStringConvertible {
        let description: String
    }

    let targets: [Target]

    /// Asks the package manager, with build products of its own: the tests run under one that holds the lock of the usual folder.
    static func load() throws -> PackageDescription {
        let scratch = FileManager.default.temporaryDirectory.appendingPathComponent("house-tests-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: scratch, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: scratch) }
        // To files, and not to pipes: nothing has to be read while it runs.
        let output = scratch.appendingPathComponent("description.json")
        let errors = scratch.appendingPathComponent("errors.txt")
        for file in [output, errors] { try Data().write(to: file) }

        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = [
            "swift", "package", "--package-path", Repository.root.path, "--scratch-path", scratch.appendingPathComponent("build").path,
            "describe", "--type", "json",
        ]
        process.standardOutput = try FileHandle(forWritingTo: output)
        process.standardError = try FileHandle(forWritingTo: errors)
        process.standardInput = FileHandle.nullDevice
        try process.run()
        process.waitUntilExit()
        guard process.terminationStatus == 0 else {
            let text = String(decoding: try Data(contentsOf: errors), as: UTF8.self)
            throw DescribeError(description: "swift package describe ended with \(process.terminationStatus): \(text)")
        }
        return try JSONDecoder().decode(PackageDescription.self, from: Data(contentsOf: output))
    }
}

/// The layers, lowest first.
enum Layer: String, CaseIterable, Comparable {
    case core = "Core"
    case devices = "Devices"
    case network = "Network"
    case libraryOS = "LibraryOS"
    case simulation = "Simulation"
    case surfaces = "Surfaces"
    case applications = "Applications"
    case tools = "Tools"

    static func < (left: Layer, right: Layer) -> Bool {
        allCases.firstIndex(of: left)! < allCases.firstIndex(of: right)!
    }
}
