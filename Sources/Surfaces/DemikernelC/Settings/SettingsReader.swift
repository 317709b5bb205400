/// Reads the part of YAML that settings are written in: mappings by indentation, scalars plain and quoted, lists in brackets or of lines with a dash,
/// comments. What else YAML has is a mistake with a name, never a guess. Whatever the text, the work is linear and the result bounded.
struct SettingsReader {
    /// A value, and where it stands.
    struct Entry: Equatable {
        /// The keys that lead to it.
        let path: [String]
        let value: Value
        let line: Int
    }

    enum Value: Equatable {
        case text(String)
        case list([String])
        /// A key with nothing behind it and nothing below.
        case nothing
    }

    static let maximumByteCount = 65_536
    static let maximumEntries = 1_024
    static let maximumDepth = 8

    private(set) var entries: [Entry] = []
    /// In the order of their lines.
    private(set) var mistakes: [String] = []

    /// A mapping that lines may continue.
    private struct Level {
        let indentation: Int
        let path: [String]
        var keys: Set<String> = []
    }

    /// A key whose value was not on its line: a mapping, a list of lines, or nothing.
    private struct OpenKey {
        let indentation: Int
        let path: [String]
        let line: Int
        var items: [String] = []
    }

    private var levels: [Level] = []
    private var openKey: OpenKey?
    /// A list in brackets that goes on over lines.
    private var openList: (path: [String], text: String, line: Int)?

