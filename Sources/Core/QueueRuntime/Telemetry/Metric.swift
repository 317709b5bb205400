/// What something has counted, as a plain value: it is taken on the runtime's thread, and turned into metrics on another one.
public protocol MetricSource: Sendable {
    func collect(into metrics: inout MetricList)
}

/// A number with a name, as monitoring systems keep it.
public struct Metric: Sendable {
    public enum Kind: String, Sendable {
        /// Only grows, but for a restart of the process.
        case counter
        /// Goes up and down.
        case gauge
        /// How many of the measured values were at most so large, for several sizes.
        case histogram
    }

    /// For a counter `demikernel_…_total`; units are seconds and bytes.
    public var name: StaticString
    public var kind: Kind
    public var help: StaticString
    public var samples: [Sample]

    /// One value of a metric, told from the others by its labels.
    public struct Sample: Sendable {
        public var labels: [Label]
        public var value: Value
    }

    public struct Label: Equatable, Sendable {
        public var name: String
        public var value: String

        public init(_ name: String, _ value: String) {
            self.name = name
            self.value = value
        }
    }

    public enum Value: Sendable {
        case number(UInt64)
        case histogram(LatencyHistogram)
    }
}

/// Metrics in the order in which their names first came; all values of a name stand together.
public struct MetricList: Sendable {
    public private(set) var metrics: [Metric] = []
    private var places: [String: Int] = [:]
    /// In front of the labels of each value that is added.
    public var commonLabels: [Metric.Label] = []

    public init() {}

    public mutating func add(_ name: StaticString, _ kind: Metric.Kind, _ help: StaticString, _ value: Metric.Value, _ labels: [Metric.Label] = []) {
        let place = places["\(name)", default: metrics.count]
        if place == metrics.count {
            places["\(name)"] = place
            metrics.append(Metric(name: name, kind: kind, help: help, samples: []))
        }
        metrics[place].samples.append(Metric.Sample(labels: commonLabels + labels, value: value))
    }

    public mutating func counter(_ name: StaticString, _ help: StaticString, _ value: UInt64, _ labels: Metric.Label...) {
        add(name, .counter, help, .number(value), labels)
    }

    public mutating func gauge(_ name: StaticString, _ help: StaticString, _ value: Int, _ labels: Metric.Label...) {
        add(name, .gauge, help, .number(UInt64(clamping: value)), labels)
    }
}
