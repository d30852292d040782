/* Products with a matrix in panels, in f32 and of pairs of bf16 numbers. */
#ifndef BRT_KERNELS_VECTOR_PACKED_H
#define BRT_KERNELS_VECTOR_PACKED_H

#include "packed.h"
#include "vector.h"
#include "vector_matmul.h"
#include "vector_pairs.h"
#include "vector_stored.h"

/* ---- packing --------------------------------------------------------------------------------------------- */

/* y[rows, columns] = x */
static void copy_rows(size_t rows, size_t columns, const float *x, size_t x_stride, float *y, size_t y_stride)
{
    for (size_t r = 0; r < rows; r++, x += x_stride, y += y_stride)
        for (size_t i = 0; i < columns; i += lanes)
            vec_store_upto(y + i, columns - i, vec_load_upto(x + i, columns - i));
}

static void pack(size_t k, size_t n, const real *b, size_t b_row, size_t b_column, real *panels)
{
    for (size_t j = 0; j < n; j += tile_columns) {
        size_t columns = n - j < tile_columns ? n - j : tile_columns;
        size_t width = brt_panel_width(tile_columns, lanes, n - j);
        if (b_column == 1)
            copy_rows(k, columns, b + j, b_row, panels + j * k, width);
        else
            transpose(columns, k, b + j * b_column, b_column, panels + j * k, width);
    }
}

/* Pairs of rows of x's transpose, [columns, rows], through a part of it in f32. */
static void transpose_pairs(size_t columns, size_t rows, const float *x, size_t x_stride, uint32_t *y, size_t y_stride)
{
    enum { part_rows = 64 };
    float part[part_rows * tile_columns];
    for (size_t p = 0; p < rows; p += part_rows) {
        size_t here = rows - p < part_rows ? rows - p : part_rows;
        transpose(columns, here, x + p, x_stride, part, tile_columns);
        pair_rows(here, columns, part, tile_columns, y + p / 2 * y_stride, y_stride);
    }
}

static void pack_bf16(size_t k, size_t n, const real *b, size_t b_row, size_t b_column, uint32_t *panels)
{
    for (size_t j = 0; j < n; j += tile_columns) {
        size_t columns = n - j < tile_columns ? n - j : tile_columns;
        size_t width = brt_panel_width(tile_columns, lanes, n - j);
        uint32_t *panel = panels + j * ((k + 1) / 2);
        if (b_column == 1)
            pair_rows(k, columns, b + j, b_row, panel, width);
        else
            transpose_pairs(columns, k, b + j * b_column, b_column, panel, width);
    }
}

/* Rows 2r and 2r + 1 of x, lane by lane */
static void interleave_rows(size_t rows, size_t columns, const uint16_t *x, size_t x_stride, uint32_t *y,
                            size_t y_stride)
{
    for (size_t r = 0; r < rows; r += 2, x += 2 * x_stride, y += y_stride)
        for (size_t i = 0; i < columns; i += lanes) {
            size_t left = columns - i;
            uvec pairs = vec_interleave_upto(x + i, r + 1 < rows ? x + x_stride + i : NULL, left);
            vec_store_upto((float *)(void *)(y + i), left, (vec)pairs);
        }
}

static void pack_pairs(size_t k, size_t n, const uint16_t *b, size_t b_row, uint32_t *panels)
{
    for (size_t j = 0; j < n; j += tile_columns)
        interleave_rows(k, n - j < tile_columns ? n - j : tile_columns, b + j, b_row, panels + j * ((k + 1) / 2),
                        brt_panel_width(tile_columns, lanes, n - j));
}

/* ---- products -------------------------------------------------------------------------------------------- */

/* The panels pass by one after the other, each as a stream from the second-level cache: a tile of 6 x 4 vectors takes
 * 12 cycles for a row of 4 vectors. While one is multiplied the next is fetched. */
