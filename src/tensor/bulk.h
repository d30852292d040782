/* Copies and sums of long stretches, on several threads. */
#ifndef BRT_TENSOR_BULK_H
#define BRT_TENSOR_BULK_H

#include "../kernels/kernels.h"

/* to = from */
void brt_bulk_copy(int threads, size_t count, const real *from, real *to);
/* to += from */
void brt_bulk_add(const brt_kernels *kernels, int threads, size_t count, const real *from, real *to);

#endif
