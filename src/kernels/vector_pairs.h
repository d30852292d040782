/* Numbers in bf16, two in 32 bits: making pairs, and products that sum over them. */
#ifndef BRT_KERNELS_VECTOR_PAIRS_H
#define BRT_KERNELS_VECTOR_PAIRS_H

#include "vector.h"

#include <stdbool.h>

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
static inline vec add_pair_products(vec sum, uint32_t a, vec b)
{
#if defined(__AVX512BF16__) && BRT_VECTOR_BYTES == 64
    return (vec)_mm512_dpbf16_ps((__m512)sum, (__m512bh)_mm512_set1_epi32((int)a), (__m512bh)b);
#else
    union {
        uint32_t bits;
        float value;
    } low = {a << 16}, high = {a & 0xffff0000};
    sum += low.value * (vec)((uvec)b << 16);
    return sum + high.value * (vec)((uvec)b & 0xffff0000);
#endif
}

enum { pair_tile_rows = 6 };

/* c[rows, vectors * lanes] += a[rows, k] b[k, vectors * lanes], the last vector only its first `left` lanes; rows and
 * vectors are constants at every call. */
static inline __attribute__((always_inline)) void multiply_pairs(size_t rows, size_t vectors, size_t left, size_t k,
                                                                 const uint32_t *a, size_t a_row, size_t a_column,
                                                                 const float *b, size_t b_row, float *c, size_t c_row,
                                                                 bool accumulate)
{
    vec sum[pair_tile_rows][4];
    size_t last = vectors - 1;
#pragma GCC unroll 8
    for (size_t i = 0; i < rows; i++)
#pragma GCC unroll 4
        for (size_t v = 0; v < vectors; v++)
            sum[i][v] = accumulate ? vec_load_upto(c + i * c_row + v * lanes, v < last ? lanes : left) : (vec){0};
    for (size_t p = 0; p < k; p++, a += a_column, b += b_row) {
        vec row[4];
#pragma GCC unroll 4
        for (size_t v = 0; v < vectors; v++)
            row[v] = vec_load_upto(b + v * lanes, v < last ? lanes : left);
#pragma GCC unroll 8
        for (size_t i = 0; i < rows; i++)
#pragma GCC unroll 4
            for (size_t v = 0; v < vectors; v++)
                sum[i][v] = add_pair_products(sum[i][v], a[i * a_row], row[v]);
    }
#pragma GCC unroll 8
    for (size_t i = 0; i < rows; i++)
#pragma GCC unroll 4
        for (size_t v = 0; v < vectors; v++)
            vec_store_upto(c + i * c_row + v * lanes, v < last ? lanes : left, sum[i][v]);
}

/* All rows of some columns. */
static inline __attribute__((always_inline)) void multiply_pair_columns(size_t m, size_t vectors, size_t left, size_t k,
                                                                        const uint32_t *a, size_t a_row, size_t a_column,
                                                                        const float *b, size_t b_row, float *c,
                                                                        size_t c_row, bool accumulate)
{
    size_t i = 0;
    for (; i + pair_tile_rows <= m; i += pair_tile_rows)
        multiply_pairs(pair_tile_rows, vectors, left, k, a + i * a_row, a_row, a_column, b, b_row, c + i * c_row, c_row,
                       accumulate);
    for (; i < m; i++)
        multiply_pairs(1, vectors, left, k, a + i * a_row, a_row, a_column, b, b_row, c + i * c_row, c_row, accumulate);
}

static void matmul_bf16(size_t m, size_t n, size_t k, const uint32_t *a, size_t a_row, size_t a_column,
                        const uint32_t *b, size_t b_row, real *c, size_t c_row, bool accumulate)
{
    /* A pair is a float's 32 bits to the loads. */
    const float *pairs = (const float *)(const void *)b;
    size_t j = 0;
    for (; j + 4 * lanes <= n; j += 4 * lanes)
        multiply_pair_columns(m, 4, lanes, k, a, a_row, a_column, pairs + j, b_row, c + j, c_row, accumulate);
    for (; j < n; j += lanes)
        multiply_pair_columns(m, 1, n - j, k, a, a_row, a_column, pairs + j, b_row, c + j, c_row, accumulate);
}

#endif
