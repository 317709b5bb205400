/* Beyond the published interface. */
#ifndef DEMI_EXTRA_H_IS_INCLUDED
#define DEMI_EXTRA_H_IS_INCLUDED

#include <demi/types.h>
#include <demi/wait.h>

DEMI_EXTERN_BEGIN

/* The most segments of an array of demi_pushv and demi_popv. */
#define DEMI_SEGMENTS_MAX 16

/*
 * demi_queue: opens an in-memory queue
 *
 * What is pushed to it is popped from it, unit by unit, without a copy, by the same thread.
 *
 * Parameters:
 *   qd_out  where the queue descriptor goes
 * Errors:
 *   EINVAL  qd_out is NULL
 *   EMFILE  65536 queues are open
 */
extern int demi_queue(int *qd_out);

/*
 * demi_shutdown: ends one or both directions of a connection
 *
 * What was pushed before is still sent. Pops end with a segment of no bytes once receiving is shut down.
 *
 * Parameters:
 *   qd   the queue
 *   how  SHUT_RD, SHUT_WR or SHUT_RDWR
 * Errors:
 *   EBADF       no open queue has this descriptor
 *   EINVAL      how is another one
 *   ENOTCONN    the socket is not connected
 *   EOPNOTSUPP  the queue has no such end
 */
extern int demi_shutdown(int qd, int how);

/*
 * demi_async_close: closes a queue, and tells when it is gone
 *
 * As demi_close; the token completes with DEMI_OPC_CLOSE when the connection has ended.
 *
 * Parameters:
 *   qt_out  where the token goes
 *   qd      the queue
 * Errors:
 *   EBADF    no open queue has this descriptor
 *   EINVAL   qt_out is NULL
 *   ENOBUFS  262144 operations are pending or not redeemed; the queue is open still
 */
extern int demi_async_close(demi_qtoken_t *qt_out, int qd);

/*
 * demi_cancel: asks for the end of an operation
 *
 * Its token still completes once: with ECANCELED, or with its result. A push of which a byte was taken goes on.
 *
 * Parameters:
 *   qt  the token
 * Errors:
 *   EINVAL  no operation has this token
 */
extern int demi_cancel(demi_qtoken_t qt);

/*
 * demi_pushv: sends several segments as one array
 *
 * As demi_push and demi_pushto, for bytes that lie in several places. Each segment lies within one block of the thread's heap: in an array that the
 * program holds, or in memory of demi_malloc. Both may be freed at once.
 *
 * Parameters:
 *   qt_out     where the token goes
 *   qd         the queue
 *   segs       the segments, in order
 *   num_segs   how many, 1 to 16
 *   dest_addr  where a datagram goes, a struct sockaddr_in or sockaddr_in6; NULL for the socket's peer
 *   size       its size; 0 where there is none
 * Errors:
 *   EBADF         no open queue has this descriptor
 *   EINVAL        a pointer is NULL, num_segs is out of range, size does not fit the family, a segment lies in no block of the heap or reaches beyond
 *                 it, or all are empty on a stream
 *   EAFNOSUPPORT  the address is of another family than the socket
 *   ENOTCONN      the socket is not connected
 *   EDESTADDRREQ  the datagram socket has no peer
 *   EPIPE         the sending direction has ended
 *   EMSGSIZE      the segments are larger than the largest unit
 *   EISCONN       the socket has a peer, and may send to no other
 *   EACCES        the address is a broadcast address: set SO_BROADCAST
 *   EOPNOTSUPP    the queue takes nothing, or no address
 *   ENOBUFS       262144 operations are pending or not redeemed, or 262144 segments are in use
 */
extern int demi_pushv(
    demi_qtoken_t *qt_out, int qd, const demi_sgaseg_t segs[], uint32_t num_segs, const struct sockaddr *dest_addr, socklen_t size);

/*
 * demi_popv: asks for what comes next, in several segments
 *
 * As demi_pop. The array's sga_numsegs may be more than 1: then sga_segs has the first segment, and demi_sga_segments tells all. What exceeds the
 * limits is popped next.
 *
 * Parameters:
 *   qt_out     where the token goes
 *   qd         the queue
 *   max_segs   segments at most, 1 to 16
 *   max_bytes  bytes at most, at least 1
 * Errors:
 *   EBADF       no open queue has this descriptor
 *   EINVAL      qt_out is NULL, or a limit is out of range
 *   ENOTCONN    the socket is not connected
 *   EOPNOTSUPP  the queue gives nothing
 *   ENOBUFS     262144 operations are pending or not redeemed
 */
extern int demi_popv(demi_qtoken_t *qt_out, int qd, uint32_t max_segs, size_t max_bytes);

/*
 * demi_sga_segments: tells all segments of an array
 *
 * Parameters:
 *   sga           an array of demi_sgaalloc, or of a pop
 *   segs_out      where the segments go
 *   capacity      how many fit
 *   num_segs_out  where their number goes
 * Errors:
 *   EINVAL  a pointer is NULL, sga is no array of this thread or was freed, or the segments do not fit
 */
