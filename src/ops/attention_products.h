/* The products of attention on tiles of rows (queries of all heads) and keys, in f32, or in bf16: operands rounded,
 * sums in f32. In bf16 two numbers lie in 32 bits, paired along the index a product sums over, so each operand is
 * prepared once for each way it is used. Prepared rows are `width` numbers long, whole vectors: what is behind the
 * dim-th is computed and not read. Beside the last key or row may lie one that is multiplied by 0: it must be
 * finite. */
#ifndef BRT_OPS_ATTENTION_PRODUCTS_H
#define BRT_OPS_ATTENTION_PRODUCTS_H

#include "../kernels/kernels.h"

#include <stdbool.h>
#include <stdint.h>

enum {
    BRT_ROW_TILE = 132,  /* rows: a multiple of the rows of a register tile, and even */
    BRT_KEY_TILE = 128, /* keys; also the stride of a row of scores and of a transposed tile */
};

typedef struct brt_tiles {
    const brt_kernels *kernels;
    bool bf16;
    size_t dim, width;
} brt_tiles;
brt_tiles brt_tiles_make(const brt_kernels *kernels, bool bf16, size_t dim);

/* Writes x, `count` rows of dim, to rows of width. */
void brt_tiles_pad(const brt_tiles *tiles, size_t count, const real *x, real *padded);
/* And back. */
void brt_tiles_unpad(const brt_tiles *tiles, size_t count, const real *padded, real *x);

/* ---- tiles of rows ---- */

typedef struct brt_rows {
    size_t count;
    const real *left;  /* to multiply with each key: [count, width], in bf16 paired along dim, [count, width / 2] */
    const real *right; /* to be summed over rows: [count, width], in bf16 rows paired, [count / 2 rounded up, width];
                        * NULL until asked for */
} brt_rows;
/* Reals of room that either form of a tile takes. */
size_t brt_rows_reals(const brt_tiles *tiles);
/* Rows [first, first + count) of a tile, x [count, dim], to the room of its left form. */
void brt_rows_put(const brt_tiles *tiles, size_t first, size_t count, const real *x, real *room);
/* x [count, dim] to multiply with keys. */
brt_rows brt_rows_prepare(const brt_tiles *tiles, size_t count, const real *x, real *room);
/* The right form, too, of what is in the left one; in f32 they are the same. */
void brt_rows_make_right(const brt_tiles *tiles, brt_rows *rows, real *room);

/* ---- tiles of keys or values, from x [keys, dim] ---- */

/* Reals of room for preparing, of a tile transposed, and of one to be summed over keys. */
size_t brt_tiles_room_reals(const brt_tiles *tiles);
size_t brt_transposed_reals(const brt_tiles *tiles);
size_t brt_right_reals(const brt_tiles *tiles);
/* For brt_scores: [dim, BRT_KEY_TILE]. */
void brt_tiles_transpose(const brt_tiles *tiles, size_t keys, const real *x, real *room, real *transposed);
/* For brt_add_weighted: as brt_rows has it. */
void brt_tiles_right(const brt_tiles *tiles, size_t keys, const real *x, real *room, real *right);

/* ---- products; scores and weights are [rows, keys] with rows of BRT_KEY_TILE ---- */

/* Row i sees the first visible[i] keys; NULL: all. Strips of weights that are 0 for that reason are passed over. */

/* scores = x . key for each row and the keys that it sees; the rest is garbage. */
void brt_scores(const brt_tiles *tiles, const brt_rows *x, size_t keys, const size_t *visible, const real *transposed,
                real *scores);
/* Reals of room that rounding weights takes, in either way. */
size_t brt_weights_reals(const brt_tiles *tiles);
/* The room for rounded weights, rows of BRT_KEY_TILE; NULL in f32. */
uint16_t *brt_rounded(const brt_tiles *tiles, real *room);
/* Weights for brt_add_weighted: the same in f32; in bf16 rounded in the room, after the last of an odd number 0. */
const real *brt_round_weights(const brt_tiles *tiles, size_t rows, size_t keys, const real *weights, real *room);
/* The room for pairs of rows of them, rows of BRT_KEY_TILE pairs; NULL in f32. */
uint32_t *brt_paired(const brt_tiles *tiles, real *room);
/* Weights for brt_add_transposed: the same in f32; in bf16 rounded in the room, rows paired. */
const real *brt_pair_weights(const brt_tiles *tiles, size_t rows, size_t keys, const real *weights, real *room);
/* out [rows, width] += sum over keys of weight * key */
void brt_add_weighted(const brt_tiles *tiles, size_t rows, size_t keys, const size_t *visible, const real *weights,
                      const real *right, real *out);
/* out [keys, width] += sum over rows of weight * row */
void brt_add_transposed(const brt_tiles *tiles, size_t keys, const size_t *visible, const real *weights,
                        const brt_rows *x, real *out);

#endif
