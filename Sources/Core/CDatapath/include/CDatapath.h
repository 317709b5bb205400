// What Swift cannot say: processor instructions, C11 atomics on memory that another thread or device may write, and the stack switch.
// Everything is a static inline that folds into its Swift caller, but for the first step of a fresh stack.
#ifndef CDATAPATH_H
#define CDATAPATH_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>

#include "InternetChecksum.h"
#include "SharedMemory.h"

#if !defined(__linux__)
#error "Demikernel runs on Linux: its devices, clocks and wake-ups are spoken through Linux system calls."
#endif
#if !defined(__x86_64__)
#error "Demikernel's stack switch is written and measured for x86-64 only; port demi_switch and StackSwitch.c to build on another processor."
#endif

/// The thread's own address, unique among live threads: one load, where a thread identifier would cost a call.
static inline uintptr_t demi_thread_pointer(void) {
    uintptr_t pointer;
    __asm__("movq %%fs:0, %0" : "=r"(pointer));
    return pointer;
}

/// The time stamp counter. Not serialising: a few instructions of skew do not matter to a timer wheel.
static inline uint64_t demi_cycle_counter(void) { return __builtin_ia32_rdtsc(); }

/// (value * multiplier) >> 32 without overflow: cycles to nanoseconds with a 32.32 fixed-point factor.
static inline uint64_t demi_scale_cycles(uint64_t value, uint64_t multiplier) {
    return (uint64_t)(((unsigned __int128)value * multiplier) >> 32);
}

/// Nanoseconds of CLOCK_MONOTONIC.
static inline uint64_t demi_monotonic_nanoseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static inline uint32_t demi_load_relaxed_u32(const void *address) {
    return atomic_load_explicit((const _Atomic uint32_t *)address, memory_order_relaxed);
}
static inline uint32_t demi_exchange_u32(void *address, uint32_t value) {
    return atomic_exchange_explicit((_Atomic uint32_t *)address, value, memory_order_acq_rel);
}
static inline uint32_t demi_fetch_or_u32(void *address, uint32_t value) {
    return atomic_fetch_or_explicit((_Atomic uint32_t *)address, value, memory_order_acq_rel);
}
static inline uint32_t demi_fetch_and_u32(void *address, uint32_t value) {
    return atomic_fetch_and_explicit((_Atomic uint32_t *)address, value, memory_order_acq_rel);
}
static inline uint32_t demi_fetch_add_u32(void *address, uint32_t value) {
    return atomic_fetch_add_explicit((_Atomic uint32_t *)address, value, memory_order_acq_rel);
}

/// ppoll(2) without a signal mask. Declared here because glibc hides it behind _GNU_SOURCE.
static inline int demi_ppoll(struct pollfd *descriptors, uint64_t count, const struct timespec *timeout) {
    extern int ppoll(struct pollfd *, nfds_t, const struct timespec *, const void *);
    return ppoll(descriptors, (nfds_t)count, timeout, NULL);
}

/// accept4(2): non-blocking and closed on exec. Declared here because glibc hides it behind _GNU_SOURCE.
static inline int demi_accept(int listener, struct sockaddr *address, socklen_t *byte_count) {
    extern int accept4(int, struct sockaddr *, socklen_t *, int);
    return accept4(listener, address, byte_count, SOCK_NONBLOCK | SOCK_CLOEXEC);
}

/// The name ("EADDRINUSE") and the text of an errno, or NULL. glibc 2.32; declared here because glibc hides them behind _GNU_SOURCE.
static inline const char *demi_error_name(int number) {
    extern const char *strerrorname_np(int);
    return strerrorname_np(number);
}
static inline const char *demi_error_text(int number) {
    extern const char *strerrordesc_np(int);
    return strerrordesc_np(number);
}

/// Where a stack's execution stands while another one runs.
typedef struct {
    void *instruction;
    void *stack;
    void *frame;
} demi_execution;

/// Leaves the running stack, whose execution is kept in `*saved`, and goes on where `*target` stands. Returns when something switches back.
///
/// Inlined, with every register named as overwritten: so the compiler saves just what it still needs, where a function of its own would have to save all.
/// Nothing is pushed, because the caller may use the 128 bytes below its stack pointer. The jump is indirect: a `ret` to an address that no call
/// pushed mispredicts every time (16 ns, against 4). The floating-point control words are not saved: no coroutine changes them.
static inline __attribute__((always_inline)) void demi_switch(demi_execution *saved, const demi_execution *target) {
    __asm__ volatile(
        "leaq 1f(%%rip), %%rax\n\t"
        "movq %%rax, 0(%%rdi)\n\t"
        "movq %%rsp, 8(%%rdi)\n\t"
        "movq %%rbp, 16(%%rdi)\n\t"
        "movq 8(%%rsi), %%rsp\n\t"
        "movq 16(%%rsi), %%rbp\n\t"
        "jmpq *0(%%rsi)\n\t"
        "1:"
        : "+D"(saved), "+S"(target)
        :
        : "rax", "rbx", "rcx", "rdx", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6",
          "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15",
#if defined(__AVX512F__)
          "xmm16", "xmm17", "xmm18", "xmm19", "xmm20", "xmm21", "xmm22", "xmm23", "xmm24", "xmm25", "xmm26", "xmm27", "xmm28", "xmm29", "xmm30",
          "xmm31", "k1", "k2", "k3", "k4", "k5", "k6", "k7",
#endif
          "memory", "cc");
}

/// An execution that begins with `entry(argument)` on a fresh stack. `stack_top` is one past its highest byte, 16-byte aligned. `entry` must never
/// return; it leaves by a last switch.
demi_execution demi_prepare_execution(void *stack_top, void (*entry)(void *), void *argument);

#endif
