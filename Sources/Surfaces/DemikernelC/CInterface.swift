import DatapathMemory
import QueueRuntime

/// The C calls of the calling thread over a runtime that Swift has made: for tests, simulations and measurements, and for programs of both languages.
public enum CInterface {
    /// As `demi_init`, with a runtime of one's own, which ends with the thread or by `end`.
    /// - Parameter socketLibraryOS: who serves `demi_socket`; nil for the first that was registered.
    /// - Throws: `EEXIST` where the thread has one, `ENOMEM`.
    public static func begin(over runtime: consuming Runtime, socketLibraryOS: LibraryOSIdentifier? = nil) throws(DemikernelError) {
        try CurrentRuntime.adopt(try ThreadRuntime(runtime, socketLibraryOS: socketLibraryOS, socketDefaults: SocketDefaults()))
    }

    /// Who serves `demi_socket` from now on.
    public static func setSocketLibraryOS(_ libraryOS: LibraryOSIdentifier?) {
        guard let thread = CurrentRuntime.enter() else { preconditionFailure("the thread has no runtime, or a call is in progress") }
        thread.state.pointee.socketLibraryOS = libraryOS
        thread.leave()
    }

    /// Ends the calling thread's runtime, if it has one.
    public static func end() {
        CurrentRuntime.end()
    }
}
