/// Metrics in Prometheus' text exposition format, version 0.0.4.
public enum PrometheusText {
    /// What an HTTP server says of it.
    public static let contentType = "text/plain; version=0.0.4; charset=utf-8"

    /// All values of a metric stand together, behind its help and type. Histograms are in seconds.
    public static func format(_ list: MetricList) -> String {
        var text = ""
        for metric in list.metrics {
            text += "# HELP \(metric.name) \(escaped(help: "\(metric.help)"))\n# TYPE \(metric.name) \(metric.kind.rawValue)\n"
            for sample in metric.samples {
                switch sample.value {
                case .number(let number): text += "\(metric.name)\(labels(sample.labels)) \(number)\n"
                case .histogram(let histogram): append(histogram, "\(metric.name)", sample.labels, to: &text)
                }
            }
        }
        return text
    }

    private static func append(_ histogram: LatencyHistogram, _ name: String, _ common: [Metric.Label], to text: inout String) {
        var count: UInt64 = 0
        for bucket in 0..<LatencyHistogram.bucketCount {
            count &+= histogram[bucket]
            let bound = LatencyHistogram.upperBound(of: bucket).map(seconds) ?? "+Inf"
            text += "\(name)_bucket\(labels(common + [Metric.Label("le", bound)])) \(count)\n"
        }
        text += "\(name)_sum\(labels(common)) \(seconds(histogram.sum))\n\(name)_count\(labels(common)) \(count)\n"
    }

    /// Nanoseconds as seconds, to the last digit.
    static func seconds(_ nanoseconds: UInt64) -> String {
        let digits = String(nanoseconds % 1_000_000_000)
        return "\(nanoseconds / 1_000_000_000)." + String(repeating: "0", count: 9 - digits.count) + digits
    }

    private static func labels(_ labels: [Metric.Label]) -> String {
        labels.isEmpty ? "" : "{" + labels.map { "\($0.name)=\"\(escaped(value: $0.value))\"" }.joined(separator: ",") + "}"
    }

    private static func escaped(help: String) -> String { escaped(help, quotes: false) }

    private static func escaped(value: String) -> String { escaped(value, quotes: true) }

    private static func escaped(_ text: String, quotes: Bool) -> String {
        var result = ""
        for character in text.unicodeScalars {
            switch character {
            case "\\": result += "\\\\"
            case "\n": result += "\\n"
            case "\"" where quotes: result += "\\\""
            default: result.unicodeScalars.append(character)
            }
        }
        return result
    }
}
