import Glibc

/// Why a thread got no runtime: an errno for the program, and sentences for whoever started it.
struct InitializationFailure: Error {
    let errno: Int32
    let sentences: [String]

    init(_ errno: Int32, _ sentences: String...) {
        self.errno = errno
        self.sentences = sentences
    }

    init(_ errno: Int32, _ sentences: [String]) {
        self.errno = errno
        self.sentences = sentences
    }

    /// Writes the sentences to the standard error output, a line each.
    func report() {
        for sentence in sentences {
            var line = "demikernel: \(sentence)\n"
            line.withUTF8 { _ = write(STDERR_FILENO, $0.baseAddress, $0.count) }
        }
    }
}
