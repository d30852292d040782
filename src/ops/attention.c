/* Attention of every head of every query over the keys and values that heads share:
 *   s_j = scale * (q . k_j + bias) over the keys j it may see,  p = softmax(s),  o = sum of p_j v_j,
 *   l = log of the softmax's sum;
 * with D = do . o - dl:  dv_j = sum of p_j do,  ds_j = scale * p_j (do . v_j - D) of q . k_j + bias,  dq = sum of
 * ds_j k_j, dk_j = sum of ds_j q, dbias = sum of ds_j, the sums for k and v over all queries and heads.
 * Dropout puts masked p_j for p_j in the sums o and dv, and masked do . v_j for do . v_j; D stays do . o - dl.
 *
 * What has keys of its own, a key head of a row, is called a batch row here. Keys and values are its heads' common
 * ones, so [queries, heads, dim] is a matrix of queries * heads rows. A task takes a tile of these rows through the
 * keys tile by tile; several heads of one query see the same keys, so a tile of few queries wastes little at the
 * diagonal. Keys (and, backward, values) are prepared first, once for all rows, in tiles of their own. A recording tape
 * that uses bf16 has bf16 products; a cache's few queries are always f32. */
#include "attention_job.h"

#include "../base/rng.h"

enum {
    few_queries = 8, /* up to here a task takes one query and some of the keys */
    /* Tasks of the backward pass: each has sums of dk and dv of its own, which cost little if it has some tiles of
     * rows. */
    least_backward_tasks = 4,
    most_backward_tasks = 16,
    tiles_of_backward_task = 4,
};

/* How many tasks share the rows of a batch row. */
static size_t count_groups(size_t batch, size_t row_tiles)
{
    size_t least = brt_ceil_div(least_backward_tasks, batch), most = brt_ceil_div(most_backward_tasks, batch);
    size_t groups = brt_max_size(least, brt_min_size(most, brt_ceil_div(row_tiles, tiles_of_backward_task)));
    return brt_min_size(row_tiles, groups);
}

static const brt_op op = {.name = "attention", .forward = brt_attention_forward, .backward = brt_attention_backward};

static brt_mask draw_mask(const brt_dropout *how)
{
    uint32_t words[4];
    brt_rng_words(how->seed, how->stream, how->index, words);
    return (brt_mask){{words[0], words[1]}, (uint32_t)(how->rate * 0x1p32), (real)(1 / (1 - how->rate))};
}

static attention measure(const brt_tape *tape, const brt_tensor *query, const brt_tensor *key, const brt_attention *how)
{
    size_t queries = query->shape[1];
    attention a = {.how = *how,
                   .batch = query->shape[0],
                   .rows = queries * how->heads,
                   .dim = query->shape[3],
                   .key_heads = brt_max_size(1, how->key_heads),
                   .span = how->bias ? how->bias->shape[1] : 0,
                   .key_rows = key->shape[1],
                   .keys = key->shape[1]};
    a.tiles = brt_tiles_make(brt_tape_kernels(tape), brt_tape_recording(tape) && brt_tape_has_bf16(tape), a.dim);
    if (how->causal)
        a.keys = brt_min_size(a.keys, how->first_query + queries - how->strict);
    a.row_tiles = brt_ceil_div(a.rows, row_tile);
    a.key_tiles = brt_ceil_div(a.key_rows, key_tile);
    a.key_chunks = brt_max_size(1, brt_ceil_div(a.key_rows, key_chunk));
    a.groups = count_groups(brt_max_size(1, a.batch), a.row_tiles);
    a.mask = draw_mask(&how->dropout);
    return a;
}

/* Of both products, as if every batch row saw from key 0. */
static size_t count_flops(const attention *a)
{
    size_t pairs = 0;
    for (size_t row = 0; row < a->rows; row += a->how.heads)
        pairs += (end_key(a, row) - brt_min_size(end_key(a, row), begin_key(a, row))) * a->how.heads;
    return 4 * a->batch * pairs * a->dim;
}

void brt_op_attention(brt_tape *tape, brt_tensor *query, brt_tensor *key, brt_tensor *value, const brt_attention *how,
                      brt_tensor *out)
{
    bool recording = brt_tape_recording(tape);
    attention_attributes taken = {.a = measure(tape, query, key, how)};
    const attention *a = &taken.a;
    brt_tensor *sums = recording ? brt_tape_tensor(tape, BRT_SHAPE(2, a->batch, a->rows)) : NULL;
    if (!recording && query->shape[1] <= few_queries && how->dropout.rate == 0)
        taken.chunks = brt_scratch(tape, brt_attention_chunk_count(a));
    else
        taken.key_tiles = brt_scratch(tape, brt_transposed_index(a, a->batch, 0) + brt_right_index(a, a->batch, 0));
    taken.bias = a->span ? brt_scratch(tape, brt_attention_bias_count(a)) : NULL;
    taken.scratch = brt_scratch(tape, (size_t)brt_tape_threads(tape) * brt_attention_forward_scratch(a));
    brt_tape_push(tape,
                  &(brt_node){.op = &op,
                              .in = {query, key, value, how->bias},
                              .out = {out, sums, how->log_sum_exp},
                              .attributes = &taken,
                              .flops = count_flops(a),
                              .backward_flops = count_flops(a) / 2 * 5}, /* five products instead of two */
                  sizeof taken);
    brt_scratch_free(tape, taken.scratch);
    if (taken.bias)
        brt_scratch_free(tape, taken.bias);
    brt_scratch_free(tape, taken.chunks ? taken.chunks : taken.key_tiles);
}
