import ArgumentParser

extension Endpoint: ExpressibleByArgument {
    init?(argument: String) {
        self.init(parsing: argument)
    }
}