    init(_ text: [UInt8]) {
        guard text.count <= SettingsReader.maximumByteCount else {
            mistakes = ["the file is larger than \(SettingsReader.maximumByteCount) bytes"]
            return
        }
        var number = 0
        for bytes in text.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false) {
            number += 1
            let line = bytes.last == UInt8(ascii: "\r") ? bytes.dropLast() : bytes
            guard let string = String(validating: line, as: UTF8.self), !line.contains(where: { $0 < 0x20 && $0 != UInt8(ascii: "\t") }) else {
                note(number, "the line is no text in UTF-8")
                continue
            }
            read(string, number)
            guard entries.count <= SettingsReader.maximumEntries else {
                note(number, "there are more than \(SettingsReader.maximumEntries) settings")
                return
            }
        }
        if let openList { note(openList.line, "a list has no closing bracket") }
        closeKey()
    }

    private mutating func note(_ line: Int, _ sentence: String) {
        mistakes.append("line \(line): \(sentence)")
    }

    private mutating func read(_ line: String, _ number: Int) {
        let content = SettingsReader.withoutComment(line)
        let indentation = content.prefix { $0 == " " }.count
        let text = content.dropFirst(indentation)
        guard !text.allSatisfy({ $0 == " " || $0 == "\t" }) else { return }
        if var list = openList {
            list.text += " " + text
            openList = list
            return finishList()
        }
        if text.first == "\t" { return note(number, "indentation is made of spaces, not of tabs") }
        if text == "---" && indentation == 0 && entries.isEmpty && levels.isEmpty && openKey == nil { return }
        if text == "---" || text == "..." { return note(number, "there is one document in a file") }
        if text == "-" || text.hasPrefix("- ") { return readItem(text.dropFirst(), indentation, number) }
        readKey(text, indentation, number)
    }

    private mutating func readItem(_ text: Substring, _ indentation: Int, _ number: Int) {
        guard var key = openKey, indentation >= key.indentation else { return note(number, "a list stands behind its key") }
        guard let item = scalar(text, number) else { return }
        guard !item.isEmpty || text.contains(where: { $0 == "\"" || $0 == "'" }) else { return note(number, "an item of a list is empty") }
        key.items.append(item)
        openKey = key
    }

    private mutating func readKey(_ text: Substring, _ indentation: Int, _ number: Int) {
        guard let (name, rest) = splitKey(text, number) else { return }
        guard enter(indentation, number) else { return }
        let level = levels[levels.count - 1]
        guard levels[levels.count - 1].keys.insert(name).inserted else {
            return note(number, "\((level.path + [name]).joined(separator: ".")) is set twice")
        }
        let path = level.path + [name]
        guard path.count <= SettingsReader.maximumDepth else { return note(number, "keys are nested more than \(SettingsReader.maximumDepth) deep") }
        let value = rest.trimmed
        if value.isEmpty {
            openKey = OpenKey(indentation: indentation, path: path, line: number)
        } else if value.first == "[" {
            openList = (path, String(value), number)
            finishList()
        } else if value == "{}" {
            entries.append(Entry(path: path, value: .nothing, line: number))
        } else if let text = scalar(value, number) {
            entries.append(Entry(path: path, value: .text(text), line: number))
        }
    }

    /// Finds the mapping that a line belongs to.
    private mutating func enter(_ indentation: Int, _ number: Int) -> Bool {
        if let key = openKey, indentation > key.indentation, key.items.isEmpty {
            openKey = nil
            levels.append(Level(indentation: indentation, path: key.path))
            return true
        }
        closeKey()
        if levels.isEmpty { levels = [Level(indentation: 0, path: [])] }
        while levels.count > 1, let last = levels.last, indentation < last.indentation { levels.removeLast() }
        guard levels[levels.count - 1].indentation == indentation else {
            note(number, "the indentation is that of no key above")
            return false
        }
        return true
    }

    private mutating func closeKey() {
        guard let key = openKey else { return }
        entries.append(Entry(path: key.path, value: key.items.isEmpty ? .nothing : .list(key.items), line: key.line))
        openKey = nil
    }

    // MARK: Parts of a line

    /// A key and what follows its colon.
    private mutating func splitKey(_ text: Substring, _ number: Int) -> (String, Substring)? {
        if let quote = text.first, quote == "\"" || quote == "'" {
            guard let (name, rest) = quoted(text, number) else { return nil }
            let behind = rest.trimmed
            guard behind.first == ":" else {
                note(number, "a colon is missing behind the key")
                return nil
            }
            return (name, behind.dropFirst())
        }
        var position = text.startIndex
        while let colon = text[position...].firstIndex(of: ":") {
            let next = text.index(after: colon)
            // Others belong to the key, as in a hardware address.
            if next == text.endIndex || text[next] == " " {
                let name = text[..<colon].trimmed
                if name.isEmpty || "?&*!|>%@`{[".contains(name.first ?? "?") { break }
                return (String(name), text[next...])
            }
            position = next
        }
        note(number, "this is no setting: one is written key: value")
        return nil
    }

    /// One value, plain or in quotes.
    private mutating func scalar(_ text: Substring, _ number: Int) -> String? {
        let value = text.trimmed
        guard let first = value.first else { return "" }
        if first == "\"" || first == "'" {
            guard let (string, rest) = quoted(value, number) else { return nil }
            guard rest.trimmed.isEmpty else {
                note(number, "something follows a closing quote")
                return nil
            }
            return string
        }
        guard !"&*!|>%@`{[".contains(first) else {
            note(number, "a value that begins with \(first) is not read here: put it in quotes")
            return nil
        }
        return String(value)
    }

    /// What stands in quotes, and what follows them.
    private mutating func quoted(_ text: Substring, _ number: Int) -> (String, Substring)? {
        let quote = text[text.startIndex]
        var result = ""
        var rest = text.dropFirst()
        while let character = rest.first {
            rest = rest.dropFirst()
            if character == quote {
                // In single quotes, two of them stand for one.
                guard quote == "'", rest.first == "'" else { return (result, rest) }
                rest = rest.dropFirst()
            } else if character == "\\", quote == "\"" {
                guard let escaped = rest.first, escaped == "\\" || escaped == "\"" else {
                    note(number, "behind a backslash stands a backslash or a quote")
                    return nil
                }
                result.append(escaped)
                rest = rest.dropFirst()
                continue
            }
            result.append(character)
        }
        note(number, "a quote is not closed")
        return nil
    }

    /// Reads a list in brackets if its closing one has come.
    private mutating func finishList() {
        guard let (path, text, number) = openList, SettingsReader.unquoted(text).contains("]") else { return }
        openList = nil
        var items: [String] = []
        var rest = text.dropFirst().trimmed
        while rest.first != "]" {
            var item: String
            if let quote = rest.first, quote == "\"" || quote == "'" {
                guard let (string, behind) = quoted(rest, number) else { return }
                item = string
                rest = behind.trimmed
            } else {
                let end = rest.firstIndex { $0 == "," || $0 == "]" } ?? rest.endIndex
                item = String(rest[..<end].trimmed)
                rest = rest[end...]
                if item.isEmpty { return note(number, "an item of a list is empty") }
            }
            items.append(item)
            if rest.first == "," {
                rest = rest.dropFirst().trimmed
            } else if rest.first != "]" {
                return note(number, "a comma is missing in a list")
            }
        }
        guard rest.dropFirst().trimmed.isEmpty else { return note(number, "something follows a closing bracket") }
        entries.append(Entry(path: path, value: .list(items), line: number))
    }

    /// A line up to its comment: a # at its start or behind a space, outside of quotes.
    private static func withoutComment(_ line: String) -> Substring {
        guard line.contains("#") else { return line[...] }
        var quote: Character?
        var previous: Character = " "
        for index in line.indices {
            let character = line[index]
            if let open = quote {
                if character == open && !(open == "\"" && previous == "\\") { quote = nil }
            } else if (character == "\"" || character == "'") && " [,-:".contains(previous) {
                quote = character
            } else if character == "#" && previous == " " {
                return line[..<index]
            }
            previous = character
        }
        return line[...]
    }

    /// A text without what stands in quotes.
    private static func unquoted(_ text: String) -> String {
        var quote: Character?
        var previous: Character = " "
        var result = ""
        for character in text {
            if let open = quote {
                if character == open && !(open == "\"" && previous == "\\") { quote = nil }
            } else if (character == "\"" || character == "'") && " [,".contains(previous) {
                quote = character
            } else {
                result.append(character)
            }
            previous = character
        }
        return result
    }
}

extension Substring {
    /// Without spaces and tabs at either end.
    fileprivate var trimmed: Substring {
        var rest = drop { $0 == " " || $0 == "\t" }
        while let last = rest.last, last == " " || last == "\t" { rest.removeLast() }
        return rest
    }
}
