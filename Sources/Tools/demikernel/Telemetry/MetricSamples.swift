/// Metrics as a process has told them: what `top` reads of Prometheus' text exposition format.
struct MetricSamples {
    struct Sample: Equatable {
        var name: String
        var labels: [String: String]
        var value: Double
    }

    private(set) var samples: [Sample] = []
    private var places: [String: [Int]] = [:]

    /// Lines that are no samples are passed over.
    init(parsing text: String) {
        for line in text.split(separator: "\n") where !line.hasPrefix("#") {
            guard let sample = Self.sample(line) else { continue }
            places[sample.name, default: []].append(samples.count)
            samples.append(sample)
        }
    }

    /// All samples of a name whose labels have these values.
    func all(_ name: String, _ labels: [String: String] = [:]) -> [Sample] {
        (places[name] ?? []).map { samples[$0] }.filter { sample in labels.allSatisfy { sample.labels[$0.key] == $0.value } }
    }

    /// The sum of the samples of a name whose labels have these values.
    func sum(_ name: String, _ labels: [String: String] = [:]) -> Double {
        all(name, labels).reduce(0) { $0 + $1.value }
    }

    /// The values of a label, in their order.
    func values(of label: String, in name: String, _ labels: [String: String] = [:]) -> [String] {
        var found: [String] = []
        for sample in all(name, labels) {
            if let value = sample.labels[label], !found.contains(value) { found.append(value) }
        }
        return found
    }

    // MARK: Text

    private static func sample(_ line: Substring) -> Sample? {
        guard let end = line.firstIndex(where: { $0 == "{" || $0 == " " }), end != line.startIndex else { return nil }
        var rest = line[end...]
        var labels: [String: String] = [:]
        if rest.first == "{" {
            rest.removeFirst()
            while rest.first != "}" {
                guard let (name, value) = label(&rest) else { return nil }
                labels[name] = value
                if rest.first == "," { rest.removeFirst() }
            }
            rest.removeFirst()
        }
        guard rest.first == " ", let value = Double(rest.dropFirst()) else { return nil }
        return Sample(name: String(line[..<end]), labels: labels, value: value)
    }

    private static func label(_ rest: inout Substring) -> (String, String)? {
        guard let equals = rest.firstIndex(of: "=") else { return nil }
        let name = String(rest[..<equals])
        rest = rest[rest.index(after: equals)...]
        guard rest.first == "\"" else { return nil }
        rest.removeFirst()
        var value = ""
        while let character = rest.popFirst() {
            switch character {
            case "\"": return (name, value)
            case "\\":
                guard let escaped = rest.popFirst() else { return nil }
                value.append(escaped == "n" ? "\n" : escaped)
            default: value.append(character)
            }
        }
        return nil
    }
}
