import Glibc

/// Drives the production network stack from packet scripts: requests on standard input, one reply for each on standard output, both one JSON object a
/// line. Ends at the end of the input. The protocol stands in `Laboratory`.
@main
struct DemiLab {
    static func main() {
        let laboratory = Laboratory()
        while let line = readLine() {
            print(laboratory.reply(to: line))
            // The other side waits for each reply, and standard output is a pipe.
            fflush(nil)
        }
    }
}
