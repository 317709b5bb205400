// Linux calls that the C library's Swift module leaves out: what takes a variable number of arguments, and what stands behind _GNU_SOURCE.
#ifndef CLINUX_H
#define CLINUX_H

#include <stdint.h>

#include "RingPingPong.h"

/// Has the kernel send `signal_number` to this process when the thread that started it ends. Survives `execve`. Returns 0, or -1 with errno set.
int linux_signal_on_parent_exit(int signal_number);

/// Binds the calling thread, and those it starts later, to one processor. Returns 0, or -1 with errno set.
int linux_bind_to_processor(int processor);

/// The processors that the calling thread may run on: writes up to `capacity` numbers, ascending, and returns how many.
int linux_allowed_processors(int *processors, int capacity);

/// Moves the calling thread, and those it starts later, to a new network namespace, which ends with the last of them. Returns 0, or -1 with errno set.
int linux_unshare_network(void);

/// The time that the calling thread has spent in the kernel, in nanoseconds.
uint64_t linux_thread_kernel_nanoseconds(void);

/// Opens the network namespace of the calling thread. Returns a descriptor, or -1 with errno set.
int linux_open_network_namespace(void);

/// Moves the calling thread, and those it starts later, to the network namespace behind a descriptor. Returns 0, or -1 with errno set.
int linux_enter_network_namespace(int descriptor);

/// Moves the process, which has one thread, to a new user namespace, in which it is root, and a new network namespace. Returns 0, or -1 with errno set.
int linux_unshare_user_and_network(void);

#endif
