#include "attention_job.h"

#include "../base/parallel.h"

#include <string.h>

/* ---- the job -------------------------------------------------------------------------------------------- */

size_t brt_attention_bias_count(const attention *a)
{
    return a->key_heads * a->how.heads * a->span;
}

void brt_add_reversed(size_t rows, size_t span, const real *x, real *y)
{
    for (size_t row = 0; row < rows; row++)
        for (size_t i = 0; i < span; i++)
            y[row * span + i] += x[row * span + span - 1 - i];
}

static const real *reverse_bias(const attention *a, const brt_tensor *bias, real *room)
{
    memset(room, 0, brt_attention_bias_count(a) * sizeof *room);
    brt_add_reversed(a->key_heads * a->how.heads, a->span, bias->data, room);
    return room;
}

attention_job brt_attention_job(brt_tape *tape, const brt_node *node, const attention *a, const brt_tensor *bias_room)
{
    real *sums = node->out[1] ? node->out[1]->data : NULL;
    return (attention_job){.kernels = brt_tape_kernels(tape),
                           .a = a,
                           .query = node->in[0]->data,
                           .key = node->in[1]->data,
                           .value = node->in[2]->data,
                           .bias = bias_room ? reverse_bias(a, node->in[3], bias_room->data) : NULL,
                           .out = node->out[0]->data,
                           .maximum = sums,
                           .log_sum = sums ? sums + a->batch * a->rows : NULL};
}

/* ---- scores ------------------------------------------------------------------------------------------- */

static const real hidden = -(real)1e30; /* a score that exp takes to 0 */

void brt_place_scores(const attention_job *j, size_t batch_row, size_t row, size_t first, size_t count, real *scores)
{
    const attention *a = j->a;
    size_t begin = brt_max_size(first, begin_key(a, row)), end = brt_min_size(first + count, end_key(a, row));
    for (size_t key = first; key < begin && key < end; key++)
        scores[key - first] = hidden;
    if (!j->bias || begin >= end)
        return;
    size_t head = batch_row % a->key_heads * a->how.heads + row % a->how.heads;
    size_t query = a->how.first_query + row / a->how.heads;
    j->kernels->add(end - begin, j->bias + head * a->span + a->span - 1 - query + begin, scores + begin - first);
}

void brt_place_tile_scores(const attention_job *j, const tile *t, const key_range *keys, real *scores)
{
    if (!j->bias && begin_key(j->a, t->first + t->count - 1) <= keys->first)
        return;
    for (size_t i = 0; i < t->count; i++)
        brt_place_scores(j, t->batch_row, t->first + i, keys->first, keys->count, scores + i * key_tile);
}

void brt_drop_weights(const attention_job *j, const tile *t, const key_range *keys, real *weights)
{
    const attention *a = j->a;
    size_t row = t->batch_row % a->key_heads * a->rows + t->first;
    if (a->how.dropout.rate > 0)
        j->kernels->drop(t->count, keys->count, &a->mask, (uint32_t)(row * a->key_rows + keys->first),
                         (uint32_t)a->key_rows, weights, key_tile);
}

/* ---- tiles ---------------------------------------------------------------------------------------------- */

tile brt_row_tile_at(const attention *a, size_t batch_row, size_t index)
{
    size_t first = (a->row_tiles - 1 - index) * row_tile;
    return (tile){batch_row, first, brt_min_size(row_tile, a->rows - first)};
}

size_t brt_prepare_scratch(const attention *a)
{
    return brt_tiles_room_reals(&a->tiles);
}

size_t brt_transposed_index(const attention *a, size_t batch_row, size_t index)
{
    return (batch_row * a->key_tiles + index) * brt_transposed_reals(&a->tiles);
}

size_t brt_right_index(const attention *a, size_t batch_row, size_t index)
{
    return (batch_row * a->key_tiles + index) * brt_right_reals(&a->tiles);
}

static void prepare_task(void *context, size_t task, int thread)
{
    const attention_job *j = context;
    const attention *a = j->a;
    size_t batch_row = task / a->key_tiles, index = task % a->key_tiles;
    size_t first = first_key(a, batch_row) + index * key_tile;
    if (first >= a->keys)
        return;
    size_t count = brt_min_size(key_tile, a->keys - first), from = key_index(a, batch_row, first);
    size_t transposed = brt_transposed_index(a, batch_row, index);
    real *room = j->scratch + (size_t)thread * j->scratch_count;
    brt_tiles_transpose(&a->tiles, count, j->key + from, room, j->keys_transposed + transposed);
    if (j->values_transposed)
        brt_tiles_transpose(&a->tiles, count, j->value + from, room, j->values_transposed + transposed);
    brt_tiles_right(&a->tiles, count, (j->values_transposed ? j->key : j->value) + from, room,
                    j->keys_right + brt_right_index(a, batch_row, index));
}

void brt_prepare_keys(brt_tape *tape, attention_job *j)
{
    brt_parallel_for(brt_tape_threads(tape), j->a->batch * j->a->key_tiles, prepare_task, j);
}
