/* Copies and sums of long stretches and of many rows, on several threads. */
#ifndef BRT_TENSOR_BULK_H
#define BRT_TENSOR_BULK_H

#include "../kernels/kernels.h"

#include <stdint.h>

/* to = from */
void brt_bulk_copy(int threads, size_t count, const real *from, real *to);
/* to += from */
void brt_bulk_add(const brt_kernels *kernels, int threads, size_t count, const real *from, real *to);
/* to = from, to bf16 and from it */
void brt_bulk_round(const brt_kernels *kernels, int threads, size_t count, const real *from, uint16_t *to);
void brt_bulk_widen(const brt_kernels *kernels, int threads, size_t count, const uint16_t *from, real *to);
/* to = 0 */
void brt_bulk_zero(int threads, size_t count, real *to);
/* Each of the rows of `to` [rows, dim] += row [dim] */
void brt_bulk_add_row(const brt_kernels *kernels, int threads, size_t rows, size_t dim, const real *row, real *to);
/* sum [dim] += all rows of `from` [rows, dim], in their order */
void brt_bulk_sum_rows(const brt_kernels *kernels, int threads, size_t rows, size_t dim, const real *from, real *sum);

#endif
