/* Numbers in bf16, two in 32 bits. */
#ifndef BRT_KERNELS_VECTOR_PAIRS_H
#define BRT_KERNELS_VECTOR_PAIRS_H

#include "vector.h"

typedef uint16_t short_vec __attribute__((vector_size(BRT_VECTOR_BYTES / 2)));
typedef uint32_t uvec __attribute__((vector_size(BRT_VECTOR_BYTES)));

/* In the lower halves. */
static inline uvec vec_to_bf16(vec v)
{
    uvec bits = (uvec)v, rounded = bits + 0x7fff + (bits >> 16 & 1), quiet = bits | 0x400000;
    uvec is_number = (uvec)(v == v);
    return ((is_number & rounded) | (~is_number & quiet)) >> 16;
}

static void to_bf16(size_t n, const real *x, uint16_t *y)
{
    for (size_t i = 0; i < n; i += lanes) {
        size_t left = n - i < lanes ? n - i : lanes;
        short_vec part = __builtin_convertvector(vec_to_bf16(vec_load_upto(x + i, n - i)), short_vec);
        memcpy(y + i, &part, left * sizeof *y);
    }
}

static void pair_rows(size_t rows, size_t columns, const real *x, size_t x_stride, uint32_t *y, size_t y_stride)
{
    for (size_t r = 0; r < rows; r += 2, x += 2 * x_stride, y += y_stride)
        for (size_t i = 0; i < columns; i += lanes) {
            size_t left = columns - i;
            uvec first = vec_to_bf16(vec_load_upto(x + i, left)), second = {0};
            if (r + 1 < rows)
                second = vec_to_bf16(vec_load_upto(x + x_stride + i, left));
            vec_store_upto((float *)(void *)(y + i), left, (vec)(first | second << 16));
        }
}

/* sum + the two products of each lane's pairs */
static inline vec add_pair_products(vec sum, vec a, vec b)
{
#if defined(__AVX512BF16__) && BRT_VECTOR_BYTES == 64
    return (vec)_mm512_dpbf16_ps((__m512)sum, (__m512bh)a, (__m512bh)b);
#else
    sum += (vec)((uvec)a << 16) * (vec)((uvec)b << 16);
    return sum + (vec)((uvec)a & 0xffff0000) * (vec)((uvec)b & 0xffff0000);
#endif
}

#endif
