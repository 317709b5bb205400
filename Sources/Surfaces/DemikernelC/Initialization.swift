import CDemikernel
import DatapathMemory
import Glibc
import QueueRuntime

@c @implementation
public func demi_init(_ args: UnsafePointer<demi_args>?) -> Int32 {
    guard let args else { return CurrentRuntime.fail(EINVAL, CurrentRuntime.nullPointer) }
    let raw = UnsafeRawPointer(args)
    let count = raw.loadUnaligned(as: Int32.self)
    let arguments = raw.loadUnaligned(fromByteOffset: 4, as: UnsafeRawPointer?.self)
    guard count >= 0, count == 0 || arguments != nil else { return CurrentRuntime.fail(EINVAL, "argv is NULL, and argc is not 0") }
    guard !CurrentRuntime.exists else { return CurrentRuntime.fail(EEXIST, "this thread has a runtime already") }
    do throws(InitializationFailure) {
        try makeThreadRuntime(try InitialSettings.fromEnvironment())
        return 0
    } catch {
        error.report()
        return CurrentRuntime.fail(error.errno, "the standard error output has what was wrong with the settings")
    }
}

/// Makes a library OS, and remembers it.
private final class Making {
    private let maker: (RuntimeCore) throws(DemikernelError) -> LibraryOS
    private(set) var made: LibraryOS?

    init(_ maker: @escaping (RuntimeCore) throws(DemikernelError) -> LibraryOS) {
        self.maker = maker
    }

    func make(_ core: RuntimeCore) throws(DemikernelError) -> LibraryOS {
        let library = try maker(core)
        made = library
        return library
    }
}

/// Makes the calling thread's runtime.
private func makeThreadRuntime(_ settings: InitialSettings) throws(InitializationFailure) {
    let maker = try settings.libraryOS.maker(settings.file)
    do throws(DemikernelError) {
        let making = Making(maker)
        let runtime = try Runtime(settings.runtimeConfiguration, making: [making.make])
        let parting = Parting(userNetwork: settings.libraryOS.hasDevice ? making.made : nil, patience: UInt64(settings.file.exitLingerMilliseconds) * 1_000_000)
        try CurrentRuntime.adopt(try ThreadRuntime(runtime, socketDefaults: settings.file.socketDefaults, parting: parting))
    } catch {
        throw InitializationFailure(error.errno, "\(settings.libraryOS.rawValue): \(error)")
    }
}
