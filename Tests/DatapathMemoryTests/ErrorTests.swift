import Glibc
import Testing

@testable import DatapathMemory

@Suite struct ErrorTests {
    @Test func anErrorNamesTheCallTheNumberAndTheMend() {
        #expect(DemikernelError(EADDRINUSE, .bind, "choose another port").description == "bind: EADDRINUSE (Address already in use): choose another port")
        #expect(DemikernelError(EINVAL, .pushTo).description == "pushTo: EINVAL (Invalid argument)")
        #expect(DemikernelError(99999, .wait).description == "wait: errno 99999 (unknown error)")
    }

    @Test func theLimitsErrorsNameTheMend() throws {
        try withHeap { heap in
            let held = fill(heap, 4096)
            let failure = try #require(error { _ = try heap.allocate(4096) })
            #expect(failure.description.contains("ENOBUFS") && failure.description.contains("arena"))
            withExtendedLifetime(held) {}
        }
    }
}
