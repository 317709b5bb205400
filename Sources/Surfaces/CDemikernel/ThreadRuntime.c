#include "ThreadRuntime.h"

#include <errno.h>

_Thread_local void *volatile demi_idle_runtime;
_Thread_local void *volatile demi_own_runtime;
_Thread_local const char *demi_error_sentence;
char demi_end_of_stream[16];

// What C++ destroys its thread-local objects by: unlike keys of pthread also at the end of the thread that ends the process.
extern int __cxa_thread_atexit_impl(void (*function)(void *), void *argument, void *object);
extern void *__dso_handle __attribute__((visibility("hidden")));

int demi_at_thread_exit(void (*function)(void *), void *argument) {
    return __cxa_thread_atexit_impl(function, argument, &__dso_handle) == 0 ? 0 : ENOMEM;
}
