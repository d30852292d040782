/* The tables themselves, for the files that define them and for the dispatch. */
#ifndef BRT_KERNELS_TABLES_H
#define BRT_KERNELS_TABLES_H

#include "kernels.h"

extern const brt_kernels brt_kernels_generic, brt_kernels_sse2, brt_kernels_avx2, brt_kernels_avx512, brt_kernels_neon;
extern const brt_kernels brt_kernels_avx512_bf16;

/* bf16.c, for x86 processors with AVX512-BF16 only; brt_bf16_peak asks. */
void brt_bf16_dot_products(size_t rounds, float *result);

#endif
