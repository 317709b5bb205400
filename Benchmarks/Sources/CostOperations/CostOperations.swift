import Demikernel
import Glibc

/// `cost-operations OPERATION COUNT` runs one operation of the cost table COUNT times in its steady state.
///
/// `scripts/cost` counts its instructions with COUNT and with twice that: the difference is the operations' alone, without set-up and end.
/// So each loop stands in a function of its own, works on locals, and does nothing beside the operation that it could leave out.
@main
enum CostOperations {
    static func main() throws {
        let arguments = CommandLine.arguments
        guard arguments.count == 3, let count = Int(arguments[2]), count >= 0 else { usage() }
        switch arguments[1] {
        case "queue-push-wait-pop-wait": try pushWaitPopWait(count)
        case "queue-push-pop-wait-both": try pushPopWaitBoth(count)
        case "queue-push-discarded-pop-wait": try pushDiscardedPopWait(count)
        case "queue-buffer-push-wait-pop-wait": try bufferPushWaitPopWait(count)
        case "catmem-push-wait-pop-wait": try pushThroughSharedMemory(count)
        case "catmem-pop-push-wait-both": try popFromSharedMemory(count)
        case "task-64-ready": runReadyTasks(count)
        case "task-1-of-1024": runOneTask(count)
        case "coroutine-64-ready": runReadyCoroutines(count)
        case "coroutine-1-of-1024": runOneCoroutine(count)
        case "wait-next-1-pending": try waitNext(count, pending: 1)
        case "wait-next-10000-pending": try waitNext(count, pending: 10_000)
        case "wait-set-1-pending": try waitSet(count, pending: 1)
        case "wait-set-10000-pending": try waitSet(count, pending: 10_000)
        case "wait-any-1-token": try waitAny(count, tokens: 1)
        case "wait-any-1024-tokens": try waitAny(count, tokens: 1_024)
        case "wait-any-1-token-in-coroutine": try waitAnyInCoroutine(count, tokens: 1)
        case "wait-any-1024-tokens-in-coroutine": try waitAnyInCoroutine(count, tokens: 1_024)
        case "buffer-allocate-free-64": try allocateAndFree(count, byteCount: 64)
        case "buffer-allocate-free-1024": try allocateAndFree(count, byteCount: 1_024)
        case "buffer-allocate-free-4096": try allocateAndFree(count, byteCount: 4_096)
        case "buffer-allocate-10000-free-10000": try fillAndEmpty(count, live: 10_000)
        case "buffer-allocate-free-superblock-edge": try crossSuperblockEdge(count)
        case "buffer-slice-release": try sliceAndRelease(count)
        case "timer-arm-cancel": armAndCancel(count)
        case "tcp-segment-in": try receiveSegments(count)
        case "tcp-segment-in-wait-next": try receiveSegments(count, over: 1)
        case "tcp-segment-in-10000-connections": try receiveSegments(count, over: 10_000)
        case "tcp-push": try pushSegments(count)
        case "tcp-segment-in-ipv6": try receiveSegments(count, .ipv6)
        case "tcp-push-ipv6": try pushSegments(count, .ipv6)
        case "tcp-acknowledgement-in": try receiveAcknowledgements(count)
        case "turn-without-work": try turnWithoutWork(count)
        case "tcp-echo": try echoOverStream(count)
        case "udp-in": try receiveDatagrams(count)
        case "udp-push": try pushDatagrams(count)
        case "udp-push-allocated-for-queue": try pushDatagrams(count, isForQueue: true)
        case "queue-push-slice-pop-wait-both": try pushSlicePopWaitBoth(count)
        case "c-queue-push-pop-wait-both": try pushPopWaitBothInC(count)
        case "tcp-echo-waiting": try echoOverStreamWaiting(count)
        case "c-tcp-echo": try echoOverStreamInC(count)
        case "c-wait-any-1024-tokens": try waitAnyInC(count, tokens: 1_024)
        case "tcp-connection-memory": try measureConnectionMemory(count)
        case "time-of-tcp-echo": try measureTime("TCP echo of 64 B, both stacks", count, echoOverStream)
        case "time-of-udp-echo": try measureTime("UDP echo of 64 B, both stacks", count, echoOverDatagrams)
        case "bulk-transfer": try measureBulkTransfer(count)
        case "udp-echo": try echoOverDatagrams(count)
        case "self-test": callForbidden(count)
        default: usage()
        }
    }

    static func usage() -> Never {
        let text: StaticString = "usage: cost-operations OPERATION COUNT (cost-limits.json lists the operations)\n"
        _ = write(STDERR_FILENO, text.utf8Start, text.utf8CodeUnitCount)
        exit(2)
    }
}
