/// Sends every byte back.
struct EchoService: KernelService, ~Copyable {
    final class Client {}

    mutating func makeClient() -> Client { Client() }

    mutating func process(_ input: UnsafeRawBufferPointer, _ client: Client, _ output: inout ByteQueue) -> KernelServiceOutcome {
        output.reserve(input.count)
        output.room.copyMemory(from: input)
        output.append(input.count)
        return KernelServiceOutcome(consumed: input.count, next: .receive(minimumTotal: 1))
    }
}
