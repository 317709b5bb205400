// swift-tools-version: 6.2

import PackageDescription

// Layers, each importing only from the ones below it (DependencyTests holds the allow-list):
//   Tools > Applications > Surfaces > Simulation > LibraryOS > Network > Devices > Core.
// The default build needs the Swift toolchain and nothing else; no target below Tools imports Foundation or a third-party package.

let settings: [SwiftSetting] = [
    .treatAllWarnings(as: .error),
    .enableExperimentalFeature("Lifetimes"),
]
/// Bugs for `scripts/deliberate-bugs`: compiled in only where this variable is in the environment, and then one is chosen when a program starts.
let deliberateBugs: [SwiftSetting] = Context.environment["DEMIKERNEL_DELIBERATE_BUGS"] != nil ? [.define("DELIBERATE_BUGS")] : []
let cSettings: [CSetting] = [
    .treatAllWarnings(as: .error)
]

// DPDK is used where the trait asks for it. SwiftPM cannot read libdpdk.pc (a description of several lines), and headers are sought in the package alone:
// `Headers` has links to where Debian and its kin put them.
let withDPDK: BuildSettingCondition = .when(traits: ["DPDK"])
let dpdkHeaders: [CSetting] = ["Headers/all", "Headers/x86_64", "Headers/aarch64"].map { .headerSearchPath($0) }
let dpdkLibraries: [LinkerSetting] = ["rte_eal", "rte_ethdev", "rte_mbuf", "rte_mempool", "rte_ring"].map { .linkedLibrary($0, withDPDK) }

// The core's inlined code ends up in every target that uses `Demikernel`. SwiftPM builds a target again when a direct dependency changed,
// so all of them name the core modules themselves.
let core: [Target.Dependency] = ["CDatapath", "DatapathMemory", "TaskScheduler", "QueueRuntime"]

