/* Exact recall: each head of each token attends to the keys of its own choice, those with the largest products among
 * all that its row remembers. For inference: it costs a pass over the memory for every token, and has no gradient.
 * The pass reads keys in 8 bits; the best of them are scored again with the keys as they are kept. */
#ifndef BRT_OPS_RECALL_H
#define BRT_OPS_RECALL_H

#include "../tensor/ring.h"
#include "attention.h"

typedef struct brt_recall {
    const brt_ring *ring;
    const brt_ring *scan;  /* the same keys in 8 bits; may be `ring` */
    size_t capacity;       /* the most positions a row remembers */
    const uint64_t *begin; /* [batch]: a row remembers positions from here .. */
    uint64_t end;          /* .. up to here */
    size_t tokens;         /* that each head recalls, at most */
    real scale;            /* of logits */
} brt_recall;

/* query [batch * groups, time, heads, dim]; null_key and null_value [groups, dim], one more key for all heads of a
 * group, or NULL. Group g looks at the keys of the ring's head g * heads / groups. */
brt_heard brt_op_recall(brt_tape *tape, brt_tensor *query, brt_tensor *null_key, brt_tensor *null_value,
                        const brt_recall *how, size_t batch);

#endif
