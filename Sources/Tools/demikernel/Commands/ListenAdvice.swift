import Glibc

/// Turns a refused bind or listen into a message that names the mend.
enum ListenAdvice {
    static func failure(_ code: Int32, _ endpoint: Endpoint) -> CommandFailure {
        CommandFailure(message(code, endpoint))
    }

    static func message(_ code: Int32, _ endpoint: Endpoint) -> String {
        switch code {
        case EADDRINUSE:
            let other = endpoint.port < UInt16.max ? endpoint.port + 1 : 49152
            return """
                port \(endpoint.port) on \(endpoint.host) is in use by another program. \
                Stop that program (`ss -ltnup` names it), or take another port: --listen \(Endpoint(family: endpoint.family, host: endpoint.host, port: other)), \
                or port 0 for any free one
                """
        case EACCES, EPERM:
            let other = endpoint.port < 1024 ? endpoint.port + 8000 : endpoint.port
            return """
                no permission to listen on port \(endpoint.port): ports below 1024 need a privilege. \
                Take a port from 1024 up, for example --listen \(Endpoint(family: endpoint.family, host: endpoint.host, port: other)), \
                or give the program the privilege: sudo setcap cap_net_bind_service=+ep $(command -v demikernel)
                """
        case EADDRNOTAVAIL:
            return """
                \(endpoint.host) is not an address of this machine. `ip address` lists those it has; \
                127.0.0.1 serves this machine only, 0.0.0.0 (or [::]) every address
                """
        case EAFNOSUPPORT:
            return "this machine's kernel does not speak \(endpoint.family == .ipv4 ? "IPv4" : "IPv6"): listen on an address of the other family"
        default:
            return "listen on \(endpoint): \(String(cString: strerror(code)))"
        }
    }
}
