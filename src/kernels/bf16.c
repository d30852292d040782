/* The only unit compiled for AVX512-BF16: call it only where the processor has it. */
#include "peak.h"
#include "tables.h"

#include <immintrin.h>

void brt_bf16_dot_products(size_t rounds, float *result)
{
    __m512 chain[BRT_BF16_CHAINS];
    __m512bh x = (__m512bh)_mm512_set1_epi16(0x3f00);
    for (size_t i = 0; i < BRT_BF16_CHAINS; i++)
        chain[i] = _mm512_set1_ps((float)i);
    for (size_t r = 0; r < rounds; r++)
#pragma GCC unroll 24
        for (size_t i = 0; i < BRT_BF16_CHAINS; i++)
            chain[i] = _mm512_dpbf16_ps(chain[i], x, x);
    __m512 sum = chain[0];
    for (size_t i = 1; i < BRT_BF16_CHAINS; i++)
        sum = _mm512_add_ps(sum, chain[i]);
    *result = _mm512_reduce_add_ps(sum);
}
