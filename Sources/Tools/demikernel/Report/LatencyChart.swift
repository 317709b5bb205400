import Glibc

/// Latency curves as an SVG: percentile on the usual HDR scale to the right, latency on a logarithmic scale upwards, one panel per load side by side.
struct LatencyChart {
    struct Panel {
        var title: String
        var series: [PercentileSeries]
    }

    var title: String
    var subtitle: String
    var panels: [Panel]

    // Colours that stay apart for colour-blind readers as well (Okabe and Ito), dark enough on white.
    private static let colours = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#8A6D00", "#56B4E9"]
    private static let dashes = ["", "7 4", "2 3", "9 3 2 3"]

    private static let panelWidth = 560.0
    private static let plotHeight = 340.0
    private static let leftMargin = 74.0
    private static let rightMargin = 22.0
    private static let plotTop = 118.0

    func svg() -> String {
        let width = Double(panels.count) * Self.panelWidth + 20
        let height = Self.plotTop + Self.plotHeight + 70
        let range = latencyRange
        var parts = [
            """
            <svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 \(text(width)) \(text(height))" width="\(text(width))" height="\(text(height))" \
            font-family="system-ui, 'DejaVu Sans', Helvetica, Arial, sans-serif">
            """,
            "<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>",
            label(20, 32, title, size: 19, weight: "600"),
            label(20, 53, subtitle, size: 12.5, colour: "#57606a"),
            legend(),
        ]
        for (index, panel) in panels.enumerated() {
            parts.append(draw(panel, left: Double(index) * Self.panelWidth + Self.leftMargin, range: range))
        }
        parts.append("</svg>\n")
        return parts.joined(separator: "\n")
    }

    // MARK: Scales

    /// The names in the order of their first appearance: a back-end keeps its colour over all panels.
    private var names: [String] {
        var names: [String] = []
        for series in panels.flatMap(\.series) where !names.contains(series.name) { names.append(series.name) }
        return names
    }

    /// Microseconds, widened to steps of 1, 2 and 5; the same for all panels so that they can be compared by eye.
    private var latencyRange: (low: Double, high: Double) {
        let latencies = panels.flatMap(\.series).flatMap(\.points).map { $0.latency / 1000 }.filter { $0 > 0 }
        guard let least = latencies.min(), let most = latencies.max() else { return (1, 1000) }
        let steps = Self.steps(from: least / 10, to: most * 10)
        let low = steps.last { $0 <= least * 0.98 } ?? least / 2
        let high = steps.first { $0 >= most * 1.02 } ?? most * 2
        return (low, max(high, low * 4))
    }

    /// …, 1, 2, 5, 10, 20, 50, … within a range.
    static func steps(from low: Double, to high: Double) -> [Double] {
        var result: [Double] = []
        var decade = pow(10, log10(low).rounded(.down))
        while decade <= high {
            for factor in [1.0, 2, 5] where decade * factor >= low && decade * factor <= high { result.append(decade * factor) }
            decade *= 10
        }
        return result
    }

    // MARK: Drawing

