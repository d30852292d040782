/* As many multiply-adds as the set can do: the roof that products are measured against. */
#ifndef BRT_KERNELS_VECTOR_PEAK_H
#define BRT_KERNELS_VECTOR_PEAK_H

#include "peak.h"
#include "vector.h"

static void peak(size_t rounds, real *result)
{
    vec chain[BRT_PEAK_CHAINS], factor = vec_splat(brt_peak_factor), term = vec_splat(brt_peak_term);
    for (size_t i = 0; i < BRT_PEAK_CHAINS; i++)
        chain[i] = vec_splat(brt_peak_start + (float)i);
    for (size_t r = 0; r < rounds; r++)
#pragma GCC unroll 16
        for (size_t i = 0; i < BRT_PEAK_CHAINS; i++)
            chain[i] = chain[i] * factor + term;
    vec sum = {0};
    for (size_t i = 0; i < BRT_PEAK_CHAINS; i++)
        sum += chain[i];
    *result = vec_sum(sum);
}

#endif