let package = Package(
    name: "demikernel",
    products: [
        .library(
            name: "Demikernel",
            targets: [
                "Demikernel", "UserNetwork", "NetworkStack", "WireFormats", "EthernetDevice", "TAPDevice", "XDPDevice", "QueueRuntime",
                "TaskScheduler",
                "DatapathMemory",
            ]),
        // `libdemikernel.so`, as `scripts/install` installs it; here it is named as the target is, since the command has the other name.
        .library(name: "DemikernelC", type: .dynamic, targets: ["DemikernelC"]),
        // The same within a program, for Benchmarks alone.
        .library(name: "DemikernelCInterface", targets: ["DemikernelC", "CDemikernel"]),
        .library(name: "DemikernelSimulation", targets: ["Simulation"]),
        .library(name: "DemikernelDevices", targets: ["EthernetDevice", "TAPDevice", "XDPDevice", "DatapathMemory"]),
        // For FuzzTesting alone: what its fuzzers run, and `swift test` on their corpus.
        .library(name: "DemikernelFuzzTargets", targets: ["FuzzTargets"]),
        .executable(name: "demikernel", targets: ["DemikernelCommand"]),
        .executable(name: "demi-lab", targets: ["DemiLab"]),
    ],
    traits: [
        .trait(name: "DPDK", description: "Devices through DPDK's drivers (`dpdk:…`): needs libdpdk-dev, 22.11 or later.")
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(url: "https://github.com/apple/swift-configuration", from: "1.4.0", traits: ["YAML"]),
        .package(url: "https://github.com/HdrHistogram/hdrhistogram-swift", from: "0.2.0"),
    ],
    targets: [
        // Core
        .target(name: "CDatapath", path: "Sources/Core/CDatapath", cSettings: cSettings),
        .target(
            name: "DatapathMemory", dependencies: ["CDatapath"],
            path: "Sources/Core/DatapathMemory", swiftSettings: settings),
        .target(
            name: "TaskScheduler", dependencies: ["CDatapath"],
            path: "Sources/Core/TaskScheduler", swiftSettings: settings),
        .target(
            name: "QueueRuntime", dependencies: ["CDatapath", "DatapathMemory", "TaskScheduler"],
            path: "Sources/Core/QueueRuntime", swiftSettings: settings),

        .target(
            name: "SharedMemory", dependencies: ["CDatapath", "DatapathMemory"],
            path: "Sources/Core/SharedMemory", swiftSettings: settings),

        // Devices
        .target(
            name: "EthernetDevice", dependencies: ["CDatapath", "DatapathMemory"],
            path: "Sources/Devices/EthernetDevice", swiftSettings: settings),
        .target(name: "CLinuxDevices", path: "Sources/Devices/CLinuxDevices", cSettings: cSettings),
        .target(
            name: "NetworkInterface", dependencies: ["CLinuxDevices", "DatapathMemory"],
            path: "Sources/Devices/NetworkInterface", swiftSettings: settings),
        .target(
            name: "TAPDevice", dependencies: ["CDatapath", "CLinuxDevices", "DatapathMemory", "EthernetDevice", "NetworkInterface"],
            path: "Sources/Devices/TAPDevice", swiftSettings: settings),
        .target(
            name: "XDPDevice", dependencies: ["CDatapath", "CLinuxDevices", "DatapathMemory", "EthernetDevice", "NetworkInterface"],
            path: "Sources/Devices/XDPDevice", swiftSettings: settings),
        .target(
            name: "CDPDK", path: "Sources/Devices/CDPDK", exclude: ["Headers"],
            cSettings: cSettings + dpdkHeaders + [.define("DPDK", withDPDK)], linkerSettings: dpdkLibraries),
        .target(
            name: "DPDKDevice", dependencies: ["CDPDK", "DatapathMemory", "EthernetDevice", "NetworkInterface"],
            path: "Sources/Devices/DPDKDevice", swiftSettings: settings),

        .target(
            name: "MemifDevice", dependencies: ["CDatapath", "DatapathMemory", "EthernetDevice", "SharedMemory"],
            path: "Sources/Devices/MemifDevice", swiftSettings: settings),

        // Network
        .target(
            name: "WireFormats", dependencies: ["CDatapath"],
            path: "Sources/Network/WireFormats", swiftSettings: settings),
        .target(
            name: "NetworkStack", dependencies: ["CDatapath", "DatapathMemory", "TaskScheduler", "EthernetDevice", "WireFormats"],
            path: "Sources/Network/NetworkStack", swiftSettings: settings + deliberateBugs),

        // LibraryOS
        .target(
            name: "KernelSockets", dependencies: core,
            path: "Sources/LibraryOS/KernelSockets", swiftSettings: settings),

        .target(
            name: "UserNetwork", dependencies: core + ["EthernetDevice", "NetworkStack", "WireFormats"],
            path: "Sources/LibraryOS/UserNetwork", swiftSettings: settings),

        .target(
            name: "SharedMemoryQueues", dependencies: core + ["SharedMemory"],
            path: "Sources/LibraryOS/SharedMemoryQueues", swiftSettings: settings),

        // Simulation
        .target(
            name: "Simulation", dependencies: core + ["EthernetDevice", "NetworkStack", "UserNetwork", "WireFormats"],
            path: "Sources/Simulation", swiftSettings: settings),

        // Surfaces
        .target(
            name: "Demikernel",
            dependencies: core + [
                "DPDKDevice", "EthernetDevice", "KernelSockets", "MemifDevice", "NetworkInterface", "NetworkStack", "SharedMemory",
                "SharedMemoryQueues",
                "TAPDevice", "UserNetwork", "WireFormats", "XDPDevice",
            ],
            path: "Sources/Surfaces/Demikernel", swiftSettings: settings),
        .target(name: "CDemikernel", path: "Sources/Surfaces/CDemikernel", cSettings: cSettings),
        .target(
            name: "DemikernelC",
            dependencies: core + [
                "CDemikernel", "Demikernel", "EthernetDevice", "KernelSockets", "NetworkStack", "SharedMemoryQueues", "UserNetwork", "WireFormats",
            ],
            path: "Sources/Surfaces/DemikernelC", swiftSettings: settings),

        // Applications
        .target(
            name: "Echo", dependencies: core + ["Demikernel"],
            path: "Sources/Applications/Echo", swiftSettings: settings),
        .target(
            name: "KeyValueStore",
            path: "Sources/Applications/KeyValueStore", swiftSettings: settings),
        .target(
            name: "KeyValue", dependencies: core + ["Demikernel", "KeyValueStore"],
            path: "Sources/Applications/KeyValue", swiftSettings: settings),

        // Tools
        .target(name: "CLinux", path: "Sources/Tools/CLinux", cSettings: cSettings),
        .executableTarget(
            name: "DemikernelCommand",
            dependencies: core + [
                "CLinux", "Demikernel", "Echo", "EthernetDevice", "KeyValue", "KeyValueStore", "NetworkStack", "SharedMemory", "Simulation",
                "TAPDevice",
                "UserNetwork", "WireFormats", "XDPDevice",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "Configuration", package: "swift-configuration"),
                .product(name: "Histogram", package: "hdrhistogram-swift"),
            ],
            path: "Sources/Tools/demikernel", swiftSettings: settings + deliberateBugs),

        .executableTarget(
            name: "DemiLab", dependencies: core + ["Demikernel", "EthernetDevice", "NetworkStack", "UserNetwork", "WireFormats"],
            path: "Sources/Tools/demi-lab", swiftSettings: settings),

        // Tests
        .testTarget(
            name: "DatapathMemoryTests", dependencies: ["DatapathMemory"],
            path: "Tests/DatapathMemoryTests", swiftSettings: settings),
        .testTarget(
            name: "TaskSchedulerTests", dependencies: ["TaskScheduler"],
            path: "Tests/TaskSchedulerTests", swiftSettings: settings),
        .testTarget(
            name: "QueueRuntimeTests", dependencies: core + ["Demikernel"],
            path: "Tests/QueueRuntimeTests", swiftSettings: settings),
        .testTarget(
            name: "KernelSocketsTests", dependencies: core + ["Demikernel"],
            path: "Tests/KernelSocketsTests", swiftSettings: settings),
        .target(
            name: "CommandProcess",
            path: "Tests/CommandProcess", swiftSettings: settings),
        .testTarget(
            name: "SharedMemoryQueuesTests",
            dependencies: core + ["CommandProcess", "Demikernel", "DemikernelCommand", "SharedMemory", "SharedMemoryQueues"],
            path: "Tests/SharedMemoryQueuesTests", swiftSettings: settings),
        .testTarget(
            name: "KeyValueStoreTests", dependencies: ["KeyValueStore"],
            path: "Tests/KeyValueStoreTests", swiftSettings: settings),
        .testTarget(
            name: "ApplicationTests", dependencies: core + ["Demikernel", "Echo", "KeyValue"],
            path: "Tests/ApplicationTests", swiftSettings: settings),
        .testTarget(
            name: "DemikernelCommandTests",
            dependencies: ["DemikernelCommand", "PcapngReader", .product(name: "ArgumentParser", package: "swift-argument-parser")],
            path: "Tests/DemikernelCommandTests", swiftSettings: settings),
        .target(
            name: "PcapngReader",
            path: "Tests/PcapngReader", swiftSettings: settings),
        .testTarget(
            name: "TelemetryTests",
            dependencies: core + [
                "CommandProcess", "Demikernel", "DemikernelCommand", "EthernetDevice", "PcapngReader", "UserNetwork", "WireFormats",
            ],
            path: "Tests/TelemetryTests", swiftSettings: settings),
        .testTarget(
            name: "EthernetDeviceTests", dependencies: ["CDatapath", "DatapathMemory", "EthernetDevice", "PcapngReader"],
            path: "Tests/EthernetDeviceTests", swiftSettings: settings),
        .testTarget(
            name: "MemifDeviceTests",
            dependencies: core + ["CommandProcess", "Demikernel", "DemikernelCommand", "EthernetDevice", "MemifDevice", "SharedMemory"],
            path: "Tests/MemifDeviceTests", swiftSettings: settings),
        .testTarget(
            name: "LinuxDeviceTests",
            dependencies: core + [
                "CLinux", "CLinuxDevices", "Demikernel", "DPDKDevice", "Echo", "EthernetDevice", "KeyValue", "NetworkInterface", "NetworkStack",
                "TAPDevice",
                "UserNetwork", "WireFormats", "XDPDevice",
            ],
            path: "Tests/LinuxDeviceTests", swiftSettings: settings),
        .testTarget(
            name: "WireFormatsTests", dependencies: ["CDatapath", "WireFormats"],
            path: "Tests/WireFormatsTests", swiftSettings: settings),
        .testTarget(
            name: "NetworkStackTests",
            dependencies: ["CDatapath", "DatapathMemory", "TaskScheduler", "EthernetDevice", "WireFormats", "NetworkStack"],
            path: "Tests/NetworkStackTests", swiftSettings: settings),
        .testTarget(
            name: "UserNetworkTests",
            dependencies: core + ["Demikernel", "Echo", "EthernetDevice", "KeyValue", "NetworkStack", "UserNetwork", "WireFormats"],
            path: "Tests/UserNetworkTests", swiftSettings: settings),
        .testTarget(
            name: "DemiLabTests", dependencies: ["DemiLab"],
            path: "Tests/DemiLabTests", swiftSettings: settings),
        .testTarget(
            name: "SimulationTests",
            dependencies: core + ["Demikernel", "Echo", "EthernetDevice", "KeyValue", "NetworkStack", "Simulation", "UserNetwork", "WireFormats"],
            path: "Tests/SimulationTests", swiftSettings: settings),
        .testTarget(
            name: "DemikernelCTests",
            dependencies: core + [
                "CDemikernel", "Demikernel", "DemikernelC", "EthernetDevice", "KernelSockets", "NetworkStack", "SharedMemoryQueues", "UserNetwork",
                "WireFormats",
            ],
            path: "Tests/DemikernelCTests", swiftSettings: settings),
        .target(
            name: "FuzzTargets",
            dependencies: ["CDatapath", "DatapathMemory", "TaskScheduler", "EthernetDevice", "WireFormats", "NetworkStack", "KeyValueStore"],
            path: "Tests/FuzzTargets", swiftSettings: settings),
        .testTarget(
            name: "FuzzCorpusTests", dependencies: ["FuzzTargets"],
            path: "Tests/FuzzCorpusTests", swiftSettings: settings),
        .testTarget(
            name: "HouseTests",
            path: "Tests/HouseTests", swiftSettings: settings),
    ],
    swiftLanguageModes: [.v6]
)
