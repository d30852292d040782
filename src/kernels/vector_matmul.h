/* Matrix products, of floats or of pairs of bf16 numbers, and transposition. */
#ifndef BRT_KERNELS_VECTOR_MATMUL_H
#define BRT_KERNELS_VECTOR_MATMUL_H

#include "vector.h"
#include "vector_pairs.h"

#include <assert.h>
#include <stdbool.h>

/* The register tile of c, tile_rows x tile_vectors vectors: with the vectors of b's row and one of a it fills the
 * registers (32 on AVX-512 and NEON, 16 else). A wide tile takes fewer instructions than a high one, 1.4 for each
 * multiply-add at 6 x 4 vectors against 1.6 at 14 x 2: two threads of a core share its decoders, too. */
enum {
#if defined(__AVX512F__) || defined(__aarch64__)
    tile_rows = 6,
    tile_vectors = 4,
#elif defined(__FMA__)
    tile_rows = 6,
    tile_vectors = 2,
#else
    tile_rows = 4,
    tile_vectors = 2,
#endif
    tile_columns = tile_vectors * lanes,
    most_tile_rows = 2 * tile_rows, /* of the narrow tiles for the last columns */
    /* Rows of b taken at a time: a panel of tile_columns of them stays in the second-level cache (64 KiB on AVX-512)
     * while the rows of a pass by. */
    block_depth = 256,
    /* From so many rows on, a panel of b is copied together first: rows of b a power of two apart share few sets of the
     * cache and would be fetched again for every tile. */
    least_rows_to_pack = 8 * tile_rows,
};

/* Rows of a tile that is narrower: as many sums as the registers hold, which hide each other's latency. */
static inline size_t rows_of_tile(size_t vectors)
{
    size_t rows = tile_rows * tile_vectors / vectors;
    return rows < most_tile_rows ? rows : most_tile_rows;
}

/* The left matrix of a product: element (i, p) at data[i * row + p * column]. In bf16 an element of a and b is a pair, a
 * float's 32 bits to loads. */
typedef struct left_matrix {
    const float *data;
    size_t row, column;
} left_matrix;

/* sum + a b, or plus both products of each lane's pairs */
static inline __attribute__((always_inline)) vec multiply_add(bool bf16, vec sum, vec a, vec b)
{
    return bf16 ? add_pair_products(sum, a, b) : sum + a * b;
}

/* c[rows, vectors * lanes] (+)= a[rows, depth] b[depth, vectors * lanes]; bf16, rows and vectors are constants at every
 * call. */
static inline __attribute__((always_inline)) void multiply_tile(bool bf16, size_t rows, size_t vectors, size_t depth,
                                                                left_matrix a, const float *b, size_t b_row, float *c,
                                                                size_t c_row, bool accumulate)
{
    vec sum[most_tile_rows][tile_vectors];
#pragma GCC unroll 16
    for (size_t i = 0; i < rows; i++)
#pragma GCC unroll 8
        for (size_t v = 0; v < vectors; v++)
            sum[i][v] = accumulate ? vec_load(c + i * c_row + v * lanes) : (vec){0};
    for (size_t p = 0; p < depth; p++, a.data += a.column, b += b_row) {
        vec row[tile_vectors];
#pragma GCC unroll 8
        for (size_t v = 0; v < vectors; v++)
            row[v] = vec_load(b + v * lanes);
#pragma GCC unroll 16
        for (size_t i = 0; i < rows; i++)
#pragma GCC unroll 8
            for (size_t v = 0; v < vectors; v++)
                sum[i][v] = multiply_add(bf16, sum[i][v], vec_splat(a.data[i * a.row]), row[v]);
    }
#pragma GCC unroll 16
    for (size_t i = 0; i < rows; i++)
#pragma GCC unroll 8
        for (size_t v = 0; v < vectors; v++)
            vec_store(c + i * c_row + v * lanes, sum[i][v]);
}

/* The same for any number of rows: whole tiles, then tiles of a power of two. bf16 and vectors are constants at every
 * call. */
