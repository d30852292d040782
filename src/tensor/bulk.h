/* Copies, sums and roundings of long stretches, on several threads. */
#ifndef BRT_TENSOR_BULK_H
#define BRT_TENSOR_BULK_H

#include "../kernels/kernels.h"

#include <stdint.h>

/* to = from */
void brt_bulk_copy(int threads, size_t count, const real *from, real *to);
/* to += from */
void brt_bulk_add(const brt_kernels *kernels, int threads, size_t count, const real *from, real *to);
/* to = from in bf16 */
void brt_bulk_round(const brt_kernels *kernels, int threads, size_t count, const real *from, uint16_t *to);

#endif
