/// What a kernel-socket server has done.
struct KernelServerStatistics: CustomStringConvertible {
    var accepted = 0
    var closed = 0
    var receivedBytes = 0
    var sentBytes = 0

    var description: String {
        "\(accepted) connections accepted, \(accepted - closed) open at the end, \(receivedBytes) bytes received, \(sentBytes) bytes sent"
    }
}
