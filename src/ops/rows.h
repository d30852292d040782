/* Row-wise operations in parallel: rows in groups fixed by shape. */
#ifndef BRT_OPS_ROWS_H
#define BRT_OPS_ROWS_H

#include "../base/size.h"

/* Rows of one task, so that a task handles about 64 KiB. */
static inline size_t brt_row_group(size_t row_reals)
{
    return brt_max_size(1, 16384 / brt_max_size(row_reals, 1));
}

#endif
