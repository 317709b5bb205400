// What Swift cannot say: processor instructions, C11 atomics on memory that another thread or device may write, and the stack switch.
// Everything is a static inline that folds into its Swift caller, but for the stack switch, which has to be a real call.
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

#if !defined(__linux__)
#error "Demikernel runs on Linux: its devices, clocks and wake-ups are spoken through Linux system calls."
#endif
#if !defined(__x86_64__)
#error "Demikernel's stack switch is written and measured for x86-64 only; port demi_stack_switch in StackSwitch.c to build on another processor."
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

/// A hint to the processor inside a spin loop.
static inline void demi_spin_hint(void) { __builtin_ia32_pause(); }

static inline uint32_t demi_load_relaxed_u32(const void *address) {
    return atomic_load_explicit((const _Atomic uint32_t *)address, memory_order_relaxed);
}
static inline uint32_t demi_exchange_u32(void *address, uint32_t value) {
    return atomic_exchange_explicit((_Atomic uint32_t *)address, value, memory_order_acq_rel);
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

/// Saves the caller's registers on its stack and the stack pointer in `*saved_stack_pointer`, then continues on `target_stack_pointer`,
/// which an earlier switch saved or `demi_stack_prepare` made. Returns when something switches back.
void demi_stack_switch(void **saved_stack_pointer, void *target_stack_pointer);

/// Lays out a fresh stack whose first switch calls `entry(argument)`. `stack_top` is one past the highest byte, 16-byte aligned.
/// `entry` must never return; it leaves by a last switch.
void *demi_stack_prepare(void *stack_top, void (*entry)(void *), void *argument);

#endif
