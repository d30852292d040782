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
    line_bytes = 64, /* of the caches */
};

/* Rows of a tile that is narrower: as many sums as the registers hold, which hide each other's latency. */
static inline size_t rows_of_tile(size_t vectors)
{
    size_t rows = tile_rows * tile_vectors / vectors;
    return rows < most_tile_rows ? rows : most_tile_rows;
}

/* The left matrix of a product: element (i, p) at data[i * row + p * column]. In bf16 an element of a and b is a pair,
 * a float's 32 bits to loads. */
typedef struct left_matrix {
    const float *data;
    size_t row, column;
} left_matrix;

/* sum + a b, or plus both products of each lane's pairs */
static inline __attribute__((always_inline)) vec multiply_add(bool bf16, vec sum, vec a, vec b)
{
    return bf16 ? add_pair_products(sum, a, b) : sum + a * b;
}

/* c = added + a b over `depth`; the parts of the matrices that a tile or a panel is made of. */
typedef struct matrix_product {
    size_t depth;
    left_matrix a;
    const float *b;
    size_t b_row;
    float *c;
    size_t c_row;
    const float *added; /* laid out as c, or c itself; NULL: 0 */
} matrix_product;

/* The same product from row `rows` on. */
static inline matrix_product below(matrix_product p, size_t rows)
{
    p.a.data += rows * p.a.row;
    p.c += rows * p.c_row;
    if (p.added)
        p.added += rows * p.c_row;
    return p;
}

/* ---- fetching ahead ------------------------------------------------------------------------------------ */

/* Brings to the caches what comes next, while a tile is multiplied. Without it products with weights reach 0.85 of the
 * f32 peak beside programs that want the caches, too, with it 0.95. */
typedef struct fetching {
    uintptr_t line; /* the address of a line of memory for every step along depth, a number: there may be none, */
    size_t step;    /* so many bytes apart */
    bool tiles;     /* also the next tile's rows of a and of what is added; false: nothing at all */
} fetching;

/* The rows below this tile's. */
static inline __attribute__((always_inline)) void fetch_added(size_t rows, size_t vectors, matrix_product p)
{
#pragma GCC unroll 16
    for (size_t i = 0; i < rows; i++)
#pragma GCC unroll 8
        for (size_t v = 0; v < vectors; v++)
            __builtin_prefetch(p.added + (rows + i) * p.c_row + v * lanes);
}

/* A line of each row of a below this tile's. */
static inline __attribute__((always_inline)) void fetch_left(size_t rows, left_matrix a)
{
#pragma GCC unroll 16
    for (size_t i = 0; i < rows; i++)
        __builtin_prefetch(a.data + (rows + i) * a.row);
}

/* What tile number `tile` fetches of rows of a panel's length: the first tiles take a column of lines each, or a part
 * of one. */
static inline fetching fetch_of_tile(const brt_ahead *ahead, size_t depth, size_t tile)
{
    size_t parts = depth ? (ahead->rows + depth - 1) / depth : 0, lines = tile_columns * sizeof(float) / line_bytes;
    if (tile >= parts * lines)
        return (fetching){(uintptr_t)ahead->data, 0, true};
    const real *row = ahead->data + tile % parts * depth * ahead->row;
    return (fetching){(uintptr_t)row + tile / parts * line_bytes, ahead->row * sizeof(float), true};
}

/* ---- tiles --------------------------------------------------------------------------------------------- */

/* The first `rows` rows of the product, vectors * lanes columns, where c has only the first `last` columns of the last
 * vector. b is copied to `panel` [depth, vectors * lanes] unless that is NULL. bf16, rows, vectors, whether there is a
 * panel, and next.tiles are constants at every call. */
static inline __attribute__((always_inline)) void multiply_tile(bool bf16, size_t rows, size_t vectors, size_t last,
                                                                matrix_product p, float *panel, fetching next)
{
    vec sum[most_tile_rows][tile_vectors];
#pragma GCC unroll 16
    for (size_t i = 0; i < rows; i++)
#pragma GCC unroll 8
        for (size_t v = 0; v < vectors; v++)
            sum[i][v] = p.added ? vec_load_upto(p.added + i * p.c_row + v * lanes, v + 1 < vectors ? lanes : last)
                                : (vec){0};
    if (next.tiles && p.added)
        fetch_added(rows, vectors, p);
    for (size_t k = 0; k < p.depth; k++, p.a.data += p.a.column, p.b += p.b_row) {
        vec row[tile_vectors];
        if (next.tiles) {
            __builtin_prefetch((const void *)next.line, 0, 2);
            next.line += next.step;
            if (p.a.column == 1 && k % (line_bytes / sizeof(float)) == 0)
                fetch_left(rows, p.a);
        }
#pragma GCC unroll 8
        for (size_t v = 0; v < vectors; v++) {
            row[v] = vec_load(p.b + v * lanes);
            if (panel)
                vec_store(panel + (k * vectors + v) * lanes, row[v]);
        }
#pragma GCC unroll 16
        for (size_t i = 0; i < rows; i++)
#pragma GCC unroll 8
            for (size_t v = 0; v < vectors; v++)
                sum[i][v] = multiply_add(bf16, sum[i][v], vec_splat(p.a.data[i * p.a.row]), row[v]);
    }
#pragma GCC unroll 16
    for (size_t i = 0; i < rows; i++)
#pragma GCC unroll 8
        for (size_t v = 0; v < vectors; v++)
            vec_store_upto(p.c + i * p.c_row + v * lanes, v + 1 < vectors ? lanes : last, sum[i][v]);
}

