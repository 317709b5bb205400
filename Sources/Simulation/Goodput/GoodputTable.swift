/// The figures of scenarios as lines of text. Every line is the same whatever else is in the table, so that a few can be compared with a table of all.
public enum GoodputTable {
    public static let transferTitle =
        row(["sender", "Mbit/s", "of link", "again", "in vain", "start-up", "lost", "median", "99 %", "RTOs", "even"], scenario: "transfers")

    /// One line.
    public static func line(_ scenario: GoodputScenario, _ result: GoodputResult) -> String {
        row(
            [
                scenario.sender, decimal(result.goodput / 10_000, places: 2), percent(result.linkShare), percent(result.retransmittedShare),
                percent(result.spuriousShare), percent(result.startUpQueueLoss), percent(result.queueLoss), kibibytes(result.medianQueue),
                kibibytes(result.longQueue), "\(result.timeouts)", scenario.flows > 1 ? percent(result.fairness) : "",
            ], scenario: scenario.name)
    }

    public static let requestTitle = row(["sender", "lost", "probes", "RTOs", "fastest", "99 %", "99.9 %", "worst ms"], scenario: "requests, added delay")

    /// One line.
    public static func line(_ scenario: RequestScenario, _ result: RequestScenario.Result) -> String {
        func added(_ share: Double) -> String {
            guard !result.addedDelays.isEmpty else { return "" }
            let index = min(Int(Double(result.addedDelays.count) * share), result.addedDelays.count - 1)
            return decimal(result.addedDelays[index] / 10_000, places: 2)
        }
        return row(
            [
                scenario.variant, "\(result.lost)", "\(result.probes)", "\(result.timeouts)", decimal(result.fastest / 10_000, places: 2), added(0.99),
                added(0.999), added(1),
            ], scenario: scenario.name)
    }

    private static func row(_ cells: [String], scenario: String) -> String {
        var line = padded(scenario, 44) + padded(cells[0], 16)
        for cell in cells.dropFirst() { line += String(repeating: " ", count: max(1, 10 - cell.count)) + cell }
        while line.last == " " { line.removeLast() }
        return line
    }

    private static func padded(_ text: String, _ width: Int) -> String { text + String(repeating: " ", count: max(1, width - text.count)) }

    /// Millionths as per cent.
    private static func percent(_ millionths: UInt64) -> String { decimal(millionths / 100, places: 2) + " %" }

    private static func kibibytes(_ byteCount: Int) -> String { decimal(UInt64(byteCount) * 10 / 1_024, places: 1) + " K" }

    private static func decimal(_ value: UInt64, places: Int) -> String {
        let digits = String(value)
        let text = String(repeating: "0", count: max(0, places + 1 - digits.count)) + digits
        return text.dropLast(places) + "." + text.suffix(places)
    }
}
