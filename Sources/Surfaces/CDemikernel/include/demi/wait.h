/* Waiting for operations. */
#ifndef DEMI_WAIT_H_IS_INCLUDED
#define DEMI_WAIT_H_IS_INCLUDED

#include <time.h>

#include <demi/types.h>

/* Strict C99 has no such type in <time.h> without _POSIX_C_SOURCE. */
struct timespec;

DEMI_EXTERN_BEGIN

/*
 * demi_wait: waits for one operation
 *
 * Runs the thread's library OS until the operation has completed, and redeems its token. The call succeeds also when the operation has failed: then
 * qr_opcode is DEMI_OPC_FAILED and qr_ret tells the errno. A pop at the end of a stream succeeds with a segment of no bytes, which demi_sgafree takes
 * as any other.
 *
 * Parameters:
 *   qr_out   where the result goes
 *   qt       the token
 *   timeout  how long to wait at most; NULL for ever, zero to ask once
 * Errors:
 *   EINVAL     qr_out is NULL, timeout is no time, or no operation has this token: it was redeemed, or is not of this thread
 *   ETIMEDOUT  the time is over; the operation goes on
 *   ENOBUFS    the program holds 1048575 arrays: free some
 */
extern int demi_wait(demi_qresult_t *qr_out, demi_qtoken_t qt, const struct timespec *timeout);

/*
 * demi_wait_any: waits for the first of several operations
 *
 * Redeems one token: of several operations that have completed, the one that did so first.
 *
 * Parameters:
 *   qr_out        where the result goes
 *   ready_offset  where the token's place in qts goes
 *   qts           the tokens
 *   num_qts       how many, 1 to 1048576
 *   timeout       how long to wait at most; NULL for ever, zero to ask once
 * Errors:
 *   EINVAL     a pointer is NULL, num_qts is out of range, timeout is no time, or a token names no operation; nothing is redeemed
 *   ETIMEDOUT  the time is over; the operations go on
 *   ENOBUFS    the program holds 1048575 arrays: free some
 */
extern int demi_wait_any(
    demi_qresult_t *qr_out, int *ready_offset, const demi_qtoken_t qts[], int num_qts, const struct timespec *timeout);

/*
 * demi_wait_next_n: waits for whatever completes next
 *
 * Takes the results of operations in the order of their completion: at least one, then as many as are there and fit.
 *
 * Parameters:
 *   qrs_out       where the results go
 *   capacity      how many fit, at least 1
 *   num_qrs_out   where their number goes; 0 when the call fails
 *   timeout       how long to wait at most; NULL for ever, zero to ask once
 * Errors:
 *   EINVAL     a pointer is NULL, capacity is below 1, or timeout is no time
 *   ETIMEDOUT  the time is over and nothing has completed
 *   ENOBUFS    the program holds 1048575 arrays: free some
 */
extern int demi_wait_next_n(demi_qresult_t *qrs_out, int capacity, int *num_qrs_out, const struct timespec *timeout);

DEMI_EXTERN_END

#endif /* DEMI_WAIT_H_IS_INCLUDED */
