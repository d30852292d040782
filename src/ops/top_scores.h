/* The largest of many scores, by their bits (radix selection): time grows with their number alone, however they are
 * distributed. Of equal scores those with the lower index come first. */
#ifndef BRT_OPS_TOP_SCORES_H
#define BRT_OPS_TOP_SCORES_H

#include "../kernels/kernels.h"

enum { BRT_TOP_BINS = 1 << 11 };

/* Adds scores to a histogram over their upper bits, [BRT_TOP_BINS]. */
void brt_top_count(size_t n, const real *scores, uint32_t *histogram);
/* The indices of the `count` largest, ascending; all when there are no more. `histogram` has counted every score. list
 * has room for n; returns how many there are. */
size_t brt_top_select(const brt_kernels *kernels, size_t n, const real *scores, const uint32_t *histogram, size_t count,
                      uint32_t *list);

#endif
