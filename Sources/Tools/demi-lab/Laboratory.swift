import Foundation

/// The conformance adapter: takes one request after another, and answers each.
///
/// | `op` | what it does |
/// |---|---|
/// | `init` | makes a stack, in place of the one before |
/// | `clock` | sets the virtual time, and runs nothing |
/// | `rx` | puts a frame into the device's receive queue, and runs nothing |
/// | `poll` | runs everything that is due at this instant; gives the frames that were sent and the next timer's deadline |
/// | `call` | one PDPIX call |
/// | `try_wait` | the result of an operation, if it has completed; runs nothing |
///
/// The same requests give the same replies, byte by byte. A request that makes no sense is answered with `{"error": …}` and changes nothing.
final class Laboratory {
    private(set) var world: World?
    private let decoder = JSONDecoder()
    private let encoder = JSONEncoder()

    init() {
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    }

    /// The reply to one request, without a line's end.
    func reply(to line: String) -> String {
        encode(reply(to: Data(line.utf8)))
    }

    private func reply(to line: Data) -> Reply {
        do {
            return try perform(decoder.decode(Request.self, from: line))
        } catch let error as RequestError {
            return .error(error.message)
        } catch let error as DecodingError {
            return .error(RequestError(error).message)
        } catch {
            return .error("\(error)")
        }
    }

    private func perform(_ request: Request) throws -> Reply {
        if request.op == "init" {
            world = try World(request)
            return .ok
        }
        guard let world else { throw RequestError("there is no stack yet: send init first") }
        switch request.op {
        case "clock":
            try world.setTime(request.required(\.nowNanoseconds, "now_ns"))
            return .ok
        case "rx":
            guard let frame = [UInt8](hexadecimal: try request.required(\.frame, "frame")) else { throw RequestError("the frame is not hexadecimal") }
            try world.receive(frame)
            return .ok
        case "poll":
            try world.poll()
            return .polled(transmitted: world.takeTransmitted(), nextTimer: world.nextDeadline)
        case "call": return try world.call(request)
        case "try_wait": return try world.result(of: request.required(\.token, "qt"))
        default: throw RequestError("there is no op \"\(request.op)\"")
        }
    }

    private func encode(_ reply: Reply) -> String {
        do {
            return String(decoding: try encoder.encode(reply), as: UTF8.self)
        } catch {
            preconditionFailure("a reply has only texts, integers and arrays of texts: \(error)")
        }
    }
}
