// swift-tools-version: 6.2

import PackageDescription

let package = Package(
    name: "FirstEcho",
    dependencies: [.package(name: "demikernel", path: "../..")],
    targets: [
        .executableTarget(
            name: "FirstEcho",
            dependencies: [.product(name: "Demikernel", package: "demikernel")],
            swiftSettings: [.treatAllWarnings(as: .error)])
    ],
    swiftLanguageModes: [.v6]
)