static inline __attribute__((always_inline)) void multiply_panel(bool bf16, size_t vectors, size_t m, size_t depth,
                                                                 left_matrix a, const float *b, size_t b_row, float *c,
                                                                 size_t c_row, bool accumulate)
{
    static_assert(most_tile_rows < 16, "the rest of the rows takes tiles of 8, 4, 2 and 1");
    size_t left = m;
    for (; left >= rows_of_tile(vectors); left -= rows_of_tile(vectors)) {
        multiply_tile(bf16, rows_of_tile(vectors), vectors, depth, a, b, b_row, c, c_row, accumulate);
        a.data += rows_of_tile(vectors) * a.row, c += rows_of_tile(vectors) * c_row;
    }
    if (rows_of_tile(vectors) > 8 && left >= 8) {
        multiply_tile(bf16, 8, vectors, depth, a, b, b_row, c, c_row, accumulate);
        left -= 8, a.data += 8 * a.row, c += 8 * c_row;
    }
    if (left >= 4) {
        multiply_tile(bf16, 4, vectors, depth, a, b, b_row, c, c_row, accumulate);
        left -= 4, a.data += 4 * a.row, c += 4 * c_row;
    }
    if (left >= 2) {
        multiply_tile(bf16, 2, vectors, depth, a, b, b_row, c, c_row, accumulate);
        left -= 2, a.data += 2 * a.row, c += 2 * c_row;
    }
    if (left)
        multiply_tile(bf16, 1, vectors, depth, a, b, b_row, c, c_row, accumulate);
}

/* What is needed of b for the last n % lanes columns of c, filled with zeros to a whole vector. */
static void pack_panel(size_t depth, size_t columns, const float *b, size_t b_row, float *panel, size_t panel_row)
{
    for (size_t p = 0; p < depth; p++, b += b_row, panel += panel_row)
        for (size_t v = 0; v < columns; v += lanes)
            vec_store(panel + v, vec_load_upto(b + v, columns - v));
}

/* c[m, tile_columns] (+)= a[m, depth] b[depth, tile_columns] */
static inline __attribute__((always_inline)) void multiply_wide(bool bf16, size_t m, size_t depth, left_matrix a,
                                                                const float *b, size_t b_row, float *c, size_t c_row,
                                                                bool accumulate)
{
    float panel[block_depth * tile_columns];
    bool packed = m >= least_rows_to_pack && b_row > 2 * tile_columns;
    if (packed)
        pack_panel(depth, tile_columns, b, b_row, panel, tile_columns);
    multiply_panel(bf16, tile_vectors, m, depth, a, packed ? panel : b, packed ? tile_columns : b_row, c, c_row,
                   accumulate);
}

/* c[m, vectors * lanes] for fewer vectors than tile_vectors. */
static inline __attribute__((always_inline)) void multiply_narrow(bool bf16, size_t vectors, size_t m, size_t depth,
                                                                  left_matrix a, const float *b, size_t b_row, float *c,
                                                                  size_t c_row, bool accumulate)
{
    if (tile_vectors > 3 && vectors == 3)
        multiply_panel(bf16, 3, m, depth, a, b, b_row, c, c_row, accumulate);
    else if (tile_vectors > 2 && vectors == 2)
        multiply_panel(bf16, 2, m, depth, a, b, b_row, c, c_row, accumulate);
    else if (vectors == 1)
        multiply_panel(bf16, 1, m, depth, a, b, b_row, c, c_row, accumulate);
}

/* c[m, columns] for fewer columns than a vector has: through a tile of whole vectors. */
static inline __attribute__((always_inline)) void multiply_last_columns(bool bf16, size_t m, size_t columns,
                                                                        size_t depth, left_matrix a, const float *b,
                                                                        size_t b_row, float *c, size_t c_row,
                                                                        bool accumulate)
{
    enum { height = most_tile_rows };
    float panel[block_depth * lanes], tile[height * lanes];
    pack_panel(depth, columns, b, b_row, panel, lanes);
    for (size_t i = 0; i < m; i += height) {
        size_t rows = m - i < height ? m - i : height;
        for (size_t r = 0; accumulate && r < rows; r++)
            memcpy(tile + r * lanes, c + (i + r) * c_row, columns * sizeof *c);
        left_matrix part = {a.data + i * a.row, a.row, a.column};
        multiply_panel(bf16, 1, rows, depth, part, panel, lanes, tile, lanes, accumulate);
        for (size_t r = 0; r < rows; r++)
            memcpy(c + (i + r) * c_row, tile + r * lanes, columns * sizeof *c);
    }
}

