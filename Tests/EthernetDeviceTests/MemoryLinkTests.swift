import DatapathMemory
import Glibc
import Testing

@testable import EthernetDevice

@Suite struct MemoryLinkTests {
    // MARK: Handing over

    @Test func aFrameOfTheReceivingHeapIsHandedOverWithoutACopy() throws {
        try withHeap { heap in
            try withPair(heap) { first, second in
                let frame = makeFrame(heap, pattern(1))
                let address = frame.segmentAddress
                #expect(first.transmit(frame))
                let received = second.take()
                #expect(received == [frame])
                #expect(received[0].segmentAddress == address)
                #expect(received[0].isSoleOwner, "the receiver may write into it")
                #expect(bytes(of: received[0]) == pattern(1))
                #expect(heap.statistics.liveBlocks == 1)
                received[0].releaseArray()
                #expect(first.statistics.transmitCopies == 0)
            }
        }
    }

    @Test func aFrameWhoseBlockTheSenderKeepsIsHandedOverAsShared() throws {
        try withHeap { heap in
            try withPair(heap) { first, second in
                let buffer = try heap.allocate(100)
                let frame = try ScatterGatherArray(buffer.slice(0..<100)).takeOver()
                #expect(first.transmit(frame))
                let received = second.take()
                #expect(received == [frame])
                #expect(!received[0].isSoleOwner, "the receiver may only read it")
                received[0].releaseArray()
                let isUnique = buffer.isUniquelyReferenced
                #expect(isUnique)
                _ = consume buffer
            }
        }
    }

    @Test func aFrameOfSeveralSegmentsIsReceivedInOne() throws {
        try withHeap { heap in
            try withPair(heap) { first, second in
                let content = pattern(3, count: 1514)
                for segments in [[14], [14, 20, 20], [0, 14, 0, 1000], Array(repeating: 100, count: 15)] {
                    let frame = makeFrame(heap, content, segments: segments)
                    #expect(frame.arraySegmentCount == segments.count + 1)
                    #expect(first.transmit(frame))
                    #expect(heap.statistics.liveSegments == 1, "the sender's blocks are released when the frame is sent")
                    let received = second.take()
                    #expect(received.count == 1)
                    #expect(received[0].arraySegmentCount == 1 && received[0].nextSegment == nil)
                    #expect(received[0].isSoleOwner)
                    #expect(bytes(of: received[0]) == content)
                    received[0].releaseArray()
                }
                #expect(first.statistics.transmitCopies == 4)
            }
        }
    }

    // MARK: Two heaps

    @Test func betweenTwoHeapsTheBytesAreCopiedAndEachHeapKeepsItsBlocks() throws {
        try withHeap { mine in
            try withHeap { yours in
                let (first, second) = MemoryEthernetPair.make(capacity: 64)
                defer {
                    first.close()
                    second.close()
                }
                try first.attach(mine)
                try second.attach(yours)
                for (from, to, source, target) in [(first, second, mine, yours), (second, first, yours, mine)] {
                    #expect(from.send((0..<10).map { makeFrame(source, pattern($0, count: 60 + $0 * 100)) }) == 10)
                    expectNothingAlive(in: source)
                    #expect(target.statistics.liveBlocks == 10)
                    let received = to.take()
                    for (index, frame) in received.enumerated() {
                        #expect(bytes(of: frame) == pattern(index, count: 60 + index * 100))
                        #expect(target.contains(frame.segmentAddress))
                        frame.releaseArray()
                    }
                    #expect(received.count == 10)
                    #expect(from.statistics.transmitCopies == 10)
                }
            }
        }
    }

    @Test func aFrameOfAThirdHeapIsCopied() throws {
        try withHeap { heap in
            try withHeap { other in
                try withPair(heap) { first, second in
                    #expect(first.transmit(makeFrame(other, pattern(9))))
                    expectNothingAlive(in: other)
                    #expect(second.collect() == [pattern(9)])
                }
            }
        }
    }

