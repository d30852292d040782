/* How much memory the system can still give, and large stretches of it. */
#ifndef BRT_BASE_MEMORY_H
#define BRT_BASE_MEMORY_H

#include "status.h"

/* Bytes, within the limits of the machine and of the control group; UINT64_MAX when the system does not tell. */
uint64_t brt_available_memory(void);

/* Refuses, with the sizes, to take `bytes` that are not there for `what` ("parameters"). The system itself would hand
 * them out and end the process, or another one, when they are used. */
brt_status brt_memory_check(uint64_t bytes, const char *what);

/* Bytes in whole pages, zero, the caller's until brt_pages_give; NULL when the system refuses. From 2 MiB on they are
 * pages of that size, where there are such: what is read again and again then has a place of its own in the
 * second-level cache, while small pages come to lie on each other there (a step with packed weights, and the room where
 * a weight's gradient packs, in large ones takes 2 % less). */
void *brt_pages_take(size_t bytes);
/* NULL is none. */
void brt_pages_give(void *pages, size_t bytes);

#endif
