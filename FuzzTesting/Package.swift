// swift-tools-version: 6.2

import PackageDescription

// A package of its own, because every target of it is an executable whose main function is libFuzzer's: `scripts/fuzz` builds it. What the fuzzers run
// is the main package's target FuzzTargets.

let targets = ["arp", "ethernet", "icmpv4", "icmpv6", "igmp", "ipv4", "ipv6", "resp", "stack", "tcp-header", "udp"]

let package = Package(
    name: "fuzz-testing",
    dependencies: [
        .package(name: "demikernel", path: "..")
    ],
    targets: targets.map { name in
        .executableTarget(
            name: "fuzz-\(name)",
            dependencies: [.product(name: "DemikernelFuzzTargets", package: "demikernel")],
            path: "Sources/fuzz-\(name)",
            swiftSettings: [.treatAllWarnings(as: .error)])
    },
    swiftLanguageModes: [.v6]
)
