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

/* p.b is of n columns: a whole panel is packed by the first tile while it multiplies. */
static inline __attribute__((always_inline)) void pack_and_multiply(bool bf16, size_t m, size_t n, float *panel,
                                                                    matrix_product p, const brt_ahead *ahead)
{
    size_t done = 0;
    if (m >= tile_rows && n == tile_columns) {
        fetching next = ahead ? fetch_of_tile(ahead, p.depth, 0) : (fetching){0, 0, true};
        multiply_tile(bf16, tile_rows, tile_vectors, lanes, p, panel, next);
        done = tile_rows;
    } else {
        copy_rows(p.depth, n, p.b, p.b_row, panel, brt_panel_width(tile_columns, lanes, n));
    }
    p = below(p, done);
    p.b = panel;
    multiply_panels(bf16, m - done, n, p, ahead);
}

static void pack_matmul(size_t m, size_t n, size_t k, const real *a, size_t a_row, size_t a_column, const real *b,
                        size_t b_row, real *panel, const real *added, real *c, size_t c_row, const brt_ahead *ahead)
{
    matrix_product p = {k, {a, a_row, a_column}, b, b_row, c, c_row, added};
    pack_and_multiply(false, m, n, panel, p, ahead);
}

static void pack_matmul_bf16(size_t m, size_t n, size_t k, const uint32_t *a, size_t a_row, size_t a_column,
                             const uint32_t *b, size_t b_row, uint32_t *panel, const real *added, real *c,
                             size_t c_row, const brt_ahead *ahead)
{
    left_matrix left = {(const float *)(const void *)a, a_row, a_column};
    matrix_product p = {k, left, (const float *)(const void *)b, b_row, c, c_row, added};
    pack_and_multiply(true, m, n, (float *)(void *)panel, p, ahead);
}

#endif
