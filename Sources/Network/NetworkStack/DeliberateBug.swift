/// Bugs that network stacks have had, and that this one has when it is told to: they show that the simulator finds such bugs.
///
/// The package built with DEMIKERNEL_DELIBERATE_BUGS in the environment contains all of them, and has the one of `present`. In every other build there is
/// none, and nothing is left of the places that ask. `scripts/deliberate-bugs` runs them.
public enum DeliberateBug: String, CaseIterable, Sendable {
    // MARK: Sending
    /// Of a push that is longer than a segment only the first segment's worth is sent.
    case pushTailLost
    /// A push that fits into a segment is sent before those that still wait.
    case laterPushOvertakes
    /// One byte more than was acknowledged is released of a segment that was acknowledged in part.
    case partlyAcknowledgedByteLost
    /// Going back to the first unacknowledged byte leaves the cursor in the send queue where it was.
    case cursorStaysBehind
    /// A piece of a gathered segment that begins at an odd offset is summed as if it began at an even one.
    case oddPieceSummedAsEven
    /// With Nagle's algorithm a small segment waits even when nothing is unacknowledged.
    case nagleWaitsForever
    /// What a small window has room for is sent, however little that is.
    case sillyWindowFilled
    /// An acknowledgement is compared as a number, not as a sequence number.
    case sequenceWrapForgotten
    /// The program is not told that the send buffer has room again.
    case writableLost

    // MARK: Retransmission
    /// Sending does not start the retransmission timer.
    case retransmissionTimerNotStarted
    /// An acknowledgement of new data does not restart the retransmission timer.
    case retransmissionTimerNotRestarted
    /// The retransmission timer runs on when all is acknowledged, and takes that for a loss.
    case retransmissionTimerNotStopped
    /// The retransmission timeout is not doubled when it expires.
    case timeoutNotBackedOff
    /// The second duplicate acknowledgement starts a fast retransmit.
    case fastRetransmitTooEarly
    /// Only the fourth duplicate acknowledgement starts a fast retransmit.
    case fastRetransmitTooLate
    /// No number of duplicate acknowledgements starts a fast retransmit.
    case fastRetransmitNever
    /// A partial acknowledgement in fast recovery does not send the next hole again.
    case partialAcknowledgementIgnored
    /// What was sent before the last loss counts for another one.
    case recoverIgnored
    /// A lost FIN is not sent again.
    case finishNotRetransmitted

    // MARK: Congestion
    /// The congestion window begins without a limit.
    case initialWindowUnlimited
    /// The congestion window stays as it is when the retransmission timer expires.
    case windowKeptAfterTimeout
    /// The congestion window stays as it is in fast recovery.
    case windowKeptInRecovery
    /// A paced connection sends as much at once as its window allows.
    case segmentsNotPaced
    /// Nothing is sent when a segment that waited for its turn at the pacing rate may go.
    case pacingTimerNotStarted
    /// A model of the path takes no number of losses for congestion.
    case lossesIgnoredByModel
    /// Startup goes on though the bandwidth grows no more.
    case pipeNeverFull
    /// More bandwidth is never looked for.
    case bandwidthNotProbed
    /// The queue is never let run dry to see the shortest round trip.
    case roundTripNotProbed

    /// Slow start goes on while round trips grow.
    case delayIncreaseIgnored
    /// A router's mark is not echoed.
    case echoForgotten
    /// Marks are echoed though the sender has reduced its window.
    case echoNeverEnds
    /// A sender that has reduced its window for a mark does not say so.
    case reductionNotTold
    /// What is sent again may be marked.
    case retransmissionMarked
    /// Acknowledgements without data may be marked.
    case acknowledgementMarked

    // MARK: Windows
    /// A closed window is never probed.
    case zeroWindowNotProbed
    /// A byte that probes a window counts twice as sent.
    case probeCountedTwice
    /// A window that was closed is not announced when it opens.
    case windowUpdateMissing
    /// The window is advertised unscaled where a scale was agreed on.
    case ownWindowScaleIgnored
    /// The peer's window is scaled by the stack's own factor.
    case windowScalesExchanged
    /// The window of a SYN is scaled.
    case synchronizeWindowScaled
    /// The right edge of the advertised window moves left.
    case windowShrinks
    /// Bytes beyond the advertised window are taken.
    case beyondWindowAccepted

