/* Memory for scatter-gather arrays. */
#ifndef DEMI_SGA_H_IS_INCLUDED
#define DEMI_SGA_H_IS_INCLUDED

#include <demi/types.h>

DEMI_EXTERN_BEGIN

/*
 * demi_sgaalloc: allocates a scatter-gather array
 *
 * The array has one segment of size bytes, not initialised, in memory that devices can reach. It belongs to the program until demi_sgafree.
 *
 * Parameters:
 *   size  bytes, 1 to 258048
 * Returns: the array; one whose sga_numsegs is 0 where it cannot be had: for size 0, for more than 258048 bytes, and when the thread's heap is at its
 * limit (demi_last_error tells which).
 */
extern demi_sgarray_t demi_sgaalloc(size_t size);

/*
 * demi_sgafree: gives a scatter-gather array back
 *
 * An array that was pushed may be freed at any time, also before its push has completed: its memory lives until the last transmission is over.
 *
 * Parameters:
 *   sga  an array of demi_sgaalloc, or of a pop
 * Errors:
 *   EINVAL  sga is NULL, was freed before, or is no array of this thread; nothing has changed
 */
extern int demi_sgafree(demi_sgarray_t *sga);

DEMI_EXTERN_END

#endif /* DEMI_SGA_H_IS_INCLUDED */
