/* A stream's states: read by every token, written at the end of a block. The write is many times the work of a token, so
 * it is spread over the tokens of the block: what depends on the old state alone is done by slices of vectors while the
 * first keys come in, the attention to the block in chunks of keys as they are complete; the last token is left with the
 * last chunk and the update of half of the vectors, the next block's first token, which reads them, with that of the
 * other half. The parts are the same however the tokens came, so the new state is, too. */
#include "stream_state.h"

#include "../base/parallel.h"
#include "../base/size.h"

#include <math.h>
#include <string.h>

enum {
    slice_vectors = 64, /* products of fewer rows would leave threads without work */
    chunk_keys = 64,
};

/* Sizes of a state and of its write. */
typedef struct sizes {
    size_t rows, vectors, dim;
    size_t key_heads, heads, head; /* heads: of all; head: numbers in one */
    size_t width, raw, heard;      /* of a block, of a raw key and value, of what a vector hears */
    size_t heard_head, heard_tokens; /* see brt_state_heard_width */
    size_t row_slices;
    bool apart; /* from tokens beside what is heard from the state itself, not joined with it */
} sizes;

static sizes sizes_of(const brt_stream *stream, const brt_state_container *container)
{
    sizes s = {.rows = stream->rows,
               .vectors = container->initial->shape[0],
               .dim = container->initial->shape[1],
               .key_heads = container->key_heads,
               .heads = container->key_heads * container->heads,
               .head = container->dim_head,
               .width = (size_t)stream->model->config.block_width,
               .raw = brt_carried_raw_width(&stream->model->config),
               .heard = brt_state_heard_width(container),
               .heard_head = container->heard_head,
               .heard_tokens = container->heard_tokens,
               .apart = !container->forget_bias};
    s.row_slices = brt_ceil_div(s.vectors, slice_vectors);
    return s;
}

static real *carried_state(const brt_stream *stream, size_t index)
{
    return stream->carried[stream->model->slots.state + index];
}

/* A tensor over memory of the stream from `offset` on; while planning there is none. */
static brt_tensor *view(const brt_stream *stream, real *memory, size_t offset, size_t dims, const size_t *shape)
{
    return brt_tape_external(stream->tape, memory ? memory + offset : NULL, NULL, dims, shape);
}

static brt_tensor *state_tensor(brt_stream *stream, size_t index, const sizes *s)
{
    return view(stream, carried_state(stream, index), 0, BRT_SHAPE(s->rows, s->vectors, s->dim));
}

/* Those of one row, or of all. */
static brt_keys view_keys(brt_stream *stream, real *key, real *value, const sizes *s, size_t row, size_t rows)
{
    size_t batch = rows * s->key_heads, offset = row * s->key_heads * s->vectors * s->head;
    return (brt_keys){view(stream, key, offset, BRT_SHAPE(batch, s->vectors, s->head)),
                      view(stream, value, offset, BRT_SHAPE(batch, s->vectors, s->head))};
}

brt_keys brt_stream_state_keys(brt_stream *stream, size_t index)
{
    const brt_state_window *w = &stream->state[index];
    sizes s = sizes_of(stream, &stream->model->container[index]);
    return view_keys(stream, w->key, w->value, &s, 0, s.rows);
}

/* ---- at a block's start ------------------------------------------------------------------------------------ */

static void keep_keys(const brt_stream *stream, brt_keys keys, real *key, real *value)
{
    if (!brt_tape_running(stream->tape))
        return;
    memcpy(key, keys.key->data, keys.key->count * sizeof *key);
    memcpy(value, keys.value->data, keys.value->count * sizeof *value);
}

void brt_stream_open_state(brt_stream *stream, size_t index)
{
    const brt_state_container *container = &stream->model->container[index];
    brt_state_window *w = &stream->state[index];
    sizes s = sizes_of(stream, container);
    brt_state_view opened = brt_state_open(stream->tape, container, state_tensor(stream, index, &s));
    keep_keys(stream, brt_state_keys(stream->tape, container, &opened), w->key, w->value);
    keep_keys(stream, brt_state_own_keys(stream->tape, container, &opened), w->own_key, w->own_value);
    brt_tape_rewind(stream->tape);
    w->slices = w->chunks = 0;
}

/* ---- inside a block ---------------------------------------------------------------------------------------- */

/* Of vectors [first, first + count); NULL without. */
static brt_tensor *forget_bias(const brt_stream *stream, const brt_state_container *container, const sizes *s, size_t first,
                               size_t count)
{
    const brt_tensor *bias = container->forget_bias;
    return bias ? view(stream, bias->data, first * s->dim, BRT_SHAPE(count, s->dim)) : NULL;
}

