extension ByteSlice {
    /// Whether this pattern matches `text`, by the rules of Redis's `stringmatchlen`: `*`, `?`, `[a-z]`, `[^a]` and `\` before
    /// a literal byte.
    ///
    /// Only the last `*` is ever tried again, so the time is at most proportional to the product of the lengths.
    func isGlob(matching text: ByteSlice, ignoringCase: Bool = false) -> Bool {
        var patternIndex = 0
        var textIndex = 0
        var retry: (pattern: Int, text: Int)?
        while textIndex < text.count {
            if patternIndex < count && self[patternIndex] == UInt8(ascii: "*") {
                patternIndex += 1
                retry = (patternIndex, textIndex)
            } else if let next = matchOne(at: patternIndex, text[textIndex], ignoringCase) {
                patternIndex = next
                textIndex += 1
            } else if let last = retry {
                patternIndex = last.pattern
                textIndex = last.text + 1
                retry = (patternIndex, textIndex)
            } else {
                return false
            }
        }
        while patternIndex < count && self[patternIndex] == UInt8(ascii: "*") { patternIndex += 1 }
        return patternIndex == count
    }

    /// The index behind the part of the pattern at `index` if that matches `byte`.
    private func matchOne(at index: Int, _ byte: UInt8, _ ignoringCase: Bool) -> Int? {
        guard index < count else { return nil }
        func folded(_ byte: UInt8) -> UInt8 { ignoringCase ? byte.lowercasedASCII : byte }
        switch self[index] {
        case UInt8(ascii: "?"):
            return index + 1
        case UInt8(ascii: "["):
            return matchClass(at: index + 1, folded(byte), folded)
        case UInt8(ascii: "\\") where index + 1 < count:
            return folded(self[index + 1]) == folded(byte) ? index + 2 : nil
        case let literal:
            return folded(literal) == folded(byte) ? index + 1 : nil
        }
    }

    /// A class that is not closed ends with the pattern.
    private func matchClass(at start: Int, _ byte: UInt8, _ folded: (UInt8) -> UInt8) -> Int? {
        var index = start
        let isNegated = index < count && self[index] == UInt8(ascii: "^")
        if isNegated { index += 1 }
        var isMember = false
        while index < count && self[index] != UInt8(ascii: "]") {
            if self[index] == UInt8(ascii: "\\") && index + 1 < count {
                isMember = isMember || folded(self[index + 1]) == byte
                index += 2
            } else if index + 2 < count && self[index + 1] == UInt8(ascii: "-") {
                let bounds = (folded(self[index]), folded(self[index + 2]))
                isMember = isMember || (min(bounds.0, bounds.1)...max(bounds.0, bounds.1)).contains(byte)
                index += 3
            } else {
                isMember = isMember || folded(self[index]) == byte
                index += 1
            }
        }
        return isMember != isNegated ? min(index + 1, count) : nil
    }
}
