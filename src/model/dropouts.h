/* Where a training pass drops activations and weights of attention, in the paper's arithmetic. Masks are functions of
 * (seed, segment, place). */
#ifndef BRT_MODEL_DROPOUTS_H
#define BRT_MODEL_DROPOUTS_H

#include "../ops/ops.h"

typedef struct brt_dropouts {
    double rate, attention_rate;
    uint64_t seed;
    uint64_t segment; /* trained so far: every segment has masks of its own */
    size_t first;     /* position of the block's first token in its segment */
} brt_dropouts;

typedef enum brt_drop_place {
    BRT_DROP_BEFORE_ATTENTION,
    BRT_DROP_AFTER_FEED_FORWARD,
    BRT_DROP_BEFORE_LOGITS,
    BRT_DROP_ATTENTION,
    BRT_DROP_PLACES,
} brt_drop_place;

/* x, in part dropped, + residual (or NULL). Without dropouts (NULL, or rate 0) x itself: there is no residual then. */
brt_tensor *brt_drop(brt_tape *tape, const brt_dropouts *dropouts, size_t layer, brt_drop_place place, brt_tensor *x,
                     brt_tensor *residual);
bool brt_drops(const brt_dropouts *dropouts);
/* Of the weights of a layer's attention to its window: one mask for all blocks of a segment. */
brt_dropout brt_attention_dropout(const brt_dropouts *dropouts, size_t layer);

#endif
