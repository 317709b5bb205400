import Synchronization

/// Names for virtual devices of DPDK, no two the same in this process.
enum DPDKName {
    private static let next = Atomic(0)

    static func make(_ driver: String) -> String { "\(driver)\(next.add(1, ordering: .relaxed).oldValue)" }
}
