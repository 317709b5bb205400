// The start of DPDK's environment abstraction layer (EAL), and what it says when something fails.
#ifdef DPDK

#define _GNU_SOURCE
#include "internal.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

DPDK_CODE_BEGINS

#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_log.h>

static pthread_mutex_t message_lock = PTHREAD_MUTEX_INITIALIZER;
static char message[dpdk_message_bytes];

/// Keeps the first error: those that follow are its consequences.
static void keep_message(const char *text, size_t count) {
    pthread_mutex_lock(&message_lock);
    if (message[0] == 0) {
        size_t length = 0;
        while (length < count && text[length] != '\n' && length + 1 < sizeof message) length += 1;
        memcpy(message, text, length);
        message[length] = 0;
    }
    pthread_mutex_unlock(&message_lock);
}

/// The log's stream. Nothing is printed.
static ssize_t write_log(void *cookie, const char *text, size_t count) {
    (void)cookie;
    if (rte_log_cur_msg_loglevel() <= (int)RTE_LOG_ERR) keep_message(text, count);
    return (ssize_t)count;
}

/// What EAL would print past its log are the errors that end it.
static ssize_t write_error(void *cookie, const char *text, size_t count) {
    (void)cookie;
    keep_message(text, count);
    return (ssize_t)count;
}

static FILE *open_stream(cookie_write_function_t *write) {
    cookie_io_functions_t functions = {.write = write};
    FILE *stream = fopencookie(NULL, "w", functions);
    if (stream != NULL) setvbuf(stream, NULL, _IOLBF, 0);
    return stream;
}

void dpdk_take_message(char *into) {
    pthread_mutex_lock(&message_lock);
    memcpy(into, message, sizeof message);
    message[0] = 0;
    pthread_mutex_unlock(&message_lock);
}

int dpdk_this_processor(void) {
    int processor = sched_getcpu();
    return processor >= 0 ? processor : 0;
}

/// EAL makes a folder for files that it was told not to have. One for each program (`--file-prefix`), so that nobody else looks for it.
static void remove_folder(void) {
    const char *folder = rte_eal_get_runtime_dir();
    if (folder != NULL && folder[0] != 0) rmdir(folder);
}

static int start(int count, const char *const *arguments) {
    FILE *log = open_stream(write_log);
    FILE *errors = open_stream(write_error);
    // EAL changes the array, and keeps pointers into it.
    static char **copies;
    copies = calloc((size_t)count + 1, sizeof *copies);
    if (log == NULL || errors == NULL || copies == NULL) return -ENOMEM;
    rte_openlog_stream(log);
    for (int index = 0; index < count; index++) copies[index] = strdup(arguments[index]);
    // EAL binds the calling thread, which is the program's, to its first core.
    cpu_set_t affinity;
    int bound = sched_getaffinity(0, sizeof affinity, &affinity);
    FILE *standard_error = stderr;
    stderr = errors;
    int result = rte_eal_init(count, copies);
    int error = rte_errno;
    stderr = standard_error;
    fclose(errors);
    if (bound == 0) sched_setaffinity(0, sizeof affinity, &affinity);
    remove_folder();
    if (result >= 0) return 0;
    return error != 0 ? -error : -EINVAL;
}

int dpdk_start(int count, const char *const *arguments) {
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static bool was_tried;
    static int outcome;
    pthread_mutex_lock(&lock);
    if (!was_tried) outcome = start(count, arguments);
    was_tried = true;
    pthread_mutex_unlock(&lock);
    return outcome;
}

DPDK_CODE_ENDS

#endif
