#include "attention_products.h"

#include "../base/size.h"

#include <string.h>

enum { key_padding = 16 }; /* scores are computed for so many keys at a time, seen or not */

static uint32_t *as_pairs(real *room)
{
    return (uint32_t *)(void *)room;
}

static const uint32_t *as_const_pairs(const real *room)
{
    return (const uint32_t *)(const void *)room;
}

/* Of `count` pairs, in reals. */
static size_t pair_reals(size_t count)
{
    return brt_ceil_div(count * sizeof(uint32_t), sizeof(real));
}

static size_t dim_pairs(const brt_tiles *tiles)
{
    return brt_ceil_div(tiles->dim, 2);
}

brt_tiles brt_tiles_make(const brt_kernels *kernels, bool bf16, size_t dim)
{
    size_t lanes = brt_max_size((size_t)kernels->lanes, 2);
    return (brt_tiles){kernels, bf16, dim, brt_ceil_div(dim, lanes) * lanes};
}

void brt_tiles_pad(const brt_tiles *tiles, size_t count, const real *x, real *padded)
{
    size_t dim = tiles->dim, width = tiles->width;
    if (width == dim) {
        memcpy(padded, x, count * dim * sizeof *x);
        return;
    }
    for (size_t i = 0; i < count; i++, padded += width) {
        memcpy(padded, x + i * dim, dim * sizeof *x);
        memset(padded + dim, 0, (width - dim) * sizeof *x);
    }
}

void brt_tiles_unpad(const brt_tiles *tiles, size_t count, const real *padded, real *x)
{
    size_t dim = tiles->dim, width = tiles->width;
    for (size_t i = 0; i < count; i++)
        memcpy(x + i * dim, padded + i * width, dim * sizeof *x);
}

/* ---- rows ------------------------------------------------------------------------------------------------------ */

size_t brt_rows_reals(const brt_tiles *tiles)
{
    return tiles->bf16 ? pair_reals(BRT_ROW_TILE * tiles->width / 2) : BRT_ROW_TILE * tiles->width;
}

void brt_rows_put(const brt_tiles *tiles, size_t first, size_t count, const real *x, real *room)
{
    size_t dim = tiles->dim, width = tiles->width;
    size_t row = width == dim ? count * dim : dim; /* all at once where nothing stands between them */
    uint16_t *rounded = (uint16_t *)as_pairs(room) + first * width;
    if (!tiles->bf16) {
        brt_tiles_pad(tiles, count, x, room + first * width);
        return;
    }
    for (size_t i = 0; i < count * dim; i += row, rounded += width) {
        tiles->kernels->to_bf16(row, x + i, rounded);
        memset(rounded + dim, 0, (width - dim) * sizeof *rounded);
    }
}

brt_rows brt_rows_prepare(const brt_tiles *tiles, size_t count, const real *x, real *room)
{
    brt_rows_put(tiles, 0, count, x, room);
    return (brt_rows){.count = count, .left = room};
}

void brt_rows_make_right(const brt_tiles *tiles, brt_rows *rows, real *room)
{
    size_t width = tiles->width;
    rows->right = tiles->bf16 ? room : rows->left;
    if (tiles->bf16)
        tiles->kernels->pair_rounded_rows(rows->count, width, (const uint16_t *)as_const_pairs(rows->left), width,
                                          as_pairs(room), width);
}

/* ---- keys ------------------------------------------------------------------------------------------------------ */

size_t brt_tiles_room_reals(const brt_tiles *tiles)
{
    return tiles->bf16 ? BRT_KEY_TILE * tiles->width : 0;
}

size_t brt_transposed_reals(const brt_tiles *tiles)
{
    return tiles->bf16 ? pair_reals(BRT_KEY_TILE * dim_pairs(tiles)) : BRT_KEY_TILE * tiles->dim;
}

size_t brt_right_reals(const brt_tiles *tiles)
{
    return tiles->bf16 ? pair_reals(BRT_KEY_TILE / 2 * tiles->width) : BRT_KEY_TILE * tiles->width;
}

void brt_tiles_transpose(const brt_tiles *tiles, size_t keys, const real *x, real *room, real *transposed)
{
    size_t dim = tiles->dim;
    tiles->kernels->transpose(keys, dim, x, dim, tiles->bf16 ? room : transposed, BRT_KEY_TILE);
    if (tiles->bf16)
        tiles->kernels->pair_rows(dim, keys, room, BRT_KEY_TILE, as_pairs(transposed), BRT_KEY_TILE);
}

void brt_tiles_right(const brt_tiles *tiles, size_t keys, const real *x, real *room, real *right)
{
    size_t width = tiles->width;
    brt_tiles_pad(tiles, keys, x, tiles->bf16 ? room : right);
    if (tiles->bf16)
        tiles->kernels->pair_rows(keys, width, room, width, as_pairs(right), width);
}

/* ---- strips ---------------------------------------------------------------------------------------------------- */

/* Where not every row sees every key, a product takes so many rows, or keys, at a time: a multiple of the rows of a
 * register tile, and even. */
enum { strip = 24 };

static size_t strip_of(const size_t *visible, size_t all, size_t first)
{
    return visible ? brt_min_size(strip, all - first) : all;
}

