/* Scaled dot-product attention over one shared key/value head (Shazeer 2019), tiled with an online softmax
 * (Milakov & Gimelshein 2018; Dao et al. 2022): the [queries, keys] matrix exists only tile by tile, the
 * log-sum-exp [batch, queries, heads] is kept for the backward pass. */
#ifndef BRT_OPS_ATTENTION_H
#define BRT_OPS_ATTENTION_H

#include "../tensor/tape.h"

typedef struct brt_attention {
    size_t heads;
    real scale;              /* of the logits: dim_head^-0.5 */
    bool causal;             /* query t sees the keys up to index first_query + t */
    size_t first_query;      /* the key index of query 0: keys past the last query's are not read (a cache's free room) */
    const size_t *first_key; /* [batch]: a row sees keys from this index on; NULL: from 0. Lives until backward. */
    /* Where head h of query t goes in `out`, [batch, queries, out_row]: columns out_offset + h * out_head .. */
    size_t out_row, out_offset, out_head;
} brt_attention;

/* query [batch, queries, heads, dim_head], key and value [batch, keys, dim_head]; writes its part of `out`, whose
 * other columns belong to others. */
void brt_op_attention(brt_tape *tape, brt_tensor *query, brt_tensor *key, brt_tensor *value, const brt_attention *how,
                      brt_tensor *out);

#endif
