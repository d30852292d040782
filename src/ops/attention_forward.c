#include "attention_job.h"

#include "../base/parallel.h"

#include <string.h>
#include <tgmath.h>

/* Divides by the sums and puts the rows, `weighted` apart by row reals, where they belong; a row that saw nothing gets
 * 0. */
static void finish_tile(const attention_job *j, const tile *t, const real *maximum, const real *sum,
                        const real *weighted, size_t row)
{
    const attention *a = j->a;
    for (size_t i = 0; i < t->count; i++) {
        j->kernels->scale(a->dim, sum[i] != 0 ? 1 / sum[i] : 0, weighted + i * row, j->out + out_index(a, t, i));
        real log_sum = log(sum[i]);
        if (j->maximum) {
            j->maximum[row_index(a, t) + i] = maximum[i];
            j->log_sum[row_index(a, t) + i] = log_sum;
        }
        if (j->log_sum_exp)
            j->log_sum_exp[row_index(a, t) + i] = sum[i] != 0 ? a->how.scale * maximum[i] + log_sum : log_sum;
    }
}

/* ---- many queries --------------------------------------------------------------------------------------- */

/* Of a tile's sums, [row_tile, width]. */
static size_t rows_reals(const attention *a)
{
    return row_tile * a->tiles.width;
}

size_t brt_attention_forward_scratch(const attention *a)
{
    size_t scores = brt_max_size(row_tile, a->how.heads) * key_tile;
    size_t forward = rows_reals(a) + scores + brt_rows_reals(&a->tiles) + brt_weights_reals(&a->tiles);
    return brt_max_size(forward, brt_prepare_scratch(a));
}

static void forward_tile(const attention_job *j, const tile *t, real *scratch)
{
    const attention *a = j->a;
    size_t width = a->tiles.width, visible[row_tile];
    real *out = scratch, *scores = out + rows_reals(a);
    real *rows_room = scores + row_tile * key_tile, *weights_room = rows_room + brt_rows_reals(&a->tiles);
    real maximum[row_tile], sum[row_tile] = {0};
    uint16_t *rounded = a->how.dropout.rate > 0 ? NULL : brt_rounded(&a->tiles, weights_room);
    brt_rows query = brt_rows_prepare(&a->tiles, t->count, j->query + query_index(a, t), rows_room);
    key_range keys;
    for (size_t i = 0; i < t->count; i++)
        maximum[i] = -(real)INFINITY;
    memset(out, 0, t->count * width * sizeof *out);
    for (size_t index = first_index(a, t); keys_at(a, t, index, &keys); index++) {
        const size_t *seen = count_visible(a, t, &keys, visible);
        brt_scores(&a->tiles, &query, keys.count, seen,
                   j->keys_transposed + brt_transposed_index(a, t->batch_row, index), scores);
        brt_place_tile_scores(j, t, &keys, scores);
        j->kernels->softmax_step(t->count, keys.count, a->how.scale, seen, scores, key_tile, maximum, sum, width, out,
                                 width, rounded);
        brt_drop_weights(j, t, &keys, scores);
        const real *weights = rounded ? weights_room
                                      : brt_round_weights(&a->tiles, t->count, keys.count, scores, weights_room);
        brt_add_weighted(&a->tiles, t->count, keys.count, seen, weights,
                         j->keys_right + brt_right_index(a, t->batch_row, index), out);
    }
    finish_tile(j, t, maximum, sum, out, width);
}

static void forward_task(void *context, size_t task, int thread)
{
    const attention_job *j = context;
    tile t = brt_row_tile_at(j->a, task % j->a->batch, task / j->a->batch);
    forward_tile(j, &t, j->scratch + (size_t)thread * j->scratch_count);
}

/* ---- few queries: generation ------------------------------------------------------------------------------ */

/* What all heads of one query got from one chunk of the keys. */
typedef struct chunk {
    real *out, *maximum, *sum; /* [heads, dim], [heads], [heads] */
} chunk;

static size_t chunk_reals(const attention *a)
{
    return a->how.heads * (a->dim + 2);
}

static size_t chunk_tasks(const attention *a)
{
    return a->batch * (a->rows / a->how.heads) * a->key_chunks;
}

size_t brt_attention_chunk_count(const attention *a)
{
    return chunk_tasks(a) * chunk_reals(a);
}

