/// What is wrong with the text of a configuration: every mistake, each with its mend.
public struct ConfigurationMistakes: Error, Equatable, Sendable, CustomStringConvertible {
    public let mistakes: [String]

    public init(_ mistakes: [String]) {
        self.mistakes = mistakes
    }

    public var description: String { mistakes.joined(separator: "\n") }
}
