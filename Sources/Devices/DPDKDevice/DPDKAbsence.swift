#if !DPDK
import DatapathMemory
import EthernetDevice
import Glibc

/// Stands for the device in a build without DPDK: it says how to get one.
public enum DPDKDevice {
    /// - Throws: `ENOTSUP`.
    public static func open(_ configuration: DPDKConfiguration) throws(DemikernelError) -> EthernetDevice {
        throw DemikernelError(
            ENOTSUP, .initialize, "this build has no DPDK: install it (`apt install libdpdk-dev`) and build again with `swift build --traits DPDK`")
    }

    public static func takeMessage() -> String? { nil }
}
#endif
