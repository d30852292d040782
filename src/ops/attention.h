/* Scaled dot-product attention over keys and values shared by all query heads (Shazeer 2019), by groups of them
 * (Ainslie et al. 2023), or by none, tiled with an online softmax (Milakov & Gimelshein 2018; Dao et al. 2022): the
 * [queries, keys] matrix exists only tile by tile, the log-sum-exp [batch, queries, heads] is kept for the backward
 * pass. */
#ifndef BRT_OPS_ATTENTION_H
#define BRT_OPS_ATTENTION_H

#include "ops.h"

typedef struct brt_attention {
    size_t key_heads;        /* heads of keys and values; each serves `heads` query heads. 0 is 1 */
    size_t heads;            /* query heads of one key head */
    real scale;              /* of the logits: dim_head^-0.5 */
    bool causal;             /* a query sees keys by distance: n = first_query + t - j of query t and key j */
    size_t first_query;      /* key index of query 0: keys past the last query's are not read (a cache's free room) */
    bool strict;             /* causal: sees n >= 1 only, not itself */
    size_t window;           /* causal: sees the nearest `window` keys only; 0: all */
    const size_t *first_key; /* [batch]: a row sees keys from this index on; NULL: from 0. Lives until backward. */
    brt_tensor *bias;        /* causal: [key_heads * heads, span], added to q . k before the scale; column n is that of
                              * distance n < span. NULL: none */
    brt_tensor *log_sum_exp; /* out, [batch * key_heads, queries, heads]: the logarithm of the softmax's sum, to join
                              * this attention with another; -inf where nothing was seen. NULL: not wanted */
    brt_dropout dropout;     /* of the softmax's weights; rate 0: none. One mask for all rows of the batch:
                              * a function of head, query and key index; `first` has no meaning */
    /* Where query head h of all goes for query t in `out`, [batch, queries, out_row]: columns out_offset + h * out_head
     * on. */
    size_t out_row, out_offset, out_head;
} brt_attention;

/* query [batch * key_heads, queries, heads, dim_head], key and value [batch * key_heads, keys, dim_head]; writes its
 * part of `out`, whose other columns belong to others. */
void brt_op_attention(brt_tape *tape, brt_tensor *query, brt_tensor *key, brt_tensor *value, const brt_attention *how,
                      brt_tensor *out);

/* What an attention has heard: out [batch * parts, part, heads * dim_head] and log_sum_exp
 * [batch * parts * key_heads, part, heads / key_heads]. A batch row's queries may be in parts, of which the last is
 * filled up. */
typedef struct brt_heard {
    brt_tensor *out, *log_sum_exp;
} brt_heard;
/* Joins two attentions as if one had seen the keys of both, as far as gate [heads] lets the other in (0: not at all; 1:
 * exactly, and so without a gate), to columns out_offset on of out [batch, queries, out_row]. */
void brt_op_join(brt_tape *tape, size_t heads, const brt_heard *one, const brt_heard *other, brt_tensor *gate,
                 brt_tensor *out, size_t out_offset);

#endif
