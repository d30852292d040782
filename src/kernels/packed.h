/* Matrices in panels. A product c = a b reads b again for every few rows of a, so b [k, n] is copied into the order in
 * which it is read: its columns are cut into panels of `panel_columns`, and a panel has its k rows one after the other
 * (in bf16 its pairs of rows). The last panel's columns are rounded up to whole vectors; what stands beyond column n
 * does not matter. The panel that begins with column j is found at j * k. */
#ifndef BRT_KERNELS_PACKED_H
#define BRT_KERNELS_PACKED_H

#include <stddef.h>

/* Columns in whole vectors of so many reals. */
static inline size_t brt_round_to_vectors(size_t vector, size_t columns)
{
    return (columns + vector - 1) / vector * vector;
}

/* Length of a row of the panel that begins where `left` columns are left. */
static inline size_t brt_panel_width(size_t panel_columns, size_t vector, size_t left)
{
    return left < panel_columns ? brt_round_to_vectors(vector, left) : panel_columns;
}

#endif