/* What some vectors of a row hear from the state itself, and their queries to the block. */
static void run_slice(brt_stream *stream, size_t index, const sizes *s, size_t slice)
{
    const brt_state_container *container = &stream->model->container[index];
    const brt_state_window *w = &stream->state[index];
    size_t row = slice / s->row_slices, first = slice % s->row_slices * slice_vectors;
    size_t count = brt_min_size(slice_vectors, s->vectors - first), at = row * s->vectors + first;
    brt_tensor *state = view(stream, carried_state(stream, index), at * s->dim, BRT_SHAPE(1, count, s->dim));
    state = brt_state_recall(stream->tape, state, forget_bias(stream, container, s, first, count));
    brt_tensor *ids = view(stream, container->ids->data, first * s->dim, BRT_SHAPE(count, s->dim));
    brt_tensor *normalised = brt_state_normalise(stream->tape, container, state, ids);
    brt_keys own = view_keys(stream, w->own_key, w->own_value, s, row, 1);
    brt_tensor *query = brt_state_token_queries(stream->tape, container, normalised);
    size_t group = s->heads / s->key_heads; /* heads of one key head */
    brt_tensor *log_sum = brt_tape_tensor(stream->tape, BRT_SHAPE(s->key_heads, count, group));
    brt_state_hear_itself(stream->tape, container, normalised, query, first, &own,
                          view(stream, w->heard, at * s->heard, BRT_SHAPE(1, count, s->heard)), log_sum);
    for (size_t k = 0; k < s->key_heads && brt_tape_running(stream->tape); k++) {
        size_t to = ((row * s->key_heads + k) * s->vectors + first) * group, from = k * count * group;
        memcpy(w->query + to * s->head, query->data + from * s->head, count * group * s->head * sizeof(real));
        if (container->forget_bias)
            memcpy(w->log_sum + to, log_sum->data + from, count * group * sizeof(real));
    }
    brt_tape_rewind(stream->tape);
}

/* Joins what the vectors of a row heard from a chunk with what they heard from the chunks before. */
typedef struct joining {
    const brt_kernels *kernels;
    const sizes *s;
    bool first;
    const real *out, *log_sum; /* of the chunk: [vectors, heads, head], [key_heads, vectors, heads / key_heads] */
    real *heard;               /* of the row: [vectors, heard], from tokens in the columns from heard_tokens on */
    real *log_sum_so_far;      /* of the row, as log_sum */
} joining;

/* Softmax over both sets of keys: each weighs as its sum. */
static void join_head(const joining *j, const real *out, real log_sum, real *heard, real *log_sum_so_far)
{
    if (j->first) {
        memcpy(heard, out, j->s->head * sizeof *heard);
        *log_sum_so_far = log_sum;
        return;
    }
    float before = *log_sum_so_far, ratio = expf(-fabsf(before - log_sum)), larger = 1 / (1 + ratio);
    float share = log_sum > before ? larger : 1 - larger;
    j->kernels->scale_add(j->s->head, share, out, 1 - share, heard);
    *log_sum_so_far = fmaxf(before, log_sum) + log1pf(ratio);
}

static void join_task(void *context, size_t vector, int thread)
{
    const joining *j = context;
    const sizes *s = j->s;
    size_t group = s->heads / s->key_heads;
    (void)thread;
    for (size_t h = 0; h < s->heads; h++) {
        size_t sum = (h / group * s->vectors + vector) * group + h % group, at = vector * s->heads + h;
        join_head(j, j->out + at * s->head, j->log_sum[sum],
                  j->heard + vector * s->heard + h * s->heard_head + s->heard_tokens, &j->log_sum_so_far[sum]);
    }
}