    @Test func aFullReceivingHeapLosesTheFrameAndCountsIt() throws {
        try withHeap { mine in
            try withHeap { yours in
                let (first, second) = MemoryEthernetPair.make(capacity: 64)
                defer {
                    first.close()
                    second.close()
                }
                try first.attach(mine)
                try second.attach(yours)
                var held: [Frame] = []
                while let segment = Frame.makeSegment(yours, byteCount: 65_536, priority: .datagram) { held.append(segment) }
                // What is left of the last superblock of small blocks is not for datagrams either.
                #expect(first.send((0..<3).map { makeFrame(mine, pattern($0, count: 1514)) }) == 3)
                #expect(second.collect().isEmpty)
                #expect(second.statistics.receiveOutOfMemory == 3)
                #expect(first.statistics.transmittedFrames == 3, "the sender cannot know")
                expectNothingAlive(in: mine)
                for frame in held { frame.releaseArray() }
                #expect(first.transmit(makeFrame(mine, pattern(4))))
                #expect(second.collect() == [pattern(4)])
            }
        }
    }

    // MARK: Order and room

    @Test(arguments: [1, 2, 3, 7, 64]) func framesKeepTheirOrderThroughTheRing(capacity: Int) throws {
        try withHeap { heap in
            try withPair(heap, capacity: capacity) { first, second in
                var sent = 0
                var received = 0
                // Batches and takes of changing size move the ring's ends around many times.
                for round in 0..<200 {
                    let batch = round % (capacity + 2)
                    sent += first.send((0..<batch).map { makeFrame(heap, pattern(sent + $0)) })
                    for frame in second.collect(1 + round % 5) {
                        #expect(frame == pattern(received))
                        received += 1
                    }
                }
                for frame in second.collect(100) {
                    #expect(frame == pattern(received))
                    received += 1
                }
                #expect(received == sent && sent > 100)
            }
        }
    }

    @Test(arguments: [1, 5, 8]) func aFullRingTakesFewerAndTheRestStaysTheCallers(capacity: Int) throws {
        try withHeap { heap in
            try withPair(heap, capacity: capacity) { first, second in
                let frames = (0..<10).map { makeFrame(heap, pattern($0)) }
                var batch = frames
                #expect(first.transmit(&batch, count: 10) == capacity)
                #expect(batch == frames)
                #expect(!first.transmit(frames[capacity]))
                #expect(first.statistics.transmitRingFull == UInt64(10 - capacity + 1))
                #expect(heap.statistics.liveBlocks == 10)
                #expect(second.collect(1) == [pattern(0)])
                #expect(first.transmit(frames[capacity]), "there is room for one again")
                #expect(!first.transmit(frames[capacity]))
                for frame in frames[(capacity + 1)...] { frame.releaseArray() }
                #expect(second.collect() == (1...capacity).map { pattern($0) })
            }
        }
    }

    @Test func theDirectionsAreIndependent() throws {
        try withHeap { heap in
            try withPair(heap, capacity: 4) { first, second in
                #expect(first.send((0..<5).map { makeFrame(heap, pattern($0)) }) == 4)
                #expect(second.send((10..<13).map { makeFrame(heap, pattern($0)) }) == 3)
                #expect(first.collect() == (10..<13).map { pattern($0) })
                #expect(second.collect() == (0..<4).map { pattern($0) })
            }
        }
    }

    // MARK: Frames that cannot be sent

    @Test func aFrameThatCannotBeAnEthernetFrameIsTakenAndDropped() throws {
        try withHeap { heap in
            try withPair(heap, mtu: 100) { first, second in
                #expect(first.capabilities.maximumFrameByteCount == 114)
                let lengths = [13, 14, 114, 115, 0, 1000]
                #expect(first.send(lengths.map { makeFrame(heap, pattern(1, count: $0)) }) == 6)
                #expect(second.collect().map(\.count) == [14, 114])
                let statistics = first.statistics
                #expect(statistics.transmitTooShort == 2 && statistics.transmitTooLong == 2 && statistics.transmittedFrames == 2)
            }
        }
    }

    // MARK: Flags

    @Test func aReceivedFrameHasNoFlags() throws {
        try withHeap { heap in
            try withPair(heap) { first, second in
                #expect(first.capabilities.offloads.isEmpty)
                let frame = makeFrame(heap, pattern(1))
                #expect(frame.frameFlags == [])
                frame.frameFlags = [.checksumVerified, .needsTransportChecksum]
                #expect(first.transmit(frame))
                let received = second.take()
                #expect(received[0].frameFlags == [])
                received[0].releaseArray()
            }
        }
    }

