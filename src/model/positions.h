/* How attention to the window knows where a key is: by turning queries and keys (rotary.h), or by a bias that depends
 * on the distance. A new encoding is a name in config.c, its parameters in parameters.c and a case here. */
#ifndef BRT_MODEL_POSITIONS_H
#define BRT_MODEL_POSITIONS_H

#include "parameters.h"
#include "rotary.h"

typedef struct brt_positions {
    brt_position_encoding encoding;
    brt_rotary rotary;
    size_t heads, span; /* span: keys of memories and block, more than any distance */
    real *basis;        /* t5: [BRT_T5_BUCKETS, span], 1 where a distance falls into a bucket; fourier:
                         * [BRT_FOURIER_WIDTH, span], cosines and sines; orthogonal: [terms, span], its curves;
                         * dynamic: [span], the distances; absolute: [segment, dim], the waves */
    brt_tensor *tables[BRT_MAX_DEPTH]; /* t5, fourier and orthogonal: a layer's factors of the basis, [heads, ...]; nn:
                                        * of its hidden units; the paper's alibi: its scale */
    brt_tensor *bounds[BRT_MAX_DEPTH]; /* the paper's alibi: its bound, NULL where that is fixed */
    real fixed_bound;
    brt_tensor *weights[BRT_MAX_DEPTH], *shifts[BRT_MAX_DEPTH]; /* nn: of the hidden units, [BRT_NN_WIDTH] */
    brt_linear mlp[3];                 /* dynamic: one for all layers */
} brt_positions;

/* `positions` is zeroed. */
brt_status brt_positions_create(brt_positions *positions, const brt_config *config, const brt_parameters *parameters,
                                size_t memory_keys);
void brt_positions_close(brt_positions *positions);
/* NULL when nothing is turned. */
const brt_rotation *brt_positions_rotation(const brt_positions *positions);
/* The bias of a layer by distance, [heads, span], to be added to the scaled logits; NULL without. */
brt_tensor *brt_positions_bias(brt_tape *tape, const brt_positions *positions, size_t layer);
bool brt_positions_have_bias(const brt_positions *positions);
/* All layers have the same bias. */
bool brt_positions_shared(const brt_positions *positions);

#endif
