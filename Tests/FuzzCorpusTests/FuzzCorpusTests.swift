import Foundation
import FuzzTargets
import Testing

/// Every input that the fuzzers keep, and every one that was ever found to break something, is run again.
@Suite struct FuzzCorpusTests {
    private static let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
        .appendingPathComponent("FuzzTesting")

    private static func inputs(_ kind: String, _ target: FuzzTarget) -> [URL] {
        let folder = folder.appendingPathComponent(kind).appendingPathComponent(target.rawValue)
        let files = try? FileManager.default.contentsOfDirectory(at: folder, includingPropertiesForKeys: nil, options: [.skipsHiddenFiles])
        return (files ?? []).sorted { $0.path < $1.path }
    }

    @Test(arguments: FuzzTarget.allCases)
    func everyKeptInputKeepsThePromises(target: FuzzTarget) throws {
        let inputs = FuzzCorpusTests.inputs("Corpus", target)
        #expect(inputs.count >= 5, "there is no corpus for \(target.rawValue)")
        for file in inputs + FuzzCorpusTests.inputs("Found", target) {
            let bytes = try Data(contentsOf: file)
            let failure = bytes.withUnsafeBytes { input -> FuzzFailure? in
                do throws(FuzzFailure) {
                    try target.run(input)
                    return nil
                } catch {
                    return error
                }
            }
            #expect(failure == nil, "\(file.lastPathComponent): \(failure?.description ?? "")")
        }
    }

    @Test(arguments: FuzzTarget.allCases)
    func theEmptyInputKeepsThePromises(target: FuzzTarget) throws {
        try target.run(UnsafeRawBufferPointer(start: nil, count: 0))
    }
}