extern int demi_sga_segments(const demi_sgarray_t *sga, demi_sgaseg_t segs_out[], uint32_t capacity, uint32_t *num_segs_out);

/*
 * demi_sga_address: tells where a datagram came from
 *
 * Also an IPv6 address, for which the array itself has no room.
 *
 * Parameters:
 *   sga      an array of a pop
 *   addr     where the address goes
 *   addrlen  the room there in bytes; then the address's size
 * Errors:
 *   EINVAL    a pointer is NULL, sga is no array of this thread or was freed, or the address does not fit
 *   ENOTCONN  the array came from no address: it was allocated, or popped from a stream
 */
extern int demi_sga_address(const demi_sgarray_t *sga, struct sockaddr *addr, socklen_t *addrlen);

/*
 * demi_wait_all: waits for all of several operations
 *
 * Parameters:
 *   qrs_out  where the results go, in the order of the tokens
 *   qts      the tokens, none of them twice
 *   num_qts  how many, 1 to 1048576
 *   timeout  how long to wait at most; NULL for ever, zero to ask once
 * Errors:
 *   EINVAL     a pointer is NULL, num_qts is out of range, timeout is no time, or a token names no operation or stands twice; nothing is redeemed
 *   ETIMEDOUT  the time is over; nothing is redeemed, and the operations go on
 *   ENOBUFS    the program holds too many arrays: free some
 *   ENOMEM     there is no memory for so many results
 */
extern int demi_wait_all(demi_qresult_t qrs_out[], const demi_qtoken_t qts[], int num_qts, const struct timespec *timeout);

/*
 * demi_poll: takes one turn without waiting
 *
 * Parameters:
 *   progress_out  where it goes whether anything was done: 1, or 0
 * Errors:
 *   EINVAL  progress_out is NULL
 */
extern int demi_poll(int *progress_out);

/*
 * demi_event_fd: a descriptor for another event loop
 *
 * It is readable when a turn would bring something. Poll (demi_poll) until nothing is done any more before going to sleep on it. The runtime closes it.
 *
 * Parameters:
 *   fd_out  where the descriptor goes
 * Errors:
 *   EINVAL      fd_out is NULL
 *   EMFILE      the process has no descriptor left
 *   EOPNOTSUPP  a device cannot wake a sleeper
 */
extern int demi_event_fd(int *fd_out);

/*
 * demi_malloc: allocates memory that devices can reach
 *
 * Parameters:
 *   size  bytes, 1 to 258032
 * Returns: memory of the thread's heap, not initialised, aligned to 16 bytes; NULL where it cannot be had (demi_last_error tells why).
 */
extern void *demi_malloc(size_t size);

/*
 * demi_free: gives memory of demi_malloc back
 *
 * Memory that was pushed may be freed at any time, also before its push has completed.
 *
 * Parameters:
 *   ptr  what demi_malloc returned; NULL does nothing
 * Errors:
 *   EINVAL  ptr is nothing that demi_malloc gave to this thread, or was freed before; nothing has changed
 */
extern int demi_free(void *ptr);

/* Counts of the thread's runtime. Fields are only ever added at the end. */
struct demi_statistics
{
    uint32_t version;               /* 1 */
    uint32_t size;                  /* bytes that were filled */
    uint64_t turns;                 /* of the run loop */
    uint64_t sleeps;                /* in the kernel, while waiting */
    uint64_t live_operations;       /* pending, or completed and not redeemed */
    uint64_t open_queues;
    uint64_t closing_queues;        /* closed, and sending still or waiting for the peer */
    uint64_t queues_opened;
    uint64_t live_arrays;           /* that the program holds, demi_malloc's among them */
    uint64_t memory_limit;          /* bytes of the heap */
    uint64_t memory_used;
    uint64_t live_blocks;           /* of the heap */
    uint64_t live_segments;
    uint64_t allocations_refused;   /* since the runtime was made */
};

/*
 * demi_get_statistics: tells the counts of the thread's runtime
 *
 * Parameters:
 *   statistics  where the counts go
 *   size        bytes there: sizeof(struct demi_statistics). Beyond what the library knows, all is set to 0
 * Errors:
 *   EINVAL  statistics is NULL, or size is below 8 or above 4096
 */
extern int demi_get_statistics(struct demi_statistics *statistics, size_t size);

/*
 * demi_version: tells the library's version
 *
 * May be called by any thread at any time.
 *
 * Returns: as in "0.1.0".
 */
extern const char *demi_version(void);

/*
 * demi_last_error: tells what was wrong with the last call that failed
 *
 * May be called by any thread at any time.
 *
 * Returns: a sentence that names the mend; an empty one where the errno says it all, or where no call of this thread has failed. It is never freed.
 */
extern const char *demi_last_error(void);

DEMI_EXTERN_END

#endif /* DEMI_EXTRA_H_IS_INCLUDED */
