import CDatapath

/// A failed operation or a refused call: the errno, what was being done, and a sentence that names the mend.
///
/// A value of plain words, so that throwing it allocates nothing.
@frozen
public struct DemikernelError: Error, Sendable {
    /// The errno of `<errno.h>`, always positive.
    public let errno: Int32
    /// The call or operation that failed.
    public let operation: Operation
    /// What is wrong and how to mend it; empty where the errno says it all.
    public let message: StaticString

    @inlinable
    public init(_ errno: Int32, _ operation: Operation, _ message: StaticString = "") {
        self.errno = errno
        self.operation = operation
        self.message = message
    }

    /// The calls of PDPIX and of its set-up, as they are named in an error.
    @frozen
    public enum Operation: UInt8, Sendable {
        case allocate, socket, queue, bind, listen, accept, connect, shutdown, close, push, pushTo, pop, wait, cancel, option, address, spawn, initialize
    }
}

extension DemikernelError: Equatable {
    public static func == (left: DemikernelError, right: DemikernelError) -> Bool {
        left.errno == right.errno && left.operation == right.operation
    }
}

extension DemikernelError: CustomStringConvertible {
    /// For example `bind: EADDRINUSE (Address already in use): …`.
    public var description: String {
        let name = demi_error_name(errno).map { String(cString: $0) } ?? "errno \(errno)"
        let text = demi_error_text(errno).map { String(cString: $0) } ?? "unknown error"
        let head = "\(operation): \(name) (\(text))"
        return message.utf8CodeUnitCount == 0 ? head : "\(head): \(message)"
    }
}