/* c[m, n] (+)= a[m, depth] b[depth, n] with depth <= block_depth: wide panels, then a narrow one, then less than a
 * vector. */
static inline __attribute__((always_inline)) void multiply_block(bool bf16, size_t m, size_t n, size_t depth,
                                                                 left_matrix a, const float *b, size_t b_row, float *c,
                                                                 size_t c_row, bool accumulate)
{
    size_t j = 0;
    for (; j + tile_columns <= n; j += tile_columns)
        multiply_wide(bf16, m, depth, a, b + j, b_row, c + j, c_row, accumulate);
    size_t vectors = (n - j) / lanes;
    multiply_narrow(bf16, vectors, m, depth, a, b + j, b_row, c + j, c_row, accumulate);
    j += vectors * lanes;
    if (j < n)
        multiply_last_columns(bf16, m, n - j, depth, a, b + j, b_row, c + j, c_row, accumulate);
}

/* bf16 is a constant at every call. */
static inline __attribute__((always_inline)) void multiply_blocks(bool bf16, size_t m, size_t n, size_t k,
                                                                  left_matrix a, const float *b, size_t b_row, float *c,
                                                                  size_t c_row, bool accumulate)
{
    for (size_t p = 0; p == 0 || p < k; p += block_depth) {
        size_t depth = k - p < block_depth ? k - p : block_depth;
        left_matrix part = {a.data + p * a.column, a.row, a.column};
        multiply_block(bf16, m, n, depth, part, b + p * b_row, b_row, c, c_row, accumulate || p > 0);
    }
}

static void matmul(size_t m, size_t n, size_t k, const real *a, size_t a_row, size_t a_column, const real *b,
                   size_t b_row, real *c, size_t c_row, bool accumulate)
{
    multiply_blocks(false, m, n, k, (left_matrix){a, a_row, a_column}, b, b_row, c, c_row, accumulate);
}

static void matmul_bf16(size_t m, size_t n, size_t k, const uint32_t *a, size_t a_row, size_t a_column,
                        const uint32_t *b, size_t b_row, real *c, size_t c_row, bool accumulate)
{
    left_matrix left = {(const float *)(const void *)a, a_row, a_column};
    multiply_blocks(true, m, n, k, left, (const float *)(const void *)b, b_row, c, c_row, accumulate);
}

/* ---- few rows times many ------------------------------------------------------------------------------- */

enum {
    /* Rows of w read together: as many sums of one vector hide the latency of their additions. */
    rows_of_w = 4,
    /* Rows of x that share a row of w while it is in registers. */
#if defined(__AVX512F__) || defined(__aarch64__)
    rows_of_x = 4,
#else
    rows_of_x = 2,
#endif
};

/* y[columns] (+)= the sums of so many vectors, columns 1 or rows_of_w. Four are added up together in half the steps of
 * one after the other, in the same order. */
static inline void store_sums(size_t columns, const vec *sums, float *y, bool accumulate)
{
    if (columns == 1) {
        *y = (accumulate ? *y : 0) + vec_sum(sums[0]);
        return;
    }
    vec4 total = vec_sum_four(sums);
    if (accumulate)
        total = load4(y) + total;
    store4(y, total);
}

/* Adds to the sums the products of up to a vector's length of each row. */
static inline __attribute__((always_inline)) void dot_step(size_t rows, size_t columns, size_t left, const float *x,
                                                           size_t x_stride, const float *w, size_t w_stride,
                                                           vec sum[rows_of_x][rows_of_w])
{
    vec part[rows_of_x];
#pragma GCC unroll 4
    for (size_t i = 0; i < rows; i++)
        part[i] = vec_load_upto(x + i * x_stride, left);
#pragma GCC unroll 4
    for (size_t j = 0; j < columns; j++) {
        vec weights = vec_load_upto(w + j * w_stride, left);
#pragma GCC unroll 4
        for (size_t i = 0; i < rows; i++)
            sum[i][j] += part[i] * weights;
    }
}

