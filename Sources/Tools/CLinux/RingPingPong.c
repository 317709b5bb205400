#define _GNU_SOURCE
#include "RingPingPong.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

// A slot's number tells when its message is whole, so that the message and the news of it are in one line.
enum { slot_count = 256, message_byte_count = 64 };

typedef struct {
    _Alignas(128) _Atomic uint32_t number;
    char message[message_byte_count];
} slot;

typedef struct {
    slot slots[slot_count];
} ring;

struct bare_ring_pair {
    ring requests, replies;
    _Alignas(128) _Atomic int ended;
};

static void put(ring *ring, uint32_t number, const char *message) {
    slot *slot = &ring->slots[number % slot_count];
    memcpy(slot->message, message, message_byte_count);
    atomic_store_explicit(&slot->number, number, memory_order_release);
}

// Spins for the next message; 0 when the other side has ended.
static int take(bare_ring_pair *pair, ring *ring, uint32_t number, char *message) {
    slot *slot = &ring->slots[number % slot_count];
    while (atomic_load_explicit(&slot->number, memory_order_acquire) != number) {
        if (atomic_load_explicit(&pair->ended, memory_order_relaxed)) return 0;
    }
    memcpy(message, slot->message, message_byte_count);
    return 1;
}

static uint64_t nanoseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

int bare_ring_start(bare_ring *bare, int processor) {
    bare_ring_pair *pair = mmap(NULL, sizeof *pair, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (pair == MAP_FAILED) return -1;
    pid_t parent = getpid();
    pid_t child = fork();
    if (child < 0) {
        munmap(pair, sizeof *pair);
        return -1;
    }
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, (unsigned long)SIGKILL, 0ul, 0ul, 0ul);
        if (getppid() != parent) _exit(1);
        if (processor >= 0) {
            cpu_set_t set;
            CPU_ZERO(&set);
            CPU_SET(processor, &set);
            sched_setaffinity(0, sizeof set, &set);
        }
        char message[message_byte_count];
        for (uint32_t number = 1; take(pair, &pair->requests, number, message); number++) put(&pair->replies, number, message);
        _exit(0);
    }
    bare->pair = pair;
    bare->process = child;
    bare->next = 1;
    return 0;
}

int bare_ring_run(bare_ring *bare, uint64_t duration, uint32_t *samples, int capacity) {
    char message[message_byte_count] = {0}, reply[message_byte_count];
    uint64_t start = nanoseconds(), before = start;
    int count = 0;
    while (count < capacity && before - start < duration) {
        uint32_t number = bare->next++;
        memcpy(message, &number, sizeof number);
        put(&bare->pair->requests, number, message);
        take(bare->pair, &bare->pair->replies, number, reply);
        if (memcmp(message, reply, message_byte_count) != 0) return -1;
        uint64_t after = nanoseconds();
        samples[count++] = (uint32_t)(after - before);
        before = after;
    }
    return count;
}

void bare_ring_stop(bare_ring *bare) {
    atomic_store(&bare->pair->ended, 1);
    kill(bare->process, SIGCONT);
    while (waitpid(bare->process, NULL, 0) < 0 && errno == EINTR) {}
    munmap(bare->pair, sizeof *bare->pair);
}
