/* What the files of attention share: the job of one call, and the steps that both directions take. */
#ifndef BRT_OPS_ATTENTION_JOB_H
#define BRT_OPS_ATTENTION_JOB_H

#include "attention_sight.h"

enum {
    row_tile = BRT_ROW_TILE,
    key_chunk = 256, /* keys of one task when queries are few */
};

typedef struct attention_job {
    const brt_kernels *kernels;
    const attention *a;
    const real *query, *key, *value;
    const real *bias;        /* [key_heads * heads, span], backwards: keys come in the order of falling distance */
    real *out;
    real *maximum, *log_sum; /* [batch, rows], of q . k + bias and its softmax, for the backward pass; or NULL */
    real *log_sum_exp;       /* [batch, rows] or NULL; in backward its gradient */
    /* Prepared, [batch, key_tiles, a tile]: keys (and, backward, values) transposed, and forward values, backward keys
     * to be summed. */
    real *keys_transposed, *values_transposed, *keys_right;
    real *chunks;            /* of few queries */
    real *scratch;           /* [threads, scratch_count] */
    size_t scratch_count;
    const real *dout;
    real *dquery, *dkey, *dvalue; /* NULL: not wanted */
    real *dbias;
    real *partial_dkey, *partial_dvalue; /* [batch, groups, key_rows, width] */
    real *partial_dbias;                 /* [batch, groups, heads, span] */
} attention_job;

/* What the builder measured, and took for forward alone. */
typedef struct attention_attributes {
    attention a;
    brt_tensor *key_tiles, *chunks; /* one of them */
    brt_tensor *bias;               /* or NULL */
    brt_tensor *scratch;
} attention_attributes;

/* What both directions read, and the output. `bias_room` is NULL without a bias. */
attention_job brt_attention_job(brt_tape *tape, const brt_node *node, const attention *a, const brt_tensor *bias_room);
size_t brt_attention_bias_count(const attention *a);
/* Adds every row of x [rows, span] backwards to y. */
void brt_add_reversed(size_t rows, size_t span, const real *x, real *y);

/* Scores of a row over keys [first, first + count): adds the bias to those that it sees, hides those before its window.
 * Those after its last key are count_visible's. */
void brt_place_scores(const attention_job *j, size_t batch_row, size_t row, size_t first, size_t count, real *scores);
void brt_place_tile_scores(const attention_job *j, const tile *t, const key_range *keys, real *scores);

/* Dropout of a tile of weights, or of their gradients; nothing without one. */
void brt_drop_weights(const attention_job *j, const tile *t, const key_range *keys, real *weights);

/* The index-th row tile to be worked on; the last rows, which see the most keys, come first. */
tile brt_row_tile_at(const attention *a, size_t batch_row, size_t index);
/* Reals that preparing takes of each thread's scratch. */
size_t brt_prepare_scratch(const attention *a);
/* Reals of one kind of prepared tiles up to the index-th of a batch row. */
size_t brt_transposed_index(const attention *a, size_t batch_row, size_t index);
size_t brt_right_index(const attention *a, size_t batch_row, size_t index);
void brt_prepare_keys(brt_tape *tape, attention_job *j);

/* ---- forward and backward ------------------------------------------------------------------------------- */

/* Reals of scratch of a thread, and of chunks if the queries are few. */
size_t brt_attention_forward_scratch(const attention *a);
size_t brt_attention_chunk_count(const attention *a);
void brt_attention_forward(brt_tape *tape, brt_node *node);
void brt_attention_backward(brt_tape *tape, brt_node *node);

#endif
