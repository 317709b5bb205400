import NetworkStack
import Testing
import WireFormats

/// What the stack tells of data that came out of order (RFC 2018) or twice (RFC 2883).
@Suite("TCP: selective acknowledgements") struct SelectiveAcknowledgementTests {
    // RFC 2018, section 2
    @Test("SACK is offered in a SYN, permitted in answer to an offer alone, and offered only where it is wanted")
    func negotiation() throws {
        let script = try SegmentScript()
        let (_, synchronize) = script.connect()
        #expect(synchronize.isSACKPermitted)
        let passive = try SegmentScript()
        _ = passive.listener()
        passive.peer(.syn, seq: 0, mss: 1_460, sackPermitted: true)
        #expect(passive.expect([.syn, .ack], ack: 1).isSACKPermitted)
        let unasked = try SegmentScript()
        _ = unasked.listener()
        unasked.peer(.syn, seq: 0, mss: 1_460)
        #expect(!unasked.expect([.syn, .ack], ack: 1).isSACKPermitted)
        let unwilling = try SegmentScript { $0.tcp.offersSelectiveAcknowledgements = false }
        let (_, plain) = unwilling.connect()
        #expect(!plain.isSACKPermitted)
        let refusing = try SegmentScript { $0.tcp.offersSelectiveAcknowledgements = false }
        _ = refusing.listener()
        refusing.peer(.syn, seq: 0, mss: 1_460, sackPermitted: true)
        #expect(!refusing.expect([.syn, .ack], ack: 1).isSACKPermitted)
    }

    @Test("the SYN's options are the same with and without timestamps: SACK-permitted stands before them or by itself")
    func synchronizeWithoutTimestamps() throws {
        let script = try SegmentScript { $0.tcp.offersTimestamps = false }
        let (_, synchronize) = script.connect()
        #expect(synchronize.isSACKPermitted && synchronize.timestamps == nil && synchronize.maximumSegmentSize == 1_460 && synchronize.windowScale != nil)
        let both = try SegmentScript()
        let (_, other) = both.connect()
        #expect(other.isSACKPermitted && other.timestamps != nil && other.maximumSegmentSize == 1_460 && other.windowScale != nil)
    }

    // RFC 2018, section 3: "the receiver MUST NOT send SACK options on that connection"
    @Test("without an agreement no blocks are sent")
    func notPermitted() throws {
        let script = try SegmentScript()
        _ = script.established()
        script.peer(.ack, seq: 101, ack: 1, length: 100)
        #expect(script.expect(.ack, ack: 1).sackBlocks.isEmpty)
    }

    // RFC 2018, section 4
    @Test("the block of the segment that came last stands first, those reported before follow, most recent first")
    func mostRecentFirst() throws {
        let script = try SegmentScript()
        _ = script.established(sackPermitted: true)
        script.peer(.ack, seq: 101, ack: 1, length: 100)
        #expect(script.expect(.ack, ack: 1).sackBlocks == [101..<201])
        script.peer(.ack, seq: 501, ack: 1, length: 100)
        #expect(script.expect(.ack, ack: 1).sackBlocks == [501..<601, 101..<201])
        script.peer(.ack, seq: 301, ack: 1, length: 100)
        #expect(script.expect(.ack, ack: 1).sackBlocks == [301..<401, 501..<601, 101..<201])
        // A block that grows is one block, and the latest.
        script.peer(.ack, seq: 601, ack: 1, length: 50)
        #expect(script.expect(.ack, ack: 1).sackBlocks == [501..<651, 301..<401, 101..<201])
        script.peer(.ack, seq: 201, ack: 1, length: 100)
        #expect(script.expect(.ack, ack: 1).sackBlocks == [101..<401, 501..<651])
        // What the acknowledgement number covers is in no block any more.
        script.peer(.ack, seq: 1, ack: 1, length: 100)
        #expect(script.expect(.ack, ack: 401).sackBlocks == [501..<651])
        script.peer(.ack, seq: 401, ack: 1, length: 100)
        #expect(script.expect(.ack, ack: 651).sackBlocks.isEmpty)
    }

