// swift-tools-version: 6.2

import PackageDescription

// A package of its own, so that nothing here is built with the library. Baselines/ is C, built by its Makefile.

let package = Package(
    name: "benchmarks",
    dependencies: [
        .package(name: "demikernel", path: "..")
    ],
    targets: [
        .executableTarget(
            name: "cost-operations",
            dependencies: [
                .product(name: "Demikernel", package: "demikernel"), .product(name: "DemikernelCInterface", package: "demikernel"),
            ],
            path: "Sources/CostOperations",
            swiftSettings: [.treatAllWarnings(as: .error)])
    ],
    swiftLanguageModes: [.v6]
)