    @Test func aLinkThatElidesChecksumsVerifiesThoseFramesThatAskForOne() throws {
        try withHeap { heap in
            try withHeap { other in
                let (first, second) = MemoryEthernetPair.make(elidesChecksums: true)
                defer {
                    first.close()
                    second.close()
                }
                try first.attach(heap)
                try second.attach(heap)
                #expect(first.capabilities.offloads.isSuperset(of: [.transmitChecksumTCP, .receiveChecksumTCP, .transmitChecksumUDP]))
                for source in [heap, other] {
                    let asking = makeFrame(source, pattern(1))
                    asking.frameFlags = .needsTransportChecksum
                    let complete = makeFrame(source, pattern(2))
                    complete.frameFlags = .checksumVerified
                    #expect(first.send([asking, complete]) == 2)
                    let received = second.take()
                    #expect(received.map(\.frameFlags) == [.checksumVerified, []])
                    for frame in received { frame.releaseArray() }
                }
            }
        }
    }

    // MARK: Life

    @Test func theLinkIsUpWhileBothEndsAreAttached() throws {
        try withHeap { heap in
            let (first, second) = MemoryEthernetPair.make()
            try first.attach(heap)
            #expect(first.transmit(makeFrame(heap, pattern(0))))
            expectNothingAlive(in: heap)
            #expect(first.statistics.transmitLinkDown == 1)
            try second.attach(heap)
            #expect(first.transmit(makeFrame(heap, pattern(1))))
            #expect(second.collect() == [pattern(1)])
            second.close()
            #expect(first.send([makeFrame(heap, pattern(2)), makeFrame(heap, pattern(3))]) == 2)
            #expect(first.statistics.transmitLinkDown == 3)
            first.close()
        }
    }

    @Test func closeReleasesTheFramesThatNobodyReceived() throws {
        try withHeap { heap in
            let (first, second) = MemoryEthernetPair.make()
            try first.attach(heap)
            try second.attach(heap)
            first.send((0..<5).map { makeFrame(heap, pattern($0)) })
            second.send((0..<7).map { makeFrame(heap, pattern($0)) })
            second.close()
            #expect(heap.statistics.liveBlocks == 7)
            #expect(first.collect(3).count == 3, "what the other end sent before its close still arrives")
            first.close()
        }
    }

    @Test func aSecondHeapIsRefused() throws {
        try withHeap { heap in
            try withPair(heap) { first, _ in
                let error = #expect(throws: DemikernelError.self) { try first.attach(heap) }
                #expect(error?.errno == EBUSY)
            }
        }
    }

    @Test func sleepIsCappedWhileFramesWait() throws {
        try withHeap { heap in
            try withPair(heap) { first, second in
                #expect(second.prepareToSleep() == EthernetDevice.nothingToAwait)
                #expect(first.transmit(makeFrame(heap, pattern(0))))
                #expect(second.prepareToSleep() == EthernetDevice.cannotWake)
                #expect(first.prepareToSleep() == EthernetDevice.nothingToAwait)
                #expect(second.collect().count == 1)
                #expect(second.prepareToSleep() == EthernetDevice.nothingToAwait)
            }
        }
    }

    @Test func bothEndsCountFramesAndBytes() throws {
        try withHeap { heap in
            try withPair(heap) { first, second in
                first.send((0..<10).map { makeFrame(heap, pattern($0, count: 100 + $0)) })
                var expected = DeviceStatistics()
                expected.transmittedFrames = 10
                expected.transmittedBytes = 1045
                #expect(first.statistics == expected)
                #expect(second.statistics == DeviceStatistics())
                #expect(second.collect(4).count == 4)
                expected = DeviceStatistics()
                expected.receivedFrames = 4
                expected.receivedBytes = 406
                #expect(second.statistics == expected)
                #expect(second.collect().count == 6)
            }
        }
    }

    @Test func theEndsHaveTheAddressesAndModesThatWereAskedFor() {
        let (first, second) = MemoryEthernetPair.make(mtu: 9000, macAddresses: (0x0200_0000_00aa, 0x0200_0000_00bb))
        #expect(first.capabilities.macAddress == 0x0200_0000_00aa && second.capabilities.macAddress == 0x0200_0000_00bb)
        #expect(first.capabilities.maximumFrameByteCount == 9014)
        #expect(first.capabilities.maximumTransmitSegments == 16)
        #expect(first.capabilities.driverMode.description == "memory")
        first.close()
        second.close()
    }
}