/* How many keys the rows [first, first + rows) see. */
static size_t seen_keys(const size_t *visible, size_t first, size_t rows, size_t keys)
{
    size_t most = 0;
    if (!visible)
        return keys;
    for (size_t r = first; r < first + rows; r++)
        most = brt_max_size(most, visible[r]);
    return most;
}

/* The rows [first, end) that see the key, the first one even; none: [rows, rows). */
static size_t first_seeing(const size_t *visible, size_t rows, size_t key, size_t *end)
{
    size_t first = 0;
    *end = rows;
    if (!visible)
        return 0;
    while (first < rows && visible[first] <= key)
        first++;
    while (*end > first && visible[*end - 1] <= key)
        --*end;
    return first < rows ? first - first % 2 : rows;
}

/* ---- products -------------------------------------------------------------------------------------------------- */

void brt_scores(const brt_tiles *tiles, const brt_rows *x, size_t keys, const size_t *visible, const real *transposed,
                real *scores)
{
    size_t width = tiles->width, rows;
    for (size_t r = 0; r < x->count; r += rows, scores += rows * BRT_KEY_TILE) {
        rows = strip_of(visible, x->count, r);
        size_t count = brt_ceil_div(seen_keys(visible, r, rows, keys), key_padding) * key_padding;
        if (tiles->bf16)
            tiles->kernels->matmul_bf16(rows, count, dim_pairs(tiles), as_const_pairs(x->left) + r * width / 2,
                                        width / 2, 1, as_const_pairs(transposed), BRT_KEY_TILE, scores, BRT_KEY_TILE,
                                        false);
        else
            tiles->kernels->matmul(rows, count, tiles->dim, x->left + r * width, width, 1, transposed, BRT_KEY_TILE,
                                   scores, BRT_KEY_TILE, false);
    }
}

uint16_t *brt_rounded(const brt_tiles *tiles, real *room)
{
    return tiles->bf16 ? (uint16_t *)(void *)room : NULL;
}

size_t brt_weights_reals(const brt_tiles *tiles)
{
    return tiles->bf16 ? pair_reals(BRT_ROW_TILE * BRT_KEY_TILE / 2) : 0;
}

const real *brt_round_weights(const brt_tiles *tiles, size_t rows, size_t keys, const real *weights, real *room)
{
    uint16_t *row = brt_rounded(tiles, room);
    if (!row)
        return weights;
    if (keys == BRT_KEY_TILE) {
        tiles->kernels->to_bf16(rows * keys, weights, row);
        return room;
    }
    for (size_t r = 0; r < rows; r++, weights += BRT_KEY_TILE, row += BRT_KEY_TILE) {
        tiles->kernels->to_bf16(keys, weights, row);
        if (keys % 2)
            row[keys] = 0;
    }
    return room;
}

uint32_t *brt_paired(const brt_tiles *tiles, real *room)
{
    return tiles->bf16 ? as_pairs(room) : NULL;
}

const real *brt_pair_weights(const brt_tiles *tiles, size_t rows, size_t keys, const real *weights, real *room)
{
    if (!tiles->bf16)
        return weights;
    tiles->kernels->pair_rows(rows, keys, weights, BRT_KEY_TILE, as_pairs(room), BRT_KEY_TILE);
    return room;
}

void brt_add_weighted(const brt_tiles *tiles, size_t rows, size_t keys, const size_t *visible, const real *weights,
                      const real *right, real *out)
{
    size_t width = tiles->width, part;
    const uint32_t *pairs = as_const_pairs(weights);
    for (size_t r = 0; r < rows; r += part, out += part * width) {
        part = strip_of(visible, rows, r);
        size_t seen = seen_keys(visible, r, part, keys);
        if (tiles->bf16)
            tiles->kernels->matmul_bf16(part, width, brt_ceil_div(seen, 2), pairs + r * BRT_KEY_TILE / 2,
                                        BRT_KEY_TILE / 2, 1, as_const_pairs(right), width, out, width, true);
        else
            tiles->kernels->matmul(part, width, seen, weights + r * BRT_KEY_TILE, BRT_KEY_TILE, 1, right, width, out,
                                   width, true);
    }
}

void brt_add_transposed(const brt_tiles *tiles, size_t keys, const size_t *visible, const real *weights,
                        const brt_rows *x, real *out)
{
    size_t width = tiles->width, part, end;
    const uint32_t *pairs = as_const_pairs(weights);
    for (size_t k = 0; k < keys; k += part, out += part * width) {
        part = strip_of(visible, keys, k);
        size_t first = first_seeing(visible, x->count, k, &end), rows = end - first;
        if (tiles->bf16)
            tiles->kernels->matmul_bf16(part, width, brt_ceil_div(rows, 2), pairs + first / 2 * BRT_KEY_TILE + k, 1,
                                        BRT_KEY_TILE, as_const_pairs(x->right) + first / 2 * width, width, out, width,
                                        true);
        else
            tiles->kernels->matmul(part, width, rows, weights + first * BRT_KEY_TILE + k, 1, BRT_KEY_TILE,
                                   x->right + first * width, width, out, width, true);
    }
}
