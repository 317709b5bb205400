import DatapathMemory
import Glibc
import QueueRuntime
import WireFormats

/// The PDPIX calls of a script.
extension World {
    func call(_ request: Request) throws(RequestError) -> Reply {
        let function = try request.required(\.function, "fn")
        switch function {
        case "socket":
            let type = try socketType(request)
            return answer { () throws(DemikernelError) in .queue(try runtime.socket(.ipv4, type)) }
        case "bind":
            let (queue, address) = (try queue(request), try address(request))
            return answer { () throws(DemikernelError) in
                try runtime.bind(queue, to: address)
                return .done
            }
        case "listen":
            let (queue, backlog) = (try queue(request), try request.required(\.backlog, "backlog"))
            return answer { () throws(DemikernelError) in
                try runtime.listen(queue, backlog: backlog)
                return .done
            }
        case "shutdown":
            let (queue, direction) = (try queue(request), try direction(request))
            return answer { () throws(DemikernelError) in
                try runtime.shutdown(queue, direction)
                return .done
            }
        case "accept":
            let queue = try queue(request)
            return begin { () throws(DemikernelError) in try runtime.accept(queue) }
        case "connect":
            let (queue, address) = (try queue(request), try address(request))
            return begin { () throws(DemikernelError) in try runtime.connect(queue, to: address) }
        case "pop":
            let queue = try queue(request)
            return begin { () throws(DemikernelError) in try runtime.pop(queue) }
        case "push":
            let (queue, data) = (try queue(request), try data(request))
            return begin { () throws(DemikernelError) in try runtime.push(queue, runtime.allocate(copying: data.span)) }
        case "pushto":
            let (queue, address, data) = (try queue(request), try address(request), try data(request))
            return begin { () throws(DemikernelError) in
                try runtime.pushTo(queue, ScatterGatherArray(runtime.allocate(copying: data.span)), address)
            }
        case "close":
            let queue = try queue(request)
            return begin { () throws(DemikernelError) in try runtime.closeToken(queue) }
        default: throw RequestError("there is no fn \"\(function)\"")
        }
    }

    /// The reply to a call, or the errno with which it was refused.
    private func answer(_ body: () throws(DemikernelError) -> Reply) -> Reply {
        do throws(DemikernelError) {
            return try body()
        } catch {
            return .refused(error.errno)
        }
    }

    private func begin(_ body: () throws(DemikernelError) -> QueueToken) -> Reply {
        answer { () throws(DemikernelError) in .began(try body()) }
    }

    // MARK: Arguments

    private func queue(_ request: Request) throws(RequestError) -> QueueDescriptor {
        QueueDescriptor(rawValue: try request.required(\.queue, "qd"))
    }

    private func address(_ request: Request) throws(RequestError) -> SocketAddress {
        let text = try request.required(\.ip, "ip")
        guard let address = IPAddress(parsing: text), address.isIPv4 else { throw RequestError("\"\(text)\" is no IPv4 address") }
        return SocketAddress(family: .ipv4, bytes: (UInt64(address.ipv4Raw), 0), port: try request.required(\.port, "port"))
    }

    private func data(_ request: Request) throws(RequestError) -> [UInt8] {
        guard let data = [UInt8](hexadecimal: try request.required(\.data, "data")) else { throw RequestError("the data is not hexadecimal") }
        return data
    }

    private func socketType(_ request: Request) throws(RequestError) -> SocketType {
        switch try request.required(\.type, "type") {
        case "stream": return .stream
        case "dgram": return .datagram
        default: throw RequestError("the type of a socket is stream or dgram")
        }
    }

    private func direction(_ request: Request) throws(RequestError) -> ShutdownDirection {
        switch try request.required(\.how, "how") {
        case 0: return .receive
        case 1: return .send
        case 2: return .both
        default: throw RequestError("how is 0 (receive), 1 (send) or 2 (both)")
        }
    }
}
