/// A table in aligned columns: the first one to the left, the others, which hold numbers, to the right.
struct TextTable: CustomStringConvertible {
    let titles: [String]
    private(set) var rows: [[String]] = []

    init(_ titles: [String]) {
        self.titles = titles
    }

    mutating func append(_ row: [String]) {
        precondition(row.count == titles.count, "a row has as many cells as there are titles")
        rows.append(row)
    }

    var description: String {
        let widths = titles.indices.map { column in
            ([titles] + rows).map { $0[column].count }.max()!
        }
        func line(_ cells: [String]) -> String {
            let padded = cells.enumerated().map { column, cell in
                let padding = String(repeating: " ", count: widths[column] - cell.count)
                return column == 0 ? cell + padding : padding + cell
            }
            // A left-aligned last column would leave blanks behind.
            var text = padded.joined(separator: "  ")
            while text.last == " " { text.removeLast() }
            return text
        }
        let rule = widths.map { String(repeating: "-", count: $0) }.joined(separator: "  ")
        return ([line(titles), rule] + rows.map(line)).joined(separator: "\n")
    }
}
