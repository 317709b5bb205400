/// Finds what somebody probably meant.
enum NearMiss {
    /// The candidate with the least edit distance to `name`, when it is near enough to be a slip: a third of its letters at most.
    static func suggestion(for name: String, among candidates: [String]) -> String? {
        let best = candidates.map { (distance: distance(name, $0), name: $0) }.min { $0.distance < $1.distance }
        guard let best, best.distance <= max(1, min(name.count, best.name.count) / 3) else { return nil }
        return best.name
    }

    /// Letters to insert, remove, replace or swap with their neighbour (Damerau and Levenshtein, optimal string alignment).
    static func distance(_ left: String, _ right: String) -> Int {
        let a = Array(left)
        let b = Array(right)
        var beforePrevious = [Int](repeating: 0, count: b.count + 1)
        var previous = Array(0...b.count)
        for i in 0..<a.count {
            var current = [i + 1]
            for j in 0..<b.count {
                var cost = min(previous[j + 1] + 1, current[j] + 1, previous[j] + (a[i] == b[j] ? 0 : 1))
                if i > 0, j > 0, a[i] == b[j - 1], a[i - 1] == b[j] { cost = min(cost, beforePrevious[j - 1] + 1) }
                current.append(cost)
            }
            beforePrevious = previous
            previous = current
        }
        return previous[b.count]
    }
}
