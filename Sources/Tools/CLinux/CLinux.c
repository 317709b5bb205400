#define _GNU_SOURCE
#include "CLinux.h"

#include <errno.h>
#include <sched.h>
#include <sys/prctl.h>
#include <unistd.h>

int linux_signal_on_parent_exit(int signal_number) { return prctl(PR_SET_PDEATHSIG, (unsigned long)signal_number, 0ul, 0ul, 0ul); }

int linux_bind_to_processor(int processor) {
    if (processor < 0 || processor >= CPU_SETSIZE) {
        errno = EINVAL;
        return -1;
    }
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(processor, &set);
    return sched_setaffinity(0, sizeof set, &set);
}

int linux_allowed_processors(int *processors, int capacity) {
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) != 0) return 0;
    int count = 0;
    for (int processor = 0; processor < CPU_SETSIZE && count < capacity; processor++)
        if (CPU_ISSET(processor, &set)) processors[count++] = processor;
    return count;
}

int linux_unshare_network(void) { return unshare(CLONE_NEWNET); }