/* All vectors of a row attend to the keys [first, first + count) of the block, and of the memory if they hear it. */
static void run_chunk(brt_stream *stream, size_t index, const sizes *s, size_t row, size_t first, size_t count)
{
    const brt_state_container *container = &stream->model->container[index];
    const brt_state_window *w = &stream->state[index];
    size_t group = s->heads / s->key_heads, queries = s->key_heads * s->vectors * group;
    size_t layer = container->write_layer, at = (row * s->width + first) * s->raw;
    brt_tensor *memory = view(stream, stream->carried[stream->model->slots.memory + layer], at,
                              BRT_SHAPE(1, count, s->raw));
    brt_tensor *block = view(stream, stream->window[layer].block, at, BRT_SHAPE(1, count, s->raw));
    brt_tensor *query = view(stream, w->query, row * queries * s->head,
                             BRT_SHAPE(s->key_heads, s->vectors, group, s->head));
    brt_tensor *out = brt_tape_tensor(stream->tape, BRT_SHAPE(1, s->vectors, s->heads * s->head));
    brt_tensor *log_sum = brt_tape_tensor(stream->tape, BRT_SHAPE(s->key_heads, s->vectors, group));
    brt_state_hear_chunk(stream->tape, container, query, memory, block, out, log_sum);
    if (brt_tape_running(stream->tape)) {
        joining j = {.kernels = stream->model->kernels,
                     .s = s,
                     .first = first == 0 && s->apart,
                     .out = out->data,
                     .log_sum = log_sum->data,
                     .heard = w->heard + row * s->vectors * s->heard,
                     .log_sum_so_far = w->log_sum + row * queries};
        brt_parallel_for(brt_tape_threads(stream->tape), s->vectors, join_task, &j);
    }
    brt_tape_rewind(stream->tape);
}

/* The slices that must be done after so many tokens of the block: all before the first chunk is complete. */
static size_t slices_due(const sizes *s, size_t filled)
{
    size_t spread = brt_min_size(chunk_keys, s->width);
    return s->rows * s->row_slices * brt_min_size(filled, spread) / spread;
}

static size_t chunks_due(const sizes *s, size_t filled)
{
    return filled == s->width ? brt_ceil_div(s->width, chunk_keys) : filled / chunk_keys;
}

void brt_stream_advance_state(brt_stream *stream, size_t index)
{
    brt_state_window *w = &stream->state[index];
    sizes s = sizes_of(stream, &stream->model->container[index]);
    for (size_t due = slices_due(&s, stream->filled); w->slices < due; w->slices++)
        run_slice(stream, index, &s, w->slices);
    for (size_t due = chunks_due(&s, stream->filled); w->chunks < due; w->chunks++) {
        size_t first = w->chunks * chunk_keys;
        for (size_t row = 0; row < s.rows; row++)
            run_chunk(stream, index, &s, row, first, brt_min_size(chunk_keys, s.width - first));
    }
}

/* ---- at a block's end -------------------------------------------------------------------------------------- */

/* Vectors [first, end) of every row become those of the next state. */
static void update_vectors(const brt_stream *stream, size_t index, size_t first, size_t end)
{
    const brt_state_container *container = &stream->model->container[index];
    sizes s = sizes_of(stream, container);
    size_t count = end - first;
    for (size_t row = 0; row < s.rows && count > 0; row++) {
        size_t at = row * s.vectors + first;
        real *carried = carried_state(stream, index);
        brt_tensor *heard = view(stream, stream->state[index].heard, at * s.heard, BRT_SHAPE(1, count, s.heard));
        brt_tensor *state = view(stream, carried, at * s.dim, BRT_SHAPE(1, count, s.dim));
        state = brt_state_recall(stream->tape, state, forget_bias(stream, container, &s, first, count));
        brt_tensor *next = brt_state_update(stream->tape, container, heard, state);
        brt_stream_keep(stream, next, carried ? carried + at * s.dim : NULL);
    }
}

/* Vectors that the last token updates; the first one of the next block updates the others. */
static size_t first_half(const brt_stream *stream, size_t index)
{
    return brt_ceil_div(stream->model->container[index].initial->shape[0], 2);
}

void brt_stream_write_state(brt_stream *stream, size_t index)
{
    update_vectors(stream, index, 0, first_half(stream, index));
    stream->state[index].half_written = true;
}

static void finish_state(const brt_stream *stream, size_t index)
{
    brt_state_window *w = &stream->state[index];
    if (w->half_written)
        update_vectors(stream, index, first_half(stream, index), stream->model->container[index].initial->shape[0]);
    w->half_written = false;
}

void brt_stream_finish_states(const brt_stream *stream)
{
    for (size_t i = 0; i < stream->model->containers; i++)
        finish_state(stream, i);
}

void brt_stream_plan_state(brt_stream *stream, size_t index)
{
    sizes s = sizes_of(stream, &stream->model->container[index]);
    brt_stream_open_state(stream, index);
    run_slice(stream, index, &s, 0);
    run_chunk(stream, index, &s, 0, 0, brt_min_size(chunk_keys, s.width));
    brt_stream_write_state(stream, index);
    finish_state(stream, index);
}
