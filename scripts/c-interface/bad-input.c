/*
 * Every call with every combination of good and bad arguments: none may crash, read or write what is not its own (valgrind tells), or change anything
 * when it refuses. What each mistake is refused with, BadInputTests knows; here a NULL among the pointers that a call needs is EINVAL, whatever else is wrong.
 */
#include <demi/extra.h>
#include <demi/libos.h>
#include <demi/sga.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define EACH(index, array) for (size_t index = 0; index < COUNT(array); index++)

static unsigned long cases;

/* Counts a case. A result is 0 or an errno; where a pointer is missing it is EINVAL. */
static void judge(const char *call, int result, int is_missing)
{
    cases++;
    if (result >= 0 && result < 134 && (!is_missing || result == EINVAL))
        return;
    fprintf(stderr, "%s returned %d\n", call, result);
    exit(EXIT_FAILURE);
}

static void must(int error, const char *call)
{
    if (error == 0)
        return;
    fprintf(stderr, "%s: %s\n", call, strerror(error));
    exit(EXIT_FAILURE);
}

static struct demi_statistics counts(void)
{
    struct demi_statistics statistics;
    must(demi_get_statistics(&statistics, sizeof(statistics)), "demi_get_statistics");
    return statistics;
}

int main(void)
{
    struct demi_args args = {0, 0, 0};
    int stream, datagram, memory, closed;
    must(demi_init(&args), "demi_init");
    must(demi_socket(&stream, AF_INET, SOCK_STREAM, 0), "demi_socket");
    must(demi_socket(&datagram, AF_INET, SOCK_DGRAM, 0), "demi_socket");
    must(demi_queue(&memory), "demi_queue");
    must(demi_queue(&closed), "demi_queue");
    must(demi_close(closed), "demi_close");

    /* What a call reads lies in blocks of its exact size, so that valgrind sees one byte too many. */
    struct sockaddr_in *address = malloc(sizeof(*address));
    memset(address, 0, sizeof(*address));
    address->sin_family = AF_INET;
    struct sockaddr *strange = malloc(2);
    strange->sa_family = AF_APPLETALK;
    demi_sgarray_t *array = malloc(sizeof(*array)), *freed = malloc(sizeof(*freed)), *forged = malloc(sizeof(*forged));
    *array = demi_sgaalloc(100);
    *freed = demi_sgaalloc(100);
    must(demi_sgafree(freed), "demi_sgafree");
    *forged = *array;
    forged->sga_buf = forged;
    demi_sgaseg_t *segments = malloc(2 * sizeof(*segments));
    segments[0] = array->sga_segs[0];
    segments[1].sgaseg_buf = segments;
    segments[1].sgaseg_len = sizeof(*segments);
    demi_qtoken_t *token = malloc(sizeof(*token)), pending;
    demi_qresult_t *result = malloc(sizeof(*result));
    struct timespec *negative = malloc(sizeof(*negative)), *now = malloc(sizeof(*now));
    negative->tv_sec = -1;
    negative->tv_nsec = 0;
    now->tv_sec = now->tv_nsec = 0;
    int *number = malloc(sizeof(*number));
    socklen_t *length = malloc(sizeof(*length));
    must(demi_pop(&pending, memory), "demi_pop");

    const int queues[] = {-1, 0, 1, 2, 0x7fffffff, -0x7fffffff - 1, closed, stream, datagram, memory};
    const struct sockaddr *addresses[] = {NULL, (struct sockaddr *)address, strange};
    const socklen_t sizes[] = {0, 1, 2};
    demi_qtoken_t *tokens[] = {NULL, token};
    demi_sgarray_t *arrays[] = {NULL, freed, forged};
    const struct timespec *timeouts[] = {negative, now};
    const demi_qtoken_t names[] = {0, 1, pending ^ 1, ~(demi_qtoken_t)0, pending};
    const int numbers[] = {-0x7fffffff - 1, -1, 0, 1, 3, 0x7fffffff};
    const struct demi_statistics before = counts();

    EACH(q, queues) EACH(t, tokens)
    {
        const int is_socket = queues[q] == stream || queues[q] == datagram;
        EACH(a, arrays) judge("demi_push", demi_push(tokens[t], queues[q], arrays[a]), 1);
        EACH(a, arrays) EACH(d, addresses) EACH(s, sizes)
        {
            judge("demi_pushto", demi_pushto(tokens[t], queues[q], arrays[a], addresses[d], sizes[s]), tokens[t] == NULL || arrays[a] == NULL || addresses[d] == NULL);
        }
        EACH(d, addresses) EACH(s, sizes)
        {
            judge("demi_connect", demi_connect(tokens[t], queues[q], addresses[d], sizes[s]), tokens[t] == NULL || addresses[d] == NULL);
            judge("demi_bind", demi_bind(queues[q], addresses[d], sizes[s]), addresses[d] == NULL);
            judge("demi_pushv", demi_pushv(tokens[t], queues[q], segments, 2, addresses[d], sizes[s]), tokens[t] == NULL);
            judge("demi_pushv", demi_pushv(tokens[t], queues[q], NULL, 2, addresses[d], sizes[s]), 1);
        }
        EACH(n, numbers)
        {
            judge("demi_pushv", demi_pushv(tokens[t], queues[q], segments + 1, (uint32_t)numbers[n], NULL, 0), 1);
            if (numbers[n] <= 0 || queues[q] != memory)
                judge("demi_popv", demi_popv(tokens[t], queues[q], (uint32_t)numbers[n], 0), 1);
            /* An in-memory queue can be shut down. */
            if (queues[q] != memory)
                judge("demi_shutdown", demi_shutdown(queues[q], numbers[n]), 0);
            EACH(m, numbers)
            {
                *length = (socklen_t)numbers[m];
                judge("demi_getsockopt", demi_getsockopt(queues[q], numbers[n], numbers[m], NULL, length), 1);
                judge("demi_getsockopt", demi_getsockopt(queues[q], numbers[n], numbers[m], number, NULL), 1);
                judge("demi_setsockopt", demi_setsockopt(queues[q], numbers[n], numbers[m], NULL, 4), 1);
                judge("demi_setsockopt", demi_setsockopt(queues[q], SOL_SOCKET, SO_LINGER, number, (socklen_t)m), 0);
                judge("demi_setsockopt", demi_setsockopt(queues[q], SOL_SOCKET, SO_KEEPALIVE, number, m % 4), 0);
            }
        }
        if (queues[q] != memory)
        {
            judge("demi_accept", demi_accept(tokens[t], queues[q]), tokens[t] == NULL);
            if (!is_socket)
            {
                judge("demi_pop", demi_pop(tokens[t], queues[q]), tokens[t] == NULL);
                judge("demi_close", demi_close(queues[q]), 0);
                judge("demi_async_close", demi_async_close(tokens[t], queues[q]), tokens[t] == NULL);
            }
        }
        EACH(s, sizes)
        {
            *length = sizes[s];
            judge("demi_getsockname", demi_getsockname(queues[q], (struct sockaddr *)strange, length), 0);
            judge("demi_getsockname", demi_getsockname(queues[q], NULL, length), 1);
            judge("demi_getsockname", demi_getsockname(queues[q], (struct sockaddr *)strange, NULL), 1);
            judge("demi_getpeername", demi_getpeername(queues[q], (struct sockaddr *)strange, length), 0);
            judge("demi_getpeername", demi_getpeername(queues[q], NULL, length), 1);
        }
        judge("demi_listen", demi_listen(queues[q], 0), 0);
    }
    EACH(n, names) EACH(w, timeouts)
    {
        judge("demi_wait", demi_wait(NULL, names[n], timeouts[w]), 1);
        judge("demi_wait", demi_wait(result, names[n], timeouts[w]), 0);
        *token = names[n];
        EACH(m, numbers)
        {
            const int is_one = numbers[m] == 1;
            judge("demi_wait_any", demi_wait_any(NULL, number, token, numbers[m], timeouts[w]), 1);
            judge("demi_wait_any", demi_wait_any(result, NULL, token, numbers[m], timeouts[w]), 1);
            judge("demi_wait_any", demi_wait_any(result, number, NULL, numbers[m], timeouts[w]), 1);
            judge("demi_wait_all", demi_wait_all(NULL, token, numbers[m], timeouts[w]), 1);
            judge("demi_wait_all", demi_wait_all(result, NULL, numbers[m], timeouts[w]), 1);
            judge("demi_wait_next_n", demi_wait_next_n(NULL, numbers[m], number, timeouts[w]), 1);
            judge("demi_wait_next_n", demi_wait_next_n(result, numbers[m], NULL, timeouts[w]), 1);
            if (is_one || numbers[m] < 1 || numbers[m] > 3)
            {
                judge("demi_wait_any", demi_wait_any(result, number, token, numbers[m], timeouts[w]), !is_one);
                judge("demi_wait_all", demi_wait_all(result, token, numbers[m], timeouts[w]), !is_one);
                judge("demi_wait_next_n", demi_wait_next_n(result, numbers[m], number, timeouts[w]), numbers[m] < 1);
            }
        }
        if (names[n] != pending)
            judge("demi_cancel", demi_cancel(names[n]), 1);
    }
    EACH(a, arrays)
    {
        judge("demi_sgafree", demi_sgafree(arrays[a]), 1);
        judge("demi_sga_segments", demi_sga_segments(arrays[a], segments, 2, (uint32_t *)number), 1);
        judge("demi_sga_address", demi_sga_address(arrays[a], strange, length), 1);
    }
    void *pointers[] = {array, address, array->sga_segs[0].sgaseg_buf, (char *)array->sga_segs[0].sgaseg_buf + 16, (void *)16, (void *)-16};
    EACH(p, pointers) judge("demi_free", demi_free(pointers[p]), 1);
    EACH(d, numbers) EACH(n, numbers) judge("demi_socket", demi_socket(NULL, numbers[d], numbers[n], 0), 1);
    EACH(d, numbers) EACH(n, numbers) judge("demi_socket", demi_socket(number, numbers[d], numbers[n], 77), 0);

    const struct demi_statistics after = counts();
    if (after.live_operations != before.live_operations || after.open_queues != before.open_queues || after.live_arrays != before.live_arrays ||
        after.live_blocks != before.live_blocks || after.live_segments != before.live_segments)
    {
        fprintf(stderr, "a call that was refused has left something behind\n");
        return EXIT_FAILURE;
    }
    must(demi_sgafree(array), "demi_sgafree");
    printf("%lu cases\n", cases);
    free(address);
    free(strange);
    free(array);
    free(freed);
    free(forged);
    free(segments);
    free(token);
    free(result);
    free(negative);
    free(now);
    free(number);
    free(length);
    return EXIT_SUCCESS;
}
