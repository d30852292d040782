/* Products with weights in fewer bits: bf16, or 8-bit integers. They are widened to floats on their way from memory. */
#ifndef BRT_KERNELS_VECTOR_PANELS_H
#define BRT_KERNELS_VECTOR_PANELS_H

#include "vector.h"
#include "vector_matmul.h"
#include "vector_stored.h"

enum {
    panel_vectors = BRT_PANEL / lanes,
    /* Vectors of one row's sums side by side: eight additions in flight hide their latency. */
    single_vectors = panel_vectors < 8 ? panel_vectors : 8,
};

/* Weights of one kind: bytes is 1 (int8) or 2 (bf16), a constant at every call. */
static inline __attribute__((always_inline)) vec load_weights(size_t bytes, const unsigned char *w)
{
    return bytes == 1 ? vec_widen_int8((const int8_t *)w) : vec_widen_bf16((const uint16_t *)(const void *)w);
}

/* y[rows, vectors * lanes] = x[rows, k] w[k, vectors * lanes], columns of a panel; rows, vectors and bytes are
 * constants at every call. The sums are those of multiply_tile. */
static inline __attribute__((always_inline)) void multiply_columns(size_t rows, size_t vectors, size_t bytes, size_t k,
                                                                   const float *x, size_t x_stride,
                                                                   const unsigned char *w, float *y)
{
    vec sum[tile_rows][8];
#pragma GCC unroll 8
    for (size_t i = 0; i < rows; i++)
#pragma GCC unroll 8
        for (size_t v = 0; v < vectors; v++)
            sum[i][v] = (vec){0};
    for (size_t p = 0; p < k; p++, x++, w += BRT_PANEL * bytes)
#pragma GCC unroll 8
        for (size_t v = 0; v < vectors; v++) {
            vec weights = load_weights(bytes, w + v * lanes * bytes);
#pragma GCC unroll 8
            for (size_t i = 0; i < rows; i++)
                sum[i][v] += x[i * x_stride] * weights;
        }
#pragma GCC unroll 8
    for (size_t i = 0; i < rows; i++)
#pragma GCC unroll 8
        for (size_t v = 0; v < vectors; v++)
            vec_store(y + i * BRT_PANEL + v * lanes, sum[i][v]);
}

static inline __attribute__((always_inline)) void multiply_rows(size_t rows, size_t vectors, size_t bytes, size_t k,
                                                                const float *x, size_t x_stride,
                                                                const unsigned char *w, float *y)
{
    for (size_t v = 0; v < panel_vectors; v += vectors)
        multiply_columns(rows, vectors, bytes, k, x, x_stride, w + v * lanes * bytes, y + v * lanes);
}

/* Tiles as multiply_panel's. */
static inline __attribute__((always_inline)) void multiply_weights(size_t bytes, size_t m, size_t k, const float *x,
                                                                   size_t x_stride, const unsigned char *w, float *y)
{
    for (; m >= tile_rows; m -= tile_rows, x += tile_rows * x_stride, y += tile_rows * BRT_PANEL)
        multiply_rows(tile_rows, tile_vectors, bytes, k, x, x_stride, w, y);
    if (m >= 4) {
        multiply_rows(4, tile_vectors, bytes, k, x, x_stride, w, y);
        m -= 4, x += 4 * x_stride, y += 4 * BRT_PANEL;
    }
    if (m >= 2) {
        multiply_rows(2, tile_vectors, bytes, k, x, x_stride, w, y);
        m -= 2, x += 2 * x_stride, y += 2 * BRT_PANEL;
    }
    if (m)
        multiply_rows(1, single_vectors, bytes, k, x, x_stride, w, y);
}

static void panel_bf16(size_t m, size_t k, const real *x, size_t x_stride, const uint16_t *w, real *y)
{
    multiply_weights(2, m, k, x, x_stride, (const unsigned char *)w, y);
}

static void panel_int8(size_t m, size_t k, const real *x, size_t x_stride, const int8_t *w, real *y)
{
    multiply_weights(1, m, k, x, x_stride, (const unsigned char *)w, y);
}

#endif
