import Demikernel

@main
struct FirstEcho {
    static func main() throws {
        let runtime = try Runtime(libraryOSes: [.catnap])
        let listener = try runtime.socket(.ipv4, .stream)
        try runtime.bind(listener, to: .loopback(port: 7007))
        try runtime.listen(listener, backlog: 16)
        while true {
            let connection = try runtime.wait(try runtime.accept(listener)).accepted()
            while let bytes = try runtime.wait(try runtime.pop(connection)).popped() {
                try runtime.wait(try runtime.push(connection, bytes)).succeeded()  // consumed: to use `bytes` again does not compile
            }
            try runtime.close(connection)
        }
    }
}
