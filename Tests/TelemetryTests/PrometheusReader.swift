/// Reads Prometheus' text exposition format 0.0.4 as its documentation tells it (https://prometheus.io/docs/instrumenting/exposition_formats/), strictly, and
/// without a look at how it was written.
struct PrometheusReader {
    struct FormatError: Error, CustomStringConvertible {
        let description: String
    }

    struct Family {
        var type = ""
        var help = ""
        var samples: [(name: String, labels: [String: String], value: Double)] = []
    }

    private(set) var families: [String: Family] = [:]

    init(_ text: String) throws {
        guard text.last == "\n" else { throw FormatError(description: "the last line has no end") }
        var current = ""
        for line in text.split(separator: "\n") {
            if line.hasPrefix("# HELP ") || line.hasPrefix("# TYPE ") {
                let words = line.split(separator: " ", maxSplits: 3)
                guard words.count == 4 else { throw FormatError(description: "\(line)") }
                let name = String(words[2])
                if words[1] == "HELP" {
                    // All lines of a metric stand together.
                    guard families[name] == nil, Self.isName(name, colons: true) else {
                        throw FormatError(description: "\(name) comes twice, or is no name")
                    }
                    families[name] = Family(help: String(words[3]))
                    current = name
                } else {
                    guard current == name, families[name]?.type == "", families[name]?.samples.isEmpty == true else {
                        throw FormatError(description: "a type in the wrong place: \(line)")
                    }
                    guard ["counter", "gauge", "histogram", "summary", "untyped"].contains(words[3]) else {
                        throw FormatError(description: "\(line)")
                    }
                    families[name]?.type = String(words[3])
                }
            } else {
                let sample = try Self.sample(line)
                let suffixes = families[current]?.type == "histogram" ? ["_bucket", "_sum", "_count"] : [""]
                guard suffixes.contains(where: { current + $0 == sample.name }) else {
                    throw FormatError(description: "\(sample.name) among \(current)")
                }
                let isRepeated = families[current]?.samples.contains { $0.name == sample.name && $0.labels == sample.labels }
                guard isRepeated == false else { throw FormatError(description: "twice: \(line)") }
                families[current]?.samples.append(sample)
            }
        }
        for (name, family) in families { try Self.check(name, family) }
    }

    /// The value of the one sample with these labels among its own.
    func value(_ name: String, _ labels: [String: String] = [:]) throws -> Double {
        let found = families.values.flatMap(\.samples).filter { sample in
            sample.name == name && labels.allSatisfy { sample.labels[$0.key] == $0.value }
        }
        guard found.count == 1 else { throw FormatError(description: "\(found.count) samples of \(name) \(labels)") }
        return found[0].value
    }

    private static func check(_ name: String, _ family: Family) throws {
        switch family.type {
        case "counter":
            guard name.hasSuffix("_total") else { throw FormatError(description: "the counter \(name)") }
        case "gauge":
            guard !name.hasSuffix("_total") else { throw FormatError(description: "the gauge \(name)") }
        case "histogram":
            var series: [[String: String]: (bounds: [Double], counts: [Double])] = [:]
            for sample in family.samples where sample.name.hasSuffix("_bucket") {
                guard let bound = sample.labels["le"].flatMap({ $0 == "+Inf" ? .infinity : Double($0) }) else {
                    throw FormatError(description: "no le in \(name)")
                }
                let key = sample.labels.filter { $0.key != "le" }
                series[key, default: ([], [])].bounds.append(bound)
                series[key, default: ([], [])].counts.append(sample.value)
            }
            guard !series.isEmpty else { throw FormatError(description: "\(name) has no buckets") }
            for (labels, buckets) in series {
                let count = family.samples.first { $0.name == "\(name)_count" && $0.labels == labels }?.value
                guard buckets.bounds == buckets.bounds.sorted(), buckets.counts == buckets.counts.sorted(), buckets.bounds.last == .infinity,
                    buckets.counts.last == count, family.samples.contains(where: { $0.name == "\(name)_sum" && $0.labels == labels })
                else { throw FormatError(description: "the buckets of \(name) \(labels)") }
            }
        default: throw FormatError(description: "\(name) has no type")
        }
        guard !family.samples.isEmpty, !family.help.isEmpty else { throw FormatError(description: "\(name) has no samples or no help") }
    }

    private static func sample(_ line: Substring) throws -> (name: String, labels: [String: String], value: Double) {
        var rest = line
        let name = String(rest.prefix { $0 != "{" && $0 != " " })
        rest = rest.dropFirst(name.count)
        guard isName(name, colons: true) else { throw FormatError(description: "\(line)") }
        var labels: [String: String] = [:]
        if rest.first == "{" {
            rest = rest.dropFirst()
            while rest.first != "}" {
                let label = String(rest.prefix { $0 != "=" })
                rest = rest.dropFirst(label.count)
                guard isName(label, colons: false), labels[label] == nil, rest.hasPrefix("=\"") else { throw FormatError(description: "\(line)") }
                rest = rest.dropFirst(2)
                var value = ""
                while let character = rest.first, character != "\"" {
                    rest = rest.dropFirst()
                    if character == "\\" {
                        guard let escaped = rest.popFirst(), let meant = ["n": "\n", "\\": "\\", "\"": "\""][escaped] else {
                            throw FormatError(description: "\(line)")
                        }
                        value += meant
                    } else {
                        value.append(character)
                    }
                }
                guard rest.popFirst() == "\"" else { throw FormatError(description: "\(line)") }
                labels[label] = value
                if rest.first == "," { rest = rest.dropFirst() } else if rest.first != "}" { throw FormatError(description: "\(line)") }
            }
            rest = rest.dropFirst()
        }
        guard rest.popFirst() == " ", let value = Double(rest) else { throw FormatError(description: "\(line)") }
        return (name, labels, value)
    }

    private static func isName(_ name: String, colons: Bool) -> Bool {
        guard let first = name.unicodeScalars.first, !("0"..."9").contains(first) else { return false }
        return name.unicodeScalars.allSatisfy {
            ("a"..."z").contains($0) || ("A"..."Z").contains($0) || ("0"..."9").contains($0) || $0 == "_" || (colons && $0 == ":")
        }
    }
}
