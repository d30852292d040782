/* The largest of many scores, by their bits (radix selection): time grows with their number alone, however they are
 * distributed. Of equal scores those with the lower index come first. */
#ifndef BRT_OPS_TOP_SCORES_H
#define BRT_OPS_TOP_SCORES_H

#include "../kernels/kernels.h"

/* The largest scores: all above the least of them, and so many of those that equal it. Not-a-number is larger than all
 * others, or, with a sign, smaller. */
typedef struct brt_top {
    real least;
    size_t ties;
} brt_top;
/* The `count` largest of n scores; 0 < count <= n. */
brt_top brt_top_find(size_t n, const real *scores, size_t count);
/* Whether a score is one of them. To be asked of each once, in their order. */
bool brt_top_takes(brt_top *top, real score);

/* The indices of the `count` largest, ascending; all when there are no more. Returns how many there are. */
size_t brt_top_select(size_t n, const real *scores, size_t count, uint32_t *list);

#endif