static inline __attribute__((always_inline)) void multiply_panels(bool bf16, size_t m, size_t n, matrix_product p,
                                                                  const brt_ahead *ahead)
{
    static const brt_ahead nothing = {0};
    for (;; n -= tile_columns) {
        size_t width = brt_panel_width(tile_columns, lanes, n), last = n < width ? n + lanes - width : lanes;
        brt_ahead panel = {p.b + p.depth * width, width, p.depth};
        const brt_ahead *next = n > tile_columns ? &panel : ahead ? ahead : &nothing;
        p.b_row = width;
        if (width == tile_columns)
            multiply_panel(bf16, tile_vectors, last, m, p, next);
        else
            multiply_narrow(bf16, width / lanes, last, m, p, next);
        if (n <= tile_columns)
            return;
        p = beside(p, tile_columns);
        p.b = panel.data;
    }
}

static void matmul_packed(size_t m, size_t n, size_t k, const real *a, size_t a_row, size_t a_column,
                          const real *panels, const real *added, real *c, size_t c_row, const brt_ahead *ahead)
{
    multiply_panels(false, m, n, (matrix_product){k, {a, a_row, a_column}, panels, 0, c, c_row, added}, ahead);
}

/* A pair is a float's 32 bits to loads and stores. */
static void matmul_packed_bf16(size_t m, size_t n, size_t k, const uint32_t *a, size_t a_row, size_t a_column,
                               const uint32_t *panels, const real *added, real *c, size_t c_row,
                               const brt_ahead *ahead)
{
    left_matrix left = {(const float *)(const void *)a, a_row, a_column};
    const float *right = (const float *)(const void *)panels;
    multiply_panels(true, m, n, (matrix_product){k, left, right, 0, c, c_row, added}, ahead);
}

/* ---- products that pack ------------------------------------------------------------------------------------ */

/* A panel of p.b's rows, which lie as `from` says, of n columns: a whole one is packed by the first tile while it
 * multiplies. `from` is a constant at every call. */
static inline __attribute__((always_inline)) void pack_and_multiply(unpacked from, size_t m, size_t n, size_t rows,
                                                                    float *panel, matrix_product p,
                                                                    const brt_ahead *ahead)
{
    bool bf16 = from != floats;
    size_t done = 0;
    if (m >= tile_rows && n == tile_columns) {
        fetching next = ahead ? fetch_of_tile(ahead, p.depth, 0) : (fetching){0, 0, true};
        multiply_tile(bf16, tile_rows, tile_vectors, lanes, p, (packing){from, rows, panel}, next);
        done = tile_rows;
    } else if (from == floats) {
        pack(rows, n, p.b, p.b_row, 1, panel);
    } else if (from == rows_to_pair) {
        pack_bf16(rows, n, p.b, p.b_row, 1, (uint32_t *)(void *)panel);
    } else {
        pack_pairs(rows, n, (const uint16_t *)(const void *)p.b, 2 * p.b_row, (uint32_t *)(void *)panel);
    }
    p = below(p, done);
    p.b = panel;
    multiply_panels(bf16, m - done, n, p, ahead);
}

static void pack_matmul(size_t m, size_t n, size_t k, const real *a, size_t a_row, size_t a_column, const real *b,
                        size_t b_row, real *panel, const real *added, real *c, size_t c_row, const brt_ahead *ahead)
{
    matrix_product p = {k, {a, a_row, a_column}, b, b_row, c, c_row, added};
    pack_and_multiply(floats, m, n, k, panel, p, ahead);
}

static void pack_matmul_bf16(size_t m, size_t n, size_t k, const uint32_t *a, size_t a_row, size_t a_column,
                             const real *b, size_t b_row, uint32_t *panel, const real *added, real *c, size_t c_row,
                             const brt_ahead *ahead)
{
    left_matrix left = {(const float *)(const void *)a, a_row, a_column};
    matrix_product p = {(k + 1) / 2, left, b, b_row, c, c_row, added};
    pack_and_multiply(rows_to_pair, m, n, k, (float *)(void *)panel, p, ahead);
}

static void pack_matmul_pairs(size_t m, size_t n, size_t k, const uint32_t *a, size_t a_row, size_t a_column,
                              const uint16_t *b, size_t b_row, uint32_t *panel, const real *added, real *c,
                              size_t c_row, const brt_ahead *ahead)
{
    left_matrix left = {(const float *)(const void *)a, a_row, a_column};
    matrix_product p = {(k + 1) / 2, left, (const float *)(const void *)b, b_row / 2, c, c_row, added};
    pack_and_multiply(pairs_to_interleave, m, n, k, (float *)(void *)panel, p, ahead);
}

#endif