/* m rows of the product: whole tiles, then tiles of a power of two. bf16, vectors and whether `ahead` is NULL (nothing
 * is fetched) are constants at every call. */
static inline __attribute__((always_inline)) void multiply_panel(bool bf16, size_t vectors, size_t last, size_t m,
                                                                 matrix_product p, const brt_ahead *ahead)
{
    static_assert(most_tile_rows < 16, "the rest of the rows takes tiles of 8, 4, 2 and 1");
    size_t left = m, tile = 0, rows = rows_of_tile(vectors);
    for (; left >= rows; left -= rows, p = below(p, rows), tile++)
        multiply_tile(bf16, rows_of_tile(vectors), vectors, last, p, NULL,
                      ahead ? fetch_of_tile(ahead, p.depth, tile) : (fetching){0});
    fetching next = ahead ? fetch_of_tile(ahead, p.depth, tile) : (fetching){0};
    if (rows_of_tile(vectors) > 8 && left >= 8) {
        multiply_tile(bf16, 8, vectors, last, p, NULL, next);
        left -= 8, p = below(p, 8);
    }
    if (left >= 4) {
        multiply_tile(bf16, 4, vectors, last, p, NULL, next);
        left -= 4, p = below(p, 4);
    }
    if (left >= 2) {
        multiply_tile(bf16, 2, vectors, last, p, NULL, next);
        left -= 2, p = below(p, 2);
    }
    if (left)
        multiply_tile(bf16, 1, vectors, last, p, NULL, next);
}

/* What is needed of b for the last n % lanes columns of c, filled with zeros to a whole vector. */
static void pack_panel(size_t depth, size_t columns, const float *b, size_t b_row, float *panel, size_t panel_row)
{
    for (size_t p = 0; p < depth; p++, b += b_row, panel += panel_row)
        for (size_t v = 0; v < columns; v += lanes)
            vec_store(panel + v, vec_load_upto(b + v, columns - v));
}

/* m rows and tile_columns columns */
static inline __attribute__((always_inline)) void multiply_wide(bool bf16, size_t m, matrix_product p)
{
    float panel[block_depth * tile_columns];
    if (m >= least_rows_to_pack && p.b_row > 2 * tile_columns) {
        pack_panel(p.depth, tile_columns, p.b, p.b_row, panel, tile_columns);
        p.b = panel;
        p.b_row = tile_columns;
    }
    multiply_panel(bf16, tile_vectors, lanes, m, p, NULL);
}

/* m rows and (vectors - 1) * lanes + last columns, of fewer vectors than tile_vectors */
static inline __attribute__((always_inline)) void multiply_narrow(bool bf16, size_t vectors, size_t last, size_t m,
                                                                  matrix_product p, const brt_ahead *ahead)
{
    if (tile_vectors > 3 && vectors == 3)
        multiply_panel(bf16, 3, last, m, p, ahead);
    else if (tile_vectors > 2 && vectors == 2)
        multiply_panel(bf16, 2, last, m, p, ahead);
    else if (vectors == 1)
        multiply_panel(bf16, 1, last, m, p, ahead);
}

/* m rows and fewer columns than a vector has */
static inline __attribute__((always_inline)) void multiply_last_columns(bool bf16, size_t m, size_t columns,
                                                                        matrix_product p)
{
    float panel[block_depth * lanes];
    pack_panel(p.depth, columns, p.b, p.b_row, panel, lanes);
    p.b = panel;
    p.b_row = lanes;
    multiply_panel(bf16, 1, columns, m, p, NULL);
}

/* The same product from column `columns` on. */
static inline matrix_product beside(matrix_product p, size_t columns)
{
    p.b += columns;
    p.c += columns;
    if (p.added)
        p.added += columns;
    return p;
}

/* m rows and n columns for a depth <= block_depth: wide panels, then a narrow one, then less than a vector. */
static inline __attribute__((always_inline)) void multiply_block(bool bf16, size_t m, size_t n, matrix_product p)
{
    for (; n >= tile_columns; n -= tile_columns, p = beside(p, tile_columns))
        multiply_wide(bf16, m, p);
    multiply_narrow(bf16, n / lanes, lanes, m, p, NULL);
    if (n % lanes)
        multiply_last_columns(bf16, m, n % lanes, beside(p, n - n % lanes));
}

/* bf16 is a constant at every call. */
static inline __attribute__((always_inline)) void multiply_blocks(bool bf16, size_t m, size_t n, matrix_product p)
{
    size_t k = p.depth;
    do {
        p.depth = k < block_depth ? k : block_depth;
        multiply_block(bf16, m, n, p);
        p.a.data += p.depth * p.a.column;
        p.b += p.depth * p.b_row;
        p.added = p.c;
        k -= p.depth;
    } while (k > 0);
}

static void matmul(size_t m, size_t n, size_t k, const real *a, size_t a_row, size_t a_column, const real *b,
                   size_t b_row, real *c, size_t c_row, bool accumulate)
{
    const float *added = accumulate ? c : NULL;
    multiply_blocks(false, m, n, (matrix_product){k, {a, a_row, a_column}, b, b_row, c, c_row, added});
}

static void matmul_bf16(size_t m, size_t n, size_t k, const uint32_t *a, size_t a_row, size_t a_column,
                        const uint32_t *b, size_t b_row, real *c, size_t c_row, bool accumulate)
{
    left_matrix left = {(const float *)(const void *)a, a_row, a_column};
    const float *right = (const float *)(const void *)b, *added = accumulate ? c : NULL;
    multiply_blocks(true, m, n, (matrix_product){k, left, right, b_row, c, c_row, added});
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