    private func draw(_ panel: Panel, left: Double, range: (low: Double, high: Double)) -> String {
        let right = left + Self.panelWidth - Self.leftMargin - Self.rightMargin
        let top = Self.plotTop
        let bottom = top + Self.plotHeight
        let firstPosition = PercentileSeries.position(of: 50)
        let mostPosition = panel.series.flatMap(\.points).map { PercentileSeries.position(of: $0.percentile) }.max() ?? 4
        let lastPosition = max(2, min(5, mostPosition))

        func x(_ percentile: Double) -> Double {
            left + (PercentileSeries.position(of: percentile) - firstPosition) / (lastPosition - firstPosition) * (right - left)
        }
        func y(_ microseconds: Double) -> Double {
            bottom - log10(microseconds / range.low) / log10(range.high / range.low) * (bottom - top)
        }

        var parts: [String] = []
        parts.append(label(left, top - 12, panel.title, size: 13.5, weight: "600"))
        let steps = Self.steps(from: range.low * 0.999, to: range.high * 1.001)
        // Over several decades the labels of all the steps would crowd.
        let crowded = steps.count > 12
        for step in steps {
            let leading = pow(10, log10(step).rounded(.down))
            let isDecade = abs(step / leading - 1) < 0.01
            parts.append(line(left, y(step), right, y(step), colour: isDecade ? "#d0d7de" : "#eaeef2"))
            if isDecade || !crowded { parts.append(label(left - 8, y(step) + 4, Self.axisNumber(step), size: 11.5, anchor: "end", colour: "#57606a")) }
        }
        for (percentile, name) in [(50.0, "50 %"), (90, "90 %"), (99, "99 %"), (99.9, "99.9 %"), (99.99, "99.99 %"), (99.999, "99.999 %"), (99.9999, "99.9999 %")]
        where PercentileSeries.position(of: percentile) <= lastPosition + 0.001 {
            parts.append(line(x(percentile), top, x(percentile), bottom, colour: "#d0d7de"))
            parts.append(label(x(percentile), bottom + 18, name, size: 11.5, anchor: "middle", colour: "#57606a"))
        }
        parts.append(line(left, bottom, right, bottom, colour: "#57606a"))
        parts.append(line(left, top, left, bottom, colour: "#57606a"))
        parts.append(label((left + right) / 2, bottom + 42, "percentile of requests", size: 12, anchor: "middle", colour: "#24292f"))
        let middle = (top + bottom) / 2
        parts.append(
            "<text x=\"\(text(left - 54))\" y=\"\(text(middle))\" font-size=\"12\" fill=\"#24292f\" text-anchor=\"middle\" "
                + "transform=\"rotate(-90 \(text(left - 54)) \(text(middle)))\">latency in µs (logarithmic)</text>")

        for series in panel.series {
            let visible = series.points.filter { $0.latency > 0 && PercentileSeries.position(of: $0.percentile) <= lastPosition + 0.001 }
            guard !visible.isEmpty else { continue }
            let points = visible.map { "\(text(x($0.percentile))),\(text(y($0.latency / 1000)))" }
            let style = strokeStyle(series.name)
            parts.append(
                "<polyline points=\"\(points.joined(separator: " "))\" fill=\"none\" \(style) stroke-linejoin=\"round\" stroke-linecap=\"round\"><title>"
                    + escaped(series.name) + "</title></polyline>")
        }
        return parts.joined(separator: "\n")
    }

    private func legend() -> String {
        var parts: [String] = []
        var left = 20.0
        for name in names {
            parts.append("<line x1=\"\(text(left))\" y1=\"76\" x2=\"\(text(left + 30))\" y2=\"76\" \(strokeStyle(name))/>")
            parts.append(label(left + 37, 80, name, size: 12.5))
            // A rough width of the text: fonts differ.
            left += 37 + Double(name.count) * 7.6 + 26
        }
        return parts.joined(separator: "\n")
    }

    private func strokeStyle(_ name: String) -> String {
        let index = names.firstIndex(of: name) ?? 0
        let dash = Self.dashes[index % Self.dashes.count]
        return "stroke=\"\(Self.colours[index % Self.colours.count])\" stroke-width=\"2.4\"" + (dash.isEmpty ? "" : " stroke-dasharray=\"\(dash)\"")
    }

    private func label(
        _ x: Double, _ y: Double, _ content: String, size: Double, weight: String = "400", anchor: String = "start", colour: String = "#24292f"
    ) -> String {
        "<text x=\"\(text(x))\" y=\"\(text(y))\" font-size=\"\(text(size))\" font-weight=\"\(weight)\" text-anchor=\"\(anchor)\" fill=\"\(colour)\">"
            + escaped(content) + "</text>"
    }

    private func line(_ x1: Double, _ y1: Double, _ x2: Double, _ y2: Double, colour: String) -> String {
        "<line x1=\"\(text(x1))\" y1=\"\(text(y1))\" x2=\"\(text(x2))\" y2=\"\(text(y2))\" stroke=\"\(colour)\" stroke-width=\"1\"/>"
    }

    private func text(_ value: Double) -> String {
        let whole = value.rounded()
        return abs(value - whole) < 0.005 ? NumberText.decimal(whole, places: 0) : NumberText.decimal(value, places: 2)
    }

    private static func axisNumber(_ value: Double) -> String {
        value < 0.995 ? NumberText.decimal(value, places: value < 0.0995 ? 2 : 1) : NumberText.grouped(value)
    }

    private func escaped(_ content: String) -> String {
        var result = ""
        for character in content {
            switch character {
            case "&": result += "&amp;"
            case "<": result += "&lt;"
            case ">": result += "&gt;"
            case "\"": result += "&quot;"
            default: result.append(character)
            }
        }
        return result
    }
}
