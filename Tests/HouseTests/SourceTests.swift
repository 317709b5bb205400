import Testing

@Suite struct SourceTests {
    private static let layersBelowTools = Layer.allCases.filter { $0 != .tools }.map { "Sources/\($0.rawValue)" }

    @Test func theSourcesAreFound() {
        #expect(Repository.swiftFiles(below: "Sources").count > 30)
        #expect(Repository.swiftFiles(below: "Tests").contains("Tests/HouseTests/SourceTests.swift"))
    }

    @Test func nothingBelowToolsImportsFoundation() throws {
        for layer in SourceTests.layersBelowTools {
            for path in Repository.swiftFiles(below: layer) {
                for (number, line) in try Repository.lines(of: path).enumerated() {
                    #expect(!importsFoundation(line), "\(path):\(number + 1)")
                }
            }
        }
    }

    @Test(arguments: [
        ("import Foundation", true), ("  @preconcurrency import Foundation", true), ("public import FoundationEssentials", true),
        ("import struct Foundation.Date", true), ("import FoundationNetworking; import Glibc", true), ("import Glibc", false),
        ("// import Foundation", false), ("import FoundationOfMyOwn", true), ("let foundation = 1", false),
    ])
    func anImportOfFoundationIsSeen(line: String, expected: Bool) {
        #expect(importsFoundation(Substring(line)) == expected)
    }

    @Test func thePackageHasNoUnsafeFlags() throws {
        #expect(!(try Repository.text(of: "Package.swift")).contains("unsafeFlags"))
    }

    @Test func noSwiftFileIsOver600Lines() throws {
        for path in ["Sources", "Tests", "Benchmarks", "Examples", "FuzzTesting"].flatMap({ Repository.swiftFiles(below: $0) }) {
            let text = try Repository.text(of: path)
            let count = text.utf8.count { $0 == UInt8(ascii: "\n") }
            #expect(count <= 600, "\(path) has \(count) lines")
        }
    }

    @Test func noSourceHasAnythingLeftToDo() throws {
        for path in Repository.files(below: "Sources") {
            for (number, line) in try Repository.lines(of: path).enumerated() {
                for mark in ["TODO", "FIXME", "XXX"] { #expect(!containsWord(line, mark), "\(path):\(number + 1)") }
            }
        }
    }

    /// Whether the line imports Foundation, or one of the modules it is made of, at its start.
    private func importsFoundation(_ line: Substring) -> Bool {
        let words = line.split { $0 == " " || $0 == "\t" || $0 == "." || $0 == ";" }
        guard let position = words.firstIndex(of: "import"), words[..<position].allSatisfy({ isModifier($0) }) else { return false }
        return words[(position + 1)...].contains { $0.hasPrefix("Foundation") }
    }

    private func isModifier(_ word: Substring) -> Bool {
        word.hasPrefix("@") || ["public", "package", "internal", "fileprivate", "private"].contains(word)
    }

    private func containsWord(_ line: Substring, _ mark: String) -> Bool {
        line.split { !($0.isLetter || $0.isNumber || $0 == "_") }.contains { $0 == mark }
    }
}