    // MARK: Receiving
    /// A piece that waited for its turn is acknowledged and dropped where another one follows.
    case reassemblyPieceLost
    /// Filling a gap delivers the first piece that waited, and no other.
    case reassemblyDrainStops
    /// A FIN is taken before the data in front of it has arrived.
    case finishTakenEarly
    /// A FIN is not counted in the acknowledgement.
    case finishNotCounted
    /// A segment without data is acknowledged.
    case acknowledgementAcknowledged
    /// An acknowledgement that is delayed is never sent.
    case delayedAcknowledgementLost
    /// Every third segment is acknowledged at once, not every second one.
    case everyThirdAcknowledged
    /// A segment whose checksum is zero is refused.
    case zeroChecksumRefused
    /// What fills a frame behind its packet counts as data.
    case paddingTakenAsData
    /// The program is not told of data that arrives while it is told of another connection.
    case readableLost

    // MARK: Selective acknowledgements
    /// Selective acknowledgements are permitted in an answer to a SYN that does not permit them.
    case selectivePermittedUnasked
    /// A block of a selective acknowledgement ends one byte too late.
    case selectiveBlocksTooLong
    /// What arrived twice is not reported.
    case duplicatesNotReported
    /// A segment is lost as soon as one that was sent after it has arrived.
    case reorderingWindowMissing
    /// Nothing is done about a segment that is late when nothing else arrives.
    case reorderingTimerNotStarted
    /// That a segment was late is not learnt from the report of its duplicate.
    case lateSegmentNotLearnt
    /// No loss probe is sent.
    case probeNotSent
    /// The congestion window stays as a spurious recovery has left it.
    case recoveryNotUndone
    /// The records of a connection that fails are not given back.
    case recordsLeaked

    // MARK: Timestamps
    /// Segments with old timestamps are taken.
    case oldTimestampAccepted
    /// A segment outside of the window sets the timestamp to echo.
    case timestampTakenFromOutside
    /// The stack echoes its own time instead of the peer's.
    case ownTimestampEchoed

    // MARK: Connections
    /// Connections that were accepted still count for the backlog.
    case acceptedFillBacklog
    /// The connection of a SYN cookie takes any segment size for the peer's.
    case cookieSegmentSizeForgotten
    /// A half-open connection that is complete still counts as half-open.
    case halfOpenNotForgotten
    /// Ending one direction ends the other one, too.
    case halfCloseClosesBoth
    /// TIME_WAIT lasts no time.
    case timeWaitSkipped
    /// An old SYN ends a connection in TIME_WAIT.
    case oldSynchronizeReopens
    /// A reset is taken wherever its sequence number lies.
    case resetOutsideWindowAccepted
    /// A reset is taken anywhere in the window.
    case resetAnywhereInWindowAccepted
    /// A SYN in the window resets the connection.
    case synchronizeResets
    /// A reset to nobody is answered with a reset.
    case resetAnswered
    /// Resets to segments of no connection are sent without a limit.
    case resetsUnlimited
    /// Challenge acknowledgements are sent without a limit.
    case challengesUnlimited
    /// Keep-alive is never started.
    case keepAliveNotStarted
    /// A bound port is not given back.
    case portNotReleased
    /// Taking a connection out of the flow table makes those behind it unreachable.
    case flowChainBroken
    /// What waits to be sent is not released when the connection fails.
    case sendQueueLeaked
    /// The frame of a reset is released twice.
    case resetReleasedTwice
    /// The program is not told that its connection is gone.
    case closedLost

    // MARK: Below
    /// Where the device completes the checksum, it does so without the pseudo-header.
    case pseudoHeaderForgotten
    /// A host beyond a gateway is asked for as if it were on the link.
    case gatewayIgnored
    /// Frames that wait for a neighbour are dropped when it answers.
    case waitingFramesDropped
    /// A neighbour that was resolved once is never asked again.
    case neighborNotRefreshed
    /// A datagram is given to any socket of its port, whatever its addresses are.
    case datagramAddressIgnored
    /// A fragment is larger than its way takes.
    case fragmentTooLarge
    /// The last fragment of a datagram promises another one.
    case lastFragmentOpen
    /// Fragments of different datagrams have the same identification.
    case identificationRepeated
    /// What has come of a datagram whose rest is lost is kept for ever.
    case reassemblyNeverEnds
    /// A change of membership is told once.
    case membershipToldOnce
    /// Queries about groups are not answered.
    case groupQueryIgnored
    /// Queries about groups are answered when their time is over.
    case groupQueryAnsweredLate
    /// Reports are of the newest version whatever the querier speaks.
    case olderQuerierIgnored
    /// The group of all hosts is reported.
    case allHostsReported
    /// Datagrams that wait together are received as one.
    case datagramsMerged

    #if DELIBERATE_BUGS
        /// The bug that the stacks of this process have. To be set before the first one is made.
        nonisolated(unsafe) public static var present: DeliberateBug?
    #endif

    /// Whether the stack has this bug: never, unless it was built with them.
    @inline(__always)
    static func isPresent(_ bug: DeliberateBug) -> Bool {
        #if DELIBERATE_BUGS
            return present == bug
        #else
            return false
        #endif
    }
}