static chunk chunk_at(const attention_job *j, size_t task)
{
    const attention *a = j->a;
    real *out = j->chunks + task * chunk_reals(a);
    return (chunk){out, out + a->how.heads * a->dim, out + a->how.heads * (a->dim + 1)};
}

/* The rows of one query of the batch: its heads. */
static tile heads_of(const attention *a, size_t query)
{
    size_t queries = a->rows / a->how.heads;
    return (tile){query / queries, query % queries * a->how.heads, a->how.heads};
}

static void chunk_task(void *context, size_t task, int thread)
{
    const attention_job *j = context;
    const attention *a = j->a;
    tile t = heads_of(a, task / a->key_chunks);
    size_t chunk_first = first_key(a, t.batch_row) + task % a->key_chunks * key_chunk, dim = a->dim;
    size_t first = brt_max_size(chunk_first, begin_key(a, t.first));
    size_t end = brt_min_size(chunk_first + key_chunk, end_key(a, t.first));
    real *scores = j->scratch + (size_t)thread * j->scratch_count;
    chunk c = chunk_at(j, task);
    memset(c.out, 0, chunk_reals(a) * sizeof *c.out);
    for (size_t h = 0; h < t.count; h++)
        c.maximum[h] = -(real)INFINITY;
    for (; first < end; first += key_tile) {
        size_t count = brt_min_size(key_tile, end - first), at = key_index(a, t.batch_row, first);
        j->kernels->matvec(t.count, count, dim, j->query + query_index(a, &t), dim, j->key + at, dim, scores, key_tile,
                           false);
        for (size_t h = 0; h < t.count; h++)
            brt_place_scores(j, t.batch_row, t.first + h, first, count, scores + h * key_tile);
        j->kernels->softmax_step(t.count, count, a->how.scale, NULL, scores, key_tile, c.maximum, c.sum, dim, c.out,
                                 dim, NULL);
        j->kernels->matmul(t.count, dim, count, scores, key_tile, 1, j->value + at, dim, c.out, dim, true);
    }
}

/* Adds one head's results of one more chunk to those of the chunks before. */
static void join(const attention *a, size_t head, chunk so_far, chunk more)
{
    if (more.sum[head] == 0)
        return;
    real before = so_far.maximum[head], now = more.maximum[head], most = before > now ? before : now;
    real keep = (real)exp((double)(a->how.scale * (before - most)));
    real take = (real)exp((double)(a->how.scale * (now - most)));
    so_far.maximum[head] = most;
    so_far.sum[head] = keep * so_far.sum[head] + take * more.sum[head];
    for (size_t d = head * a->dim; d < (head + 1) * a->dim; d++)
        so_far.out[d] = keep * so_far.out[d] + take * more.out[d];
}

static void join_chunks(const attention_job *j, size_t query)
{
    const attention *a = j->a;
    tile t = heads_of(a, query);
    chunk all = chunk_at(j, query * a->key_chunks);
    for (size_t i = 1; i < a->key_chunks; i++)
        for (size_t h = 0; h < t.count; h++)
            join(a, h, all, chunk_at(j, query * a->key_chunks + i));
    finish_tile(j, &t, all.maximum, all.sum, all.out, j->a->dim);
}

/* ---- both ----------------------------------------------------------------------------------------------- */

void brt_attention_forward(brt_tape *tape, brt_node *node)
{
    const attention_attributes *taken = node->attributes;
    const attention *a = &taken->a;
    int threads = brt_tape_threads(tape);
    attention_job j = brt_attention_job(tape, node, a, taken->bias);
    j.log_sum_exp = node->out[2] ? node->out[2]->data : NULL;
    j.scratch = taken->scratch->data;
    j.scratch_count = brt_attention_forward_scratch(a);
    if (taken->chunks) {
        j.chunks = taken->chunks->data;
        brt_parallel_for(threads, chunk_tasks(a), chunk_task, &j);
        for (size_t query = 0; query < a->batch * (a->rows / a->how.heads); query++)
            join_chunks(&j, query);
    } else {
        j.keys_transposed = taken->key_tiles->data;
        j.keys_right = j.keys_transposed + brt_transposed_index(a, a->batch, 0);
        brt_prepare_keys(tape, &j);
        brt_parallel_for(threads, a->batch * a->row_tiles, forward_task, &j);
    }
}
