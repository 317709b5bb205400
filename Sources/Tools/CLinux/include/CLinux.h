// Linux calls that the C library's Swift module leaves out: what takes a variable number of arguments, and what stands behind _GNU_SOURCE.
#ifndef CLINUX_H
#define CLINUX_H

#include "RingPingPong.h"

/// Has the kernel send `signal_number` to this process when the thread that started it ends. Survives `execve`. Returns 0, or -1 with errno set.
int linux_signal_on_parent_exit(int signal_number);

/// Binds the calling thread, and those it starts later, to one processor. Returns 0, or -1 with errno set.
int linux_bind_to_processor(int processor);

/// The processors that the calling thread may run on: writes up to `capacity` numbers, ascending, and returns how many.
int linux_allowed_processors(int *processors, int capacity);

#endif