/* y[rows, columns] (+)= x[rows, k] w[columns, k]^T; rows and columns are constants at every call. Each element is one
 * sum of vectors along k, whatever stands beside it. */
static inline __attribute__((always_inline)) void dot_tile(size_t rows, size_t columns, size_t k, const float *x,
                                                           size_t x_stride, const float *w, size_t w_stride, float *y,
                                                           size_t y_stride, bool accumulate)
{
    vec sum[rows_of_x][rows_of_w] = {{{0}}};
    size_t p = 0;
    for (; p + lanes <= k; p += lanes)
        dot_step(rows, columns, lanes, x + p, x_stride, w + p, w_stride, sum);
    if (p < k)
        dot_step(rows, columns, k - p, x + p, x_stride, w + p, w_stride, sum);
#pragma GCC unroll 4
    for (size_t i = 0; i < rows; i++)
        store_sums(columns, sum[i], y + i * y_stride, accumulate);
}

static inline __attribute__((always_inline)) void dot_columns(size_t columns, size_t m, size_t k, const float *x,
                                                              size_t x_stride, const float *w, size_t w_stride,
                                                              float *y, size_t y_stride, bool accumulate)
{
    size_t i = 0;
    for (; i + rows_of_x <= m; i += rows_of_x)
        dot_tile(rows_of_x, columns, k, x + i * x_stride, x_stride, w, w_stride, y + i * y_stride, y_stride,
                 accumulate);
    for (; i < m; i++)
        dot_tile(1, columns, k, x + i * x_stride, x_stride, w, w_stride, y + i * y_stride, y_stride, accumulate);
}

static void matvec(size_t m, size_t n, size_t k, const real *x, size_t x_stride, const real *w, size_t w_stride,
                   real *y, size_t y_stride, bool accumulate)
{
    size_t j = 0;
    for (; j + rows_of_w <= n; j += rows_of_w)
        dot_columns(rows_of_w, m, k, x, x_stride, w + j * w_stride, w_stride, y + j, y_stride, accumulate);
    for (; j < n; j++)
        dot_columns(1, m, k, x, x_stride, w + j * w_stride, w_stride, y + j, y_stride, accumulate);
}

/* ---- transposition ----------------------------------------------------------------------------------------- */

static inline void transpose_4x4(const float *x, size_t x_stride, float *y, size_t y_stride)
{
    vec4 r0 = load4(x), r1 = load4(x + x_stride), r2 = load4(x + 2 * x_stride), r3 = load4(x + 3 * x_stride);
    vec4 low01 = __builtin_shufflevector(r0, r1, 0, 4, 1, 5), high01 = __builtin_shufflevector(r0, r1, 2, 6, 3, 7);
    vec4 low23 = __builtin_shufflevector(r2, r3, 0, 4, 1, 5), high23 = __builtin_shufflevector(r2, r3, 2, 6, 3, 7);
    store4(y, __builtin_shufflevector(low01, low23, 0, 1, 4, 5));
    store4(y + y_stride, __builtin_shufflevector(low01, low23, 2, 3, 6, 7));
    store4(y + 2 * y_stride, __builtin_shufflevector(high01, high23, 0, 1, 4, 5));
    store4(y + 3 * y_stride, __builtin_shufflevector(high01, high23, 2, 3, 6, 7));
}

static void transpose(size_t rows, size_t columns, const real *x, size_t x_stride, real *y, size_t y_stride)
{
    size_t whole_rows = rows - rows % 4, whole_columns = columns - columns % 4;
    for (size_t i = 0; i < whole_rows; i += 4)
        for (size_t j = 0; j < whole_columns; j += 4)
            transpose_4x4(x + i * x_stride + j, x_stride, y + j * y_stride + i, y_stride);
    for (size_t i = 0; i < rows; i++)
        for (size_t j = i < whole_rows ? whole_columns : 0; j < columns; j++)
            y[j * y_stride + i] = x[i * x_stride + j];
}

#endif
