// The yardstick of queues in shared memory: two processes, two bare rings, messages of 64 bytes, and nothing else.
#ifndef RING_PING_PONG_H
#define RING_PING_PONG_H

#include <stdint.h>
#include <sys/types.h>

typedef struct bare_ring_pair bare_ring_pair;

typedef struct {
    bare_ring_pair *pair;
    /// The process that sends every message back.
    pid_t process;
    /// Numbers the messages; no number is 0.
    uint32_t next;
} bare_ring;

/// Starts the process that echoes, on a processor of its own (-1 for any). It ends with this one. Returns 0, or -1 with errno set.
int bare_ring_start(bare_ring *bare, int processor);

/// Sends one message after the other for `duration` nanoseconds, waits for each to come back, and writes each round trip in nanoseconds to `samples`.
/// Returns how many there were, at most `capacity`, or -1 for a message that came back changed.
int bare_ring_run(bare_ring *bare, uint64_t duration, uint32_t *samples, int capacity);

/// Ends the process and releases the rings.
void bare_ring_stop(bare_ring *bare);

#endif
