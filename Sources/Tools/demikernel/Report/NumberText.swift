/// Numbers as text, the same on every machine and in every locale.
enum NumberText {
    /// A decimal with exactly `places` digits behind the point, rounded half away from zero.
    static func decimal(_ value: Double, places: Int) -> String {
        guard value.isFinite else { return "-" }
        var scale = 1.0
        for _ in 0..<places { scale *= 10 }
        let scaled = (value.magnitude * scale).rounded()
        guard scaled < 9e18 else { return "\(value)" }
        let digits = String(UInt64(scaled))
        let padded = String(repeating: "0", count: max(0, places + 1 - digits.count)) + digits
        let sign = value < 0 && scaled > 0 ? "-" : ""
        guard places > 0 else { return sign + padded }
        return sign + padded.dropLast(places) + "." + padded.suffix(places)
    }

    /// A whole number with thousands set apart: 1,234,567.
    static func grouped(_ value: Double) -> String {
        let digits = decimal(value, places: 0)
        var result = ""
        for (index, digit) in digits.reversed().enumerated() {
            if index > 0, index % 3 == 0, digit != "-" { result.append(",") }
            result.append(digit)
        }
        return String(result.reversed())
    }

    /// Nanoseconds as microseconds with about four significant digits.
    static func microseconds(_ nanoseconds: Double) -> String {
        let value = nanoseconds / 1000
        return decimal(value, places: value < 10 ? 2 : value < 1000 ? 1 : 0)
    }

    static func percent(_ share: Double) -> String { decimal(share * 100, places: 0) + " %" }

    static func ratio(_ value: Double) -> String { decimal(value, places: value < 10 ? 2 : 1) + " ×" }
}
