// The calling thread's runtime, in words of the thread's own. Not installed: the published headers are those in demi/.
#ifndef DEMI_THREAD_RUNTIME_H
#define DEMI_THREAD_RUNTIME_H

#include <stddef.h>

// In the initial-exec model each is one load, where a call would have to ask for the address. What a library may have so is little (glibc keeps 1,664
// bytes for those that are opened late), and three words are less. Volatile, because a signal handler may look between any two instructions.
extern _Thread_local void *volatile demi_idle_runtime __attribute__((tls_model("initial-exec"), visibility("hidden")));
extern _Thread_local void *volatile demi_own_runtime __attribute__((tls_model("initial-exec"), visibility("hidden")));

/// The thread's runtime while no call works on it; NULL inside a call, and without a runtime.
static inline void *demi_take_runtime(void) {
    void *runtime = demi_idle_runtime;
    demi_idle_runtime = NULL;
    return runtime;
}
static inline void demi_return_runtime(void *runtime) { demi_idle_runtime = runtime; }

/// The thread's runtime, also inside a call.
static inline void *demi_owned_runtime(void) { return demi_own_runtime; }
static inline void demi_own(void *runtime) {
    demi_own_runtime = runtime;
    demi_idle_runtime = runtime;
}

/// What was wrong with the thread's last call that failed; NULL for nothing to say.
extern _Thread_local const char *demi_error_sentence __attribute__((tls_model("initial-exec"), visibility("hidden")));

static inline const char *demi_get_error_sentence(void) { return demi_error_sentence; }
static inline void demi_set_error_sentence(const char *sentence) { demi_error_sentence = sentence; }

/// Where the segment of no bytes at the end of a stream begins, so that no program meets a null pointer.
extern char demi_end_of_stream[16] __attribute__((visibility("hidden")));
static inline void *demi_end_of_stream_address(void) { return demi_end_of_stream; }

/// Has `function(argument)` called when the thread ends, and when the process ends by its hand. 0, or an errno.
int demi_at_thread_exit(void (*function)(void *), void *argument);

#endif
