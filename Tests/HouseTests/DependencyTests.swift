import Foundation
import Testing

/// What inlined code of the core ends up in: a target that uses the core through `Demikernel` names its modules itself as well.
private let core: Set<String> = ["CDatapath", "DatapathMemory", "TaskScheduler", "QueueRuntime"]

/// Dependencies point down only, and each one is meant: a new one is entered here, by someone who has thought about it.
private let allowedDependencies: [String: Set<String>] = [
    // Core
    "CDatapath": [],
    "DatapathMemory": ["CDatapath"],
    "TaskScheduler": ["CDatapath"],
    "QueueRuntime": ["CDatapath", "DatapathMemory", "TaskScheduler"],
    "SharedMemory": ["CDatapath", "DatapathMemory"],
    // Devices
    "EthernetDevice": ["CDatapath", "DatapathMemory"],
    "MemifDevice": ["CDatapath", "DatapathMemory", "EthernetDevice", "SharedMemory"],
    "CLinuxDevices": [],
    "NetworkInterface": ["CLinuxDevices", "DatapathMemory"],
    "XDPDevice": ["CDatapath", "CLinuxDevices", "DatapathMemory", "EthernetDevice", "NetworkInterface"],
    "TAPDevice": ["CDatapath", "CLinuxDevices", "DatapathMemory", "EthernetDevice", "NetworkInterface"],
    "CDPDK": [],
    "DPDKDevice": ["CDPDK", "DatapathMemory", "EthernetDevice", "NetworkInterface"],
    // Network
    "WireFormats": ["CDatapath"],
    "NetworkStack": ["CDatapath", "DatapathMemory", "TaskScheduler", "EthernetDevice", "WireFormats"],
    // LibraryOS
    "KernelSockets": core,
    "UserNetwork": core.union(["EthernetDevice", "NetworkStack", "WireFormats"]),
    "SharedMemoryQueues": core.union(["SharedMemory"]),
    // Simulation
    "Simulation": core.union(["EthernetDevice", "NetworkStack", "UserNetwork", "WireFormats"]),
    // Surfaces
    // It makes every library OS by its name, over every device by its name, and publishes telemetry at a socket with a path (SharedMemory has those).
    "Demikernel": core.union([
        "DPDKDevice", "EthernetDevice", "KernelSockets", "MemifDevice", "NetworkInterface", "NetworkStack", "SharedMemory", "SharedMemoryQueues",
        "TAPDevice",
        "UserNetwork", "WireFormats", "XDPDevice",
    ]),
    "CDemikernel": [],
    // Devices by their names come from the Swift surface.
    "DemikernelC": core.union([
        "CDemikernel", "Demikernel", "EthernetDevice", "KernelSockets", "NetworkStack", "SharedMemoryQueues", "UserNetwork", "WireFormats",
    ]),
    // Applications
    "Echo": core.union(["Demikernel"]),
    "KeyValueStore": [],
    "KeyValue": core.union(["Demikernel", "KeyValueStore"]),
    // Tools
    "CLinux": [],
    "DemiLab": core.union(["Demikernel", "EthernetDevice", "NetworkStack", "UserNetwork", "WireFormats"]),
    "DemikernelCommand": core.union([
        "CLinux", "Demikernel", "Echo", "EthernetDevice", "KeyValue", "KeyValueStore", "NetworkStack", "SharedMemory", "Simulation", "TAPDevice",
        "UserNetwork", "WireFormats", "XDPDevice",
    ]),
]

@Suite(.serialized) struct DependencyTests {
    private static let description = Result { try PackageDescription.load() }

    private var targets: [PackageDescription.Target] {
        get throws { try DependencyTests.description.get().targets.filter { !$0.isTest } }
    }

    @Test func everyDependencyIsAllowed() throws {
        let targets = try targets
        #expect(targets.count >= 10)
        for target in targets {
            let allowed = try #require(allowedDependencies[target.name], "\(target.name) is not in the list of allowed dependencies")
            let found = Set(target.targetDependencies ?? [])
            #expect(found.subtracting(allowed).isEmpty, "\(target.name) depends on what it may not: \(found.subtracting(allowed).sorted())")
        }
    }

    @Test func theListNamesOnlyWhatThereIs() throws {
        let targets = Dictionary(uniqueKeysWithValues: try targets.map { ($0.name, Set($0.targetDependencies ?? [])) })
        for (name, allowed) in allowedDependencies {
            let found = try #require(targets[name], "\(name) is allowed dependencies and does not exist")
            #expect(allowed.subtracting(found).isEmpty, "\(name) no longer needs to be allowed \(allowed.subtracting(found).sorted())")
        }
    }

    @Test func dependenciesPointDown() throws {
        let targets = try targets
        let layers = Dictionary(uniqueKeysWithValues: targets.map { ($0.name, $0.layer) })
        for target in targets {
            let layer = try #require(target.layer, "\(target.name) lies in no layer: \(target.path)")
            for dependency in target.targetDependencies ?? [] {
                let lower = try #require(layers[dependency] ?? nil, "\(target.name) depends on \(dependency), which lies in no layer")
                #expect(lower <= layer, "\(target.name) (\(layer.rawValue)) depends on \(dependency) (\(lower.rawValue))")
            }
        }
    }

    @Test func onlyToolsUseOtherPackages() throws {
        for target in try targets where target.layer != .tools {
            #expect(target.productDependencies == nil, "\(target.name) uses a product of another package")
        }
    }
}
