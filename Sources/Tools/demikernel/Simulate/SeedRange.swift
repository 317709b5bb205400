import ArgumentParser

/// Seeds from the first to the last, as `1..10000` says.
struct SeedRange: ExpressibleByArgument {
    let first: UInt64
    let last: UInt64

    var count: UInt64 { last - first + 1 }

    init?(argument: String) {
        guard let dots = argument.firstRange(of: ".."), let first = UInt64(argument[..<dots.lowerBound]), let last = UInt64(argument[dots.upperBound...]),
            first <= last, last - first < .max
        else { return nil }
        self.first = first
        self.last = last
    }
}
