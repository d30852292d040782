#include "attention_products.h"

#include "../base/size.h"

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

/* ---- keys ------------------------------------------------------------------------------------------------------ */

size_t brt_tiles_key_reals(const brt_tiles *tiles)
{
    return tiles->dim * BRT_KEY_TILE;
}

void brt_tiles_transpose(const brt_tiles *tiles, size_t keys, const real *x, real *prepared)
{
    const brt_kernels *kernels = tiles->kernels;
    kernels->transpose(keys, tiles->dim, x, tiles->dim, prepared, BRT_KEY_TILE);
    /* In place: rows of dim become half as many rows of pairs. */
    if (tiles->bf16)
        kernels->pair_rows(tiles->dim, keys, prepared, BRT_KEY_TILE, as_pairs(prepared), BRT_KEY_TILE);
}

static size_t paired_offset(const brt_tiles *tiles)
{
    return brt_tiles_key_reals(tiles) / 2;
}

void brt_tiles_pair_keys(const brt_tiles *tiles, size_t keys, const real *x, real *prepared)
{
    if (tiles->bf16)
        tiles->kernels->pair_rows(keys, tiles->dim, x, tiles->dim, as_pairs(prepared + paired_offset(tiles)),
                                  tiles->dim);
}

/* ---- rows ------------------------------------------------------------------------------------------------------ */

size_t brt_rows_reals(const brt_tiles *tiles)
{
    return tiles->bf16 ? 2 * pair_reals(BRT_ROW_TILE * tiles->dim / 2) : 0;
}

brt_rows brt_rows_prepare(const brt_tiles *tiles, size_t count, const real *data, real *room)
{
    brt_rows made = {.count = count, .data = data};
    if (!tiles->bf16)
        return made;
    uint32_t *columns = as_pairs(room), *rows = as_pairs(room + pair_reals(BRT_ROW_TILE * tiles->dim / 2));
    tiles->kernels->to_bf16(count * tiles->dim, data, (uint16_t *)columns);
    tiles->kernels->pair_rows(count, tiles->dim, data, tiles->dim, rows, tiles->dim);
    made.columns = columns;
    made.rows = rows;
    return made;
}

/* ---- products -------------------------------------------------------------------------------------------------- */

void brt_scores(const brt_tiles *tiles, const brt_rows *x, size_t keys, const real *transposed, real *scores)
{
    size_t count = brt_ceil_div(keys, key_padding) * key_padding, dim = tiles->dim;
    if (tiles->bf16)
        tiles->kernels->matmul_bf16(x->count, count, dim / 2, x->columns, dim / 2, 1, as_const_pairs(transposed),
                                    BRT_KEY_TILE, scores, BRT_KEY_TILE, false);
    else
        tiles->kernels->matmul(x->count, count, dim, x->data, dim, 1, transposed, BRT_KEY_TILE, scores, BRT_KEY_TILE,
                               false);
}

size_t brt_weights_reals(const brt_tiles *tiles)
{
    return tiles->bf16 ? pair_reals(BRT_ROW_TILE * BRT_KEY_TILE / 2) : 0;
}

/* Pairs along the keys, [rows, keys / 2 rounded up] with rows of BRT_KEY_TILE / 2; after the last key stands 0. */
static void pair_weights(const brt_tiles *tiles, size_t rows, size_t keys, const real *weights, uint32_t *pairs)
{
    for (size_t r = 0; r < rows; r++, weights += BRT_KEY_TILE, pairs += BRT_KEY_TILE / 2) {
        uint16_t *row = (uint16_t *)pairs;
        tiles->kernels->to_bf16(keys, weights, row);
        if (keys % 2)
            row[keys] = 0;
    }
}

void brt_add_weighted(const brt_tiles *tiles, size_t rows, size_t keys, const real *weights, const real *keys_data,
                      const real *paired, real *out, real *room)
{
    size_t dim = tiles->dim;
    if (!tiles->bf16) {
        tiles->kernels->matmul(rows, dim, keys, weights, BRT_KEY_TILE, 1, keys_data, dim, out, dim, true);
        return;
    }
    uint32_t *pairs = as_pairs(room);
    pair_weights(tiles, rows, keys, weights, pairs);
    tiles->kernels->matmul_bf16(rows, dim, brt_ceil_div(keys, 2), pairs, BRT_KEY_TILE / 2, 1,
                                as_const_pairs(paired + paired_offset(tiles)), dim, out, dim, true);
}

void brt_add_transposed(const brt_tiles *tiles, size_t keys, const real *weights, const brt_rows *x, real *out,
                        real *room)
{
    size_t dim = tiles->dim;
    if (!tiles->bf16) {
        tiles->kernels->matmul(keys, dim, x->count, weights, 1, BRT_KEY_TILE, x->data, dim, out, dim, true);
        return;
    }
    uint32_t *pairs = as_pairs(room);
    tiles->kernels->pair_rows(x->count, keys, weights, BRT_KEY_TILE, pairs, BRT_KEY_TILE);
    tiles->kernels->matmul_bf16(keys, dim, brt_ceil_div(x->count, 2), pairs, 1, BRT_KEY_TILE, x->rows, dim, out, dim,
                                true);
}