    // RFC 2018, section 3: 40 bytes of options
    @Test("four blocks fit, or three beside timestamps", arguments: [false, true])
    func blockLimit(_ hasTimestamps: Bool) throws {
        let script = try SegmentScript()
        _ = script.established(timestamp: hasTimestamps ? 1_000 : nil, sackPermitted: true)
        for index in 1...5 { script.peer(.ack, seq: 1 + 200 * index, ack: 1, length: 100) }
        let blocks = script.takeSent().last?.sackBlocks ?? []
        let expected = [1_001..<1_101, 801..<901, 601..<701, 401..<501]
        #expect(blocks == Array(expected.prefix(hasTimestamps ? 3 : 4)))
    }

    // RFC 2018, section 8: the receiver SHOULD NOT renege; a dropped segment is not reported.
    @Test("what is not kept is not reported")
    func droppedSegment() throws {
        let script = try SegmentScript { $0.limits.reassemblyPieces = 1 }
        _ = script.established(sackPermitted: true)
        script.peer(.ack, seq: 101, ack: 1, length: 100)
        script.expect(.ack, ack: 1)
        script.peer(.ack, seq: 501, ack: 1, length: 100)
        #expect(script.expect(.ack, ack: 1).sackBlocks == [101..<201])
        #expect(script.drops(.reassemblyOverflow) == 1)
    }

    // RFC 2883, section 4.1.1
    @Test("a duplicate segment is reported once, in the first block")
    func duplicateSegment() throws {
        let script = try SegmentScript()
        _ = script.established(sackPermitted: true)
        script.peer(.ack, seq: 1, ack: 1, length: 100)
        script.peer(.ack, seq: 101, ack: 1, length: 100)
        script.expect(.ack, ack: 201)
        script.peer(.ack, seq: 1, ack: 1, length: 100)
        #expect(script.expect(.ack, ack: 201).sackBlocks == [1..<101])
        script.peer(.ack, seq: 301, ack: 1, length: 100)
        #expect(script.expect(.ack, ack: 201).sackBlocks == [301..<401])
        #expect(script.tcp.duplicatesReported == 1)
    }

    // RFC 2883, section 4.1.2
    @Test("a duplicate beside a gap: its block, then the one behind the gap")
    func duplicateBesideAGap() throws {
        let script = try SegmentScript()
        _ = script.established(sackPermitted: true)
        script.peer(.ack, seq: 1, ack: 1, length: 100)
        script.peer(.ack, seq: 301, ack: 1, length: 100)
        _ = script.takeSent()
        script.peer(.ack, seq: 1, ack: 1, length: 100)
        #expect(script.expect(.ack, ack: 101).sackBlocks == [1..<101, 301..<401])
    }

    // RFC 2883, section 4.2: "the second block in that SACK option SHOULD be used to specify the larger block"
    @Test("a duplicate inside a larger block that waits: its own block, then the larger one")
    func duplicateInsideABlock() throws {
        let script = try SegmentScript()
        _ = script.established(sackPermitted: true)
        script.peer(.ack, seq: 201, ack: 1, length: 100)
        script.peer(.ack, seq: 301, ack: 1, length: 100)
        script.peer(.ack, seq: 601, ack: 1, length: 100)
        _ = script.takeSent()
        script.peer(.ack, seq: 301, ack: 1, length: 100)
        #expect(script.expect(.ack, ack: 1).sackBlocks == [301..<401, 201..<401, 601..<701])
    }

    @Test("a segment with old and new bytes reports the old ones")
    func partlyDuplicate() throws {
        let script = try SegmentScript()
        _ = script.established(sackPermitted: true)
        script.peer(.ack, seq: 1, ack: 1, length: 100)
        script.peer(.ack, seq: 51, ack: 1, length: 100)
        #expect(script.expect(.ack, ack: 151).sackBlocks == [51..<101])
    }
}
