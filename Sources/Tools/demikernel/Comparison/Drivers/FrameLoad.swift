import Demikernel
import EthernetDevice
import Glibc

/// Frames of 64 bytes to somebody who sends every frame back, straight through a device: a window of them is kept under way.
final class FrameLoad: RoundDriver {
    private let heap: DatapathHeap
    private let device: EthernetDevice
    private let window: Int
    private let samples: RoundSamples

    private static let frameByteCount = 64
    private static let burst = 32
    private static let patience: UInt64 = 5_000_000_000
    /// Between frames that ask whether somebody is there.
    private static let frameInterval: UInt64 = 1_000_000
    /// How long the last frames of a round may take.
    private static let drainTime: UInt64 = 100_000_000

    init(_ specification: DeviceSpecification, window: Int, _ samples: RoundSamples) throws(CommandFailure) {
        self.window = window
        self.samples = samples
        do throws(DemikernelError) {
            heap = try DatapathHeap()
            device = try InterfaceConfiguration(device: specification).openDevice(heap: heap)
            try device.attach(heap)
        } catch {
            throw CommandFailure("\(specification): \(error)")
        }
    }

    deinit {
        device.close()
        heap.close()
    }

    func run(for duration: UInt64) throws(CommandFailure) -> RoundResult {
        let frames = UnsafeMutablePointer<Frame>.allocate(capacity: Self.burst)
        defer { frames.deallocate() }
        samples.removeAll()
        let start = MonotonicClock.now()
        var before = start
        var now = start
        var heard = start
        var underWay = 0
        var completed = 0
        while now - start < duration {
            if underWay < window, try transmit(makeFrame()) { underWay += 1 }
            let count = device.receive(frames, capacity: Self.burst)
            // The clock costs as much as several frames.
            if count == 0, underWay == window {
                now = MonotonicClock.now()
                if now - heard > Self.patience { throw CommandFailure("no frame has come back for \(Self.patience / 1_000_000_000) seconds") }
                continue
            }
            if count == 0 { continue }
            completed += count
            if window == 1 {
                now = MonotonicClock.now()
                if !samples.isFull { samples.append(now - before) }
                before = now
            }
            heard = now
            var sent = 0
            while sent < count {
                let taken = device.transmit(frames + sent, count: count - sent)
                sent += taken
                if taken == 0 { break }
            }
            for index in sent..<count { frames[index].releaseArray() }
            underWay -= count - sent
            if completed & 0x3f < count { now = MonotonicClock.now() }
        }
        let lost = drain(frames, underWay)
        var result = samples.result(elapsed: now - start)
        result.completed = completed
        result.lost = lost
        return result
    }

    private func makeFrame() throws(CommandFailure) -> Frame {
        do throws(DemikernelError) {
            var buffer = try heap.allocate(Self.frameByteCount)
            buffer.withUnsafeMutableBytes { _ = memset($0.baseAddress!, 2, $0.count) }
            return try ScatterGatherArray(buffer).takeOver()
        } catch {
            throw CommandFailure("\(error)")
        }
    }

    private func transmit(_ frame: Frame) -> Bool {
        if device.transmit(frame) { return true }
        frame.releaseArray()
        return false
    }

    /// Sends until the first frame comes back: the link may still be on its way up.
    func waitForPeer() throws(CommandFailure) {
        let frames = UnsafeMutablePointer<Frame>.allocate(capacity: Self.burst)
        defer { frames.deallocate() }
        let start = MonotonicClock.now()
        var nextFrame = start
        var sent = 0
        while true {
            let now = MonotonicClock.now()
            if now >= nextFrame {
                _ = try transmit(makeFrame())
                sent += 1
                nextFrame = now + Self.frameInterval
            }
            // The link comes up within these calls, too.
            let count = device.receive(frames, capacity: Self.burst)
            for index in 0..<count { frames[index].releaseArray() }
            if count > 0 { break }
            if now - start > Self.patience { throw CommandFailure("no frame comes back") }
        }
        _ = drain(frames, sent)
    }

    /// Takes what is still under way; returns what has not come.
    private func drain(_ frames: UnsafeMutablePointer<Frame>, _ underWay: Int) -> Int {
        var left = underWay
        let start = MonotonicClock.now()
        while left > 0, MonotonicClock.now() - start < Self.drainTime {
            let count = device.receive(frames, capacity: Self.burst)
            for index in 0..<count { frames[index].releaseArray() }
            left -= count
        }
        return max(0, left)
    }
}
