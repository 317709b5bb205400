import Glibc
import Histogram

/// A latency curve: latencies over percentiles on the scale that HdrHistogram plots use, where each further nine takes the same room.
struct PercentileSeries: Sendable {
    struct Point: Equatable, Sendable {
        /// 0 to below 100.
        let percentile: Double
        /// Nanoseconds.
        let latency: Double
    }

    let name: String
    let points: [Point]

    init(name: String, points: [Point]) {
        self.name = name
        self.points = points
    }

    /// Points from the median up to the last percentile for which at least `support` samples lie above, `perDecade` for each nine.
    init(name: String, _ histogram: Histogram<UInt32>, perDecade: Int = 50, support: UInt64 = 5) {
        self.name = name
        guard histogram.totalCount > 0 else {
            points = []
            return
        }
        let first = Self.position(of: 50)
        let last = max(first, log10(Double(histogram.totalCount) / Double(support)))
        let count = Int(((last - first) * Double(perDecade)).rounded(.down))
        points = (0...count).map { step in
            let percentile = Self.percentile(at: first + Double(step) / Double(perDecade))
            return Point(percentile: percentile, latency: Double(histogram.valueAtPercentile(percentile)))
        }
    }

    /// Where a percentile stands on the axis: 50 % at 0.3, 90 % at 1, 99 % at 2, 99.9 % at 3.
    static func position(of percentile: Double) -> Double { -log10(1 - percentile / 100) }

    /// The inverse of `position(of:)`.
    static func percentile(at position: Double) -> Double { (1 - pow(10, -position)) * 100 }

    /// One line per point: `back-end,percentile,latency_ns`, with a line of titles first.
    static func commaSeparated(_ series: [PercentileSeries]) -> String {
        var lines = ["backend,percentile,latency_ns"]
        for curve in series {
            let name = curve.name.contains(where: { $0 == "," || $0 == "\"" }) ? "\"" + curve.name.split(separator: "\"", omittingEmptySubsequences: false).joined(separator: "\"\"") + "\"" : curve.name
            for point in curve.points {
                lines.append("\(name),\(NumberText.decimal(point.percentile, places: 6)),\(NumberText.decimal(point.latency, places: 0))")
            }
        }
        return lines.joined(separator: "\n") + "\n"
    }
}
