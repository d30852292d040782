/* The products of attention on tiles of rows (queries of all heads) and keys, in f32, or in bf16: operands rounded, sums
 * in f32. In bf16 two numbers lie in 32 bits, paired along the index a product sums over, so each operand is prepared
 * once for each way it is used. Beside the last key or row may lie one that is multiplied by 0: it must be finite. */
#ifndef BRT_OPS_ATTENTION_PRODUCTS_H
#define BRT_OPS_ATTENTION_PRODUCTS_H

#include "../kernels/kernels.h"

#include <stdint.h>

enum {
    BRT_ROW_TILE = 66,  /* rows: a multiple of the rows of a register tile, and even */
    BRT_KEY_TILE = 128, /* keys; also the stride of a row of scores and of a transposed tile */
};

typedef struct brt_tiles {
    const brt_kernels *kernels;
    bool bf16;
    size_t dim; /* even in bf16 */
} brt_tiles;

/* ---- keys and values: tiles [keys, dim] ---- */

/* Reals of a prepared tile. */
size_t brt_tiles_key_reals(const brt_tiles *tiles);
/* The tile transposed, for brt_scores. */
void brt_tiles_transpose(const brt_tiles *tiles, size_t keys, const real *x, real *prepared);
/* A tile's rows, for brt_add_weighted: x and, in bf16, `prepared`: the free half of a transposed tile's room. */
void brt_tiles_pair_keys(const brt_tiles *tiles, size_t keys, const real *x, real *prepared);

/* ---- tiles of rows ---- */

typedef struct brt_rows {
    size_t count;
    const real *data;        /* [count, dim] */
    const uint32_t *columns; /* bf16: paired along dim, [count, dim / 2] */
    const uint32_t *rows;    /* bf16: rows paired, [count / 2 rounded up, dim] */
} brt_rows;
/* Reals of room that preparing takes. */
size_t brt_rows_reals(const brt_tiles *tiles);
brt_rows brt_rows_prepare(const brt_tiles *tiles, size_t count, const real *data, real *room);

/* ---- products; scores and weights are [rows, keys] with rows of BRT_KEY_TILE ---- */

/* scores = x . key for each row and key. What is beyond the last key is garbage. */
void brt_scores(const brt_tiles *tiles, const brt_rows *x, size_t keys, const real *transposed, real *scores);
/* Reals of room for the two below. */
size_t brt_weights_reals(const brt_tiles *tiles);
/* out [rows, dim] += sum over keys of weight * key; `keys_data` and `paired` as brt_tiles_pair_keys had them */
void brt_add_weighted(const brt_tiles *tiles, size_t rows, size_t keys, const real *weights, const real *keys_data,
                      const real *paired, real *out, real *room);
/* out [keys, dim] += sum over rows of weight * row */
void brt_add_transposed(const brt_tiles *tiles, size_t keys, const real *weights, const brt_rows *x, real *out,
                        real *room);

#endif
