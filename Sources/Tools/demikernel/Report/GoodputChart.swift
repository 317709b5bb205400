/// Goodput over time as an SVG: a panel for each scenario, one below the other, a curve for each connection, and a line for what the link can carry.
struct GoodputChart {
    struct Panel {
        var title: String
        /// Seconds that the curves span.
        var seconds: Double
        /// The link's bits a second.
        var bandwidth: Double
        /// Bits a second, in equal parts of the time.
        var courses: [[UInt64]]
    }

    var panels: [Panel]

    private static let colours = ["#0072B2", "#D55E00", "#009E73", "#CC79A7"]
    private static let (width, height, left, plotWidth, plotHeight) = (760.0, 190.0, 70.0, 660.0, 120.0)

    func svg() -> String {
        let total = Double(panels.count) * Self.height + 10
        var parts = [
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 \(number(Self.width)) \(number(total))\" "
                + "font-family=\"system-ui, 'DejaVu Sans', Helvetica, Arial, sans-serif\" font-size=\"12\" fill=\"#24292f\">",
            "<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>",
        ]
        for (index, panel) in panels.enumerated() { parts.append(draw(panel, top: Double(index) * Self.height + 32)) }
        parts.append("</svg>\n")
        return parts.joined(separator: "\n")
    }

    private func draw(_ panel: Panel, top: Double) -> String {
        let bottom = top + Self.plotHeight
        let most = max(panel.bandwidth, Double(panel.courses.joined().max() ?? 0)) * 1.02
        var parts = ["<text x=\"\(number(Self.left))\" y=\"\(number(top - 10))\" font-weight=\"600\">\(panel.title)</text>"]
        for share in [0, 0.5, 1] {
            let y = number(bottom - panel.bandwidth * share / most * Self.plotHeight)
            parts.append("<path d=\"M\(number(Self.left)) \(y)h\(number(Self.plotWidth))\" stroke=\"#d0d7de\"/>")
            parts.append(
                "<text x=\"\(number(Self.left - 6))\" y=\"\(y)\" text-anchor=\"end\" fill=\"#57606a\">\(number(panel.bandwidth * share / 1e6)) M</text>")
        }
        for (index, course) in panel.courses.enumerated() {
            let points = course.enumerated().map { place, rate in
                let x = Self.left + (Double(place) + 0.5) / Double(course.count) * Self.plotWidth
                return "\(number(x)),\(number(bottom - Double(rate) / most * Self.plotHeight))"
            }
            parts.append(
                "<polyline points=\"\(points.joined(separator: " "))\" fill=\"none\" stroke=\"\(Self.colours[index % Self.colours.count])\" stroke-width=\"1.5\"/>")
        }
        parts.append("<text x=\"\(number(Self.left + Self.plotWidth))\" y=\"\(number(bottom + 16))\" text-anchor=\"end\">\(number(panel.seconds)) s</text>")
        return parts.joined(separator: "\n")
    }

    private func number(_ value: Double) -> String { NumberText.decimal(value, places: value == value.rounded() ? 0 : 1) }
}
