/* A stream's states: read by every token, written at the end of a block. The write is many times the work of a token,
 * so it is spread over the tokens of the block, by slices of vectors: what depends on the old state alone, its share of
 * what the update begins with among it, is done while the first keys come in, the attention to the block in chunks of
 * keys as they are complete. The last token is left with its own key and the closing of half of the vectors: a
 * product, the gate, and keys of what came out. The next block's first token, which reads them, closes the other half.
 * The parts are the same however the tokens came, so the new state is, too. */
#include "stream_state.h"

#include "../base/memory.h"
#include "../base/parallel.h"
#include "../base/size.h"
#include "../tensor/bulk.h"

#include <math.h>
#include <string.h>

enum {
    slice_vectors = 64,  /* products of fewer rows read their weights more than they compute */
    chunk_keys = 64,
    last_tokens = 2, /* of the block, and of the memory */
};

/* Sizes of a state and of its write. */
typedef struct sizes {
    size_t vectors, dim;
    size_t key_heads, heads, head; /* heads: of one key head; head: numbers in one */
    size_t inner, width, raw;      /* of all heads, of a block, of a raw key and value */
    size_t row_slices, slices, chunks;
} sizes;

static sizes sizes_of(const brt_stream *stream, const brt_state_container *container)
{
    sizes s = {.vectors = container->initial->shape[0],
               .dim = container->initial->shape[1],
               .key_heads = container->key_heads,
               .heads = container->heads,
               .head = container->dim_head,
               .inner = container->key_heads * container->heads * container->dim_head,
               .width = brt_stream_width(stream),
               .raw = brt_carried_raw_width(&stream->model->config)};
    s.row_slices = brt_ceil_div(s.vectors, slice_vectors);
    s.slices = stream->rows * s.row_slices;
    s.chunks = brt_ceil_div(s.width - 1, chunk_keys);
    return s;
}

/* A tensor over memory of the stream from `offset` on; while planning there is none. */
static brt_tensor *view(const brt_stream *stream, real *memory, size_t offset, size_t dims, const size_t *shape)
{
    return brt_tape_external(stream->tape, memory ? memory + offset : NULL, NULL, dims, shape);
}

/* Keys or values of all vectors; of one row, or of all. */
static brt_keys view_keys(const brt_stream *stream, real *key, real *value, const sizes *s, size_t row, size_t rows)
{
    size_t batch = rows * s->key_heads, offset = row * s->key_heads * s->vectors * s->head;
    return (brt_keys){view(stream, key, offset, BRT_SHAPE(batch, s->vectors, s->head)),
                      view(stream, value, offset, BRT_SHAPE(batch, s->vectors, s->head))};
}

brt_keys brt_stream_state_keys(brt_stream *stream, size_t index)
{
    const brt_state_window *w = &stream->state[index];
    sizes s = sizes_of(stream, &stream->model->container[index]);
    return view_keys(stream, w->key, w->value, &s, 0, stream->rows);
}

/* ---- slices ------------------------------------------------------------------------------------------------------ */

/* Some vectors of a row, until the tape is rewound. */
typedef struct slice {
    const brt_stream *stream;
    const brt_state_window *w;
    real *carried; /* the state, all of it */
    sizes s;
    brt_state_container container; /* as if these vectors were all */
    size_t row, first, count;
    size_t at; /* of the first vector, in all rows */
} slice;

/* Any vectors of a row. */
static slice slice_of(const brt_stream *stream, size_t index, size_t row, size_t first, size_t count)
{
    slice part = {.stream = stream,
                  .w = &stream->state[index],
                  .carried = stream->carried[stream->model->slots.state + index],
                  .s = sizes_of(stream, &stream->model->container[index]),
                  .container = stream->model->container[index],
                  .row = row,
                  .first = first,
                  .count = count};
    part.at = row * part.s.vectors + first;
    brt_tensor **by_vector[] = {&part.container.ids, &part.container.forget_bias};
    for (size_t i = 0; i < 2; i++)
        if (*by_vector[i])
            *by_vector[i] = view(stream, (*by_vector[i])->data, first * part.s.dim, BRT_SHAPE(count, part.s.dim));
    return part;
}

/* Those that the stream holds together. */
static slice slice_at(const brt_stream *stream, size_t index, size_t number)
{
    sizes s = sizes_of(stream, &stream->model->container[index]);
    size_t first = number % s.row_slices * slice_vectors;
    return slice_of(stream, index, number / s.row_slices, first, brt_min_size(slice_vectors, s.vectors - first));
}

/* Of an array [rows, vectors, width], the slice's, [1, count, width]. */
static brt_tensor *view_slice(const slice *part, real *array, size_t width)
{
    return view(part->stream, array, part->at * width, BRT_SHAPE(1, part->count, width));
}

static void put(const slice *part, const brt_tensor *from, brt_tensor *to)
{
    brt_tape *tape = part->stream->tape;
    if (brt_tape_running(tape))
        brt_bulk_copy(brt_tape_threads(tape), from->count, from->data, to->data);
}

/* Keys or values [key_heads, count, head] among those of all vectors. */
static void put_keys(const slice *part, const brt_tensor *from, real *to)
{
    const sizes *s = &part->s;
    for (size_t k = 0; k < s->key_heads && brt_tape_running(part->stream->tape); k++)
        memcpy(to + ((part->row * s->key_heads + k) * s->vectors + part->first) * s->head,
               from->data + k * part->count * s->head, part->count * s->head * sizeof(real));
}

/* The keys of its vectors, for readers and for the state itself. */
static void open_slice(const slice *part)
{
    brt_tape *tape = part->stream->tape;
    brt_state_view opened = brt_state_open(tape, &part->container, view_slice(part, part->carried, part->s.dim));
    brt_keys keys = brt_state_keys(tape, &part->container, &opened);
    brt_keys own = brt_state_own_keys(tape, &part->container, &opened);
    put_keys(part, keys.key, part->w->key);
    put_keys(part, keys.value, part->w->value);
    put_keys(part, own.key, part->w->own_key);
    put_keys(part, own.value, part->w->own_value);
    brt_tape_rewind(tape);
}

void brt_stream_open_state(brt_stream *stream, size_t index)
{
    brt_state_window *w = &stream->state[index];
    for (size_t row = 0; row < stream->rows; row++) {
        slice all = slice_of(stream, index, row, 0, stream->model->container[index].initial->shape[0]);
        open_slice(&all);
    }
    w->slices = w->chunks = 0;
}

/* ---- inside a block ---------------------------------------------------------------------------------------------- */

/* The state's share in what the update begins with; itself [1, count, heard width]: what the vectors heard from it. */
static void project_slice(const slice *part, brt_tensor *itself)
{
    for (size_t i = 0; i < part->container.projections; i++) {
        const brt_state_projection *projection = &part->container.projection[i];
        put(part, brt_state_project(part->stream->tape, projection, itself),
            view_slice(part, part->w->projected[i], brt_state_projected_width(projection)));
    }
}

/* What the vectors hear from the state itself, and their queries to the block. */
static void hear_itself(const slice *part)
{
    brt_tape *tape = part->stream->tape;
    const brt_state_container *container = &part->container;
    brt_tensor *state = brt_state_recall(tape, container, view_slice(part, part->carried, part->s.dim));
    brt_tensor *normalised = brt_state_normalise(tape, container, state);
    brt_tensor *query = brt_state_token_queries(tape, container, normalised);
    put(part, query, view_slice(part, part->w->query, part->s.inner));
    brt_keys own = view_keys(part->stream, part->w->own_key, part->w->own_value, &part->s, part->row, 1);
    brt_tensor *itself = brt_tape_tensor(tape, BRT_SHAPE(1, part->count, brt_state_heard_width(container)));
    if (brt_tape_running(tape)) /* nothing from tokens */
        memset(itself->data, 0, itself->count * sizeof(real));
    if (brt_state_hears_apart(container)) {
        brt_state_hear_itself(tape, container, normalised, query, part->first, &own, itself, NULL);
    } else {
        brt_tensor *log_sum = brt_tape_tensor(tape, BRT_SHAPE(part->s.key_heads, part->count, part->s.heads));
        brt_state_hear_itself(tape, container, normalised, query, part->first, &own,
                              view_slice(part, part->w->heard, part->s.inner), log_sum);
        put(part, log_sum, view_slice(part, part->w->log_sum, part->s.key_heads * part->s.heads));
    }
    project_slice(part, itself);
    brt_tape_rewind(tape);
}

/* Joins what a vector's head heard from some keys with what it has heard so far, [head] and a logarithm of the
 * softmax's sum each: each weighs as its sum. */
static void join_head(const slice *part, bool first, const real *out, real log_sum, real *heard, real *log_sum_so_far)
{
    size_t head = part->s.head;
    if (first) {
        memcpy(heard, out, head * sizeof *heard);
        *log_sum_so_far = log_sum;
        return;
    }
    float before = *log_sum_so_far, ratio = expf(-fabsf(before - log_sum)), larger = 1 / (1 + ratio);
    float share = log_sum > before ? larger : 1 - larger;
    part->stream->model->kernels->scale_add(head, share, out, 1 - share, heard);
    *log_sum_so_far = fmaxf(before, log_sum) + log1pf(ratio);
}

/* Where a vector's head h is among [key_heads, count, heads]. */
static size_t head_index(const sizes *s, size_t count, size_t vector, size_t h)
{
    return (h / s->heads * count + vector) * s->heads + h % s->heads;
}

/* What a slice heard from a chunk joins what it heard from the chunks before. */
typedef struct joining {
    const slice *part;
    bool first;                /* nothing was heard before */
    const real *out, *log_sum; /* of the chunk: [count, all heads, head], [key_heads, count, heads] */
    real *heard;               /* so far, as out */
    real *log_sum_so_far;      /* as log_sum */
} joining;

static void join_task(void *context, size_t vector, int thread)
{
    const joining *j = context;
    const sizes *s = &j->part->s;
    (void)thread;
    for (size_t h = 0; h < s->key_heads * s->heads; h++) {
        size_t sum = head_index(s, j->part->count, vector, h), at = vector * s->inner + h * s->head;
        join_head(j->part, j->first, j->out + at, j->log_sum[sum], j->heard + at, &j->log_sum_so_far[sum]);
    }
}

/* Raw keys and values of the positions [first, first + count) of a row of the block, and of the memory. */
typedef struct raw_tokens {
    brt_tensor *memory, *block;
} raw_tokens;

static raw_tokens view_tokens(const slice *part, size_t first, size_t count)
{
    const brt_stream *stream = part->stream;
    size_t layer = part->container.write_layer, at = (part->row * part->s.width + first) * part->s.raw;
    real *memory = stream->carried[stream->model->slots.memory + layer];
    return (raw_tokens){view(stream, memory, at, BRT_SHAPE(1, count, part->s.raw)),
                        view(stream, stream->window[layer].block, at, BRT_SHAPE(1, count, part->s.raw))};
}

/* The vectors attend to the keys [first, end) of the block, and of the memory if they hear it. */
static void hear_chunk(const slice *part, size_t first, size_t end)
{
    brt_tape *tape = part->stream->tape;
    const sizes *s = &part->s;
    raw_tokens raw = view_tokens(part, first, end - first);
    brt_tensor *query = view(part->stream, part->w->query, part->at * s->inner,
                             BRT_SHAPE(s->key_heads, part->count, s->heads, s->head));
    brt_tensor *out = brt_tape_tensor(tape, BRT_SHAPE(1, part->count, s->inner));
    brt_tensor *log_sum = brt_tape_tensor(tape, BRT_SHAPE(s->key_heads, part->count, s->heads));
    brt_state_hear_chunk(tape, &part->container, query, raw.memory, raw.block, out, log_sum);
    joining j = {.part = part,
                 .first = first == 0 && brt_state_hears_apart(&part->container),
                 .out = out->data,
                 .log_sum = log_sum->data,
                 .heard = view_slice(part, part->w->heard, s->inner)->data,
                 .log_sum_so_far = view_slice(part, part->w->log_sum, s->key_heads * s->heads)->data};
    if (brt_tape_running(tape))
        brt_parallel_for(brt_tape_threads(tape), part->count, join_task, &j);
    brt_tape_rewind(tape);
}

/* Of a row, whose vectors hear the last token. */
typedef struct last {
    const slice *all;
    brt_keys keys; /* [key_heads, tokens, head] */
    bool first;    /* nothing was heard before */
} last;

/* A softmax over one key is its value, and the logarithm of its sum the score. */
static void last_task(void *context, size_t vector, int thread)
{
    const last *l = context;
    const sizes *s = &l->all->s;
    size_t all_heads = s->key_heads * s->heads, tokens = l->keys.key->shape[1], first = vector - vector % slice_vectors;
    size_t at = l->all->at + first, count = brt_min_size(slice_vectors, s->vectors - first);
    real *heard = l->all->w->heard + (l->all->at + vector) * s->inner, scores[last_tokens];
    (void)thread;
    for (size_t h = 0; h < all_heads; h++, heard += s->head) {
        size_t index = at * all_heads + head_index(s, count, vector - first, h), keys = h / s->heads * tokens * s->head;
        l->all->stream->model->kernels->matvec(1, tokens, s->head, l->all->w->query + index * s->head, s->head,
                                               l->keys.key->data + keys, s->head, scores, tokens, false);
        for (size_t i = 0; i < tokens; i++)
            join_head(l->all, l->first && i == 0, l->keys.value->data + keys + i * s->head,
                      l->all->container.scale * scores[i], heard, &l->all->w->log_sum[index]);
    }
}

/* The vectors of a row hear the last token: for one key an attention takes several times as long. */
static void hear_last(const brt_stream *stream, size_t index, size_t row)
{
    slice all = slice_of(stream, index, row, 0, stream->model->container[index].initial->shape[0]);
    raw_tokens raw = view_tokens(&all, all.s.width - 1, 1);
    last l = {.all = &all,
              .keys = brt_state_token_keys(stream->tape, &all.container, raw.memory, raw.block),
              .first = all.s.width == 1 && brt_state_hears_apart(&all.container)};
    if (brt_tape_running(stream->tape))
        brt_parallel_for(brt_tape_threads(stream->tape), all.count, last_task, &l);
    brt_tape_rewind(stream->tape);
}

/* Keys up to the end of a chunk. */
static size_t chunk_end(const sizes *s, size_t chunk)
{
    return brt_min_size((chunk + 1) * chunk_keys, s->width - 1);
}

/* Slices that must have heard the state after so many tokens of the block: all before the one that completes the first
 * chunk. */
static size_t slices_due(const sizes *s, size_t filled)
{
    size_t spread = brt_max_size(2, chunk_end(s, 0)) - 1;
    return s->slices * brt_min_size(filled, spread) / spread;
}

void brt_stream_advance_state(brt_stream *stream, size_t index)
{
    brt_state_window *w = &stream->state[index];
    sizes s = sizes_of(stream, &stream->model->container[index]);
    for (size_t due = slices_due(&s, stream->filled); w->slices < due; w->slices++) {
        slice part = slice_at(stream, index, w->slices);
        hear_itself(&part);
    }
    for (; w->chunks < s.chunks && chunk_end(&s, w->chunks) <= stream->filled; w->chunks++)
        for (size_t i = 0; i < s.slices; i++) {
            slice part = slice_at(stream, index, i);
            hear_chunk(&part, w->chunks ? chunk_end(&s, w->chunks - 1) : 0, chunk_end(&s, w->chunks));
        }
    for (size_t row = 0; stream->filled == s.width && row < stream->rows; row++)
        hear_last(stream, index, row);
}

/* ---- at a block's end -------------------------------------------------------------------------------------------- */

/* A projection of what the vectors heard: the state's share and the tokens'. */
static brt_tensor *project(const slice *part, size_t projection)
{
    size_t width = brt_state_projected_width(&part->container.projection[projection]);
    brt_linear tokens = {.weight = view(part->stream, NULL, 0, BRT_SHAPE(width, part->s.inner)),
                         .matrix = part->w->token_projection[projection]};
    return brt_op_linear(part->stream->tape, view_slice(part, part->w->heard, part->s.inner), &tokens,
                         view_slice(part, part->w->projected[projection], width));
}

/* The vectors become those of the next state, and are opened. */
static void close_slice(const slice *part)
{
    brt_tape *tape = part->stream->tape;
    brt_tensor *carried = view_slice(part, part->carried, part->s.dim), *projected[BRT_STATE_PROJECTIONS];
    for (size_t i = 0; i < part->container.projections; i++)
        projected[i] = project(part, i);
    brt_tensor *state = brt_state_recall(tape, &part->container, carried);
    put(part, brt_state_update(tape, &part->container, projected, state), carried);
    open_slice(part);
}

/* Vectors [first, end) of every row. */
static void close_vectors(const brt_stream *stream, size_t index, size_t first, size_t end)
{
    for (size_t row = 0; row < stream->rows && first < end; row++) {
        slice part = slice_of(stream, index, row, first, end - first);
        close_slice(&part);
    }
}

/* Vectors that the last token closes; the next block's first one closes the others. */
static size_t first_half(const brt_stream *stream, size_t index)
{
    return brt_ceil_div(stream->model->container[index].initial->shape[0], 2);
}

void brt_stream_write_state(brt_stream *stream, size_t index)
{
    close_vectors(stream, index, 0, first_half(stream, index));
    stream->state[index].half_closed = true;
}

static void finish_state(const brt_stream *stream, size_t index)
{
    brt_state_window *w = &stream->state[index];
    if (!w->half_closed)
        return;
    close_vectors(stream, index, first_half(stream, index), stream->model->container[index].initial->shape[0]);
    w->slices = w->chunks = 0;
    w->half_closed = false;
}

void brt_stream_finish_states(const brt_stream *stream)
{
    for (size_t i = 0; i < stream->model->containers; i++)
        finish_state(stream, i);
}

/* ---- opening and planning ---------------------------------------------------------------------------------------- */

/* Returns in *room what is left of it. */
static brt_status make_projections(brt_stream *stream, size_t index, real **room)
{
    const brt_state_container *container = &stream->model->container[index];
    for (size_t i = 0; i < container->projections; i++) {
        brt_matrix **matrix = &stream->state[index].token_projection[i];
        brt_tensor *weight = brt_state_token_projection(stream->tape, container, &container->projection[i]);
        BRT_TRY(brt_matrix_create(matrix, stream->model->kernels, weight->shape[0], weight->shape[1], weight->data));
        size_t bytes = brt_matrix_enabling_bytes(*matrix, false, false);
        BRT_TRY(brt_matrix_enable(*matrix, false, false, *room));
        *room += bytes / sizeof **room;
        brt_tape_rewind(stream->tape);
    }
    return BRT_OK;
}

brt_status brt_stream_make_projections(brt_stream *stream)
{
    size_t bytes = brt_stream_projections_bytes(stream);
    real *room = stream->projections = brt_pages_take(bytes);
    if (!room)
        return BRT_FAIL(BRT_ERROR_MEMORY, "out of memory for a stream's projections of %zu bytes", bytes);
    for (size_t i = 0; i < stream->model->containers; i++)
        BRT_TRY(make_projections(stream, i, &room));
    return BRT_OK;
}

void brt_stream_close_projections(brt_stream *stream)
{
    for (size_t i = 0; i < stream->model->containers && stream->state; i++)
        for (size_t j = 0; j < BRT_STATE_PROJECTIONS; j++)
            brt_matrix_close(stream->state[i].token_projection[j]);
    brt_pages_give(stream->projections, brt_stream_projections_bytes(stream));
}

size_t brt_stream_projections_bytes(const brt_stream *stream)
{
    size_t bytes = 0;
    for (size_t i = 0; i < stream->model->containers; i++) {
        const brt_state_container *container = &stream->model->container[i];
        size_t inner = sizes_of(stream, container).inner;
        for (size_t j = 0; j < container->projections; j++) {
            size_t width = brt_state_projected_width(&container->projection[j]);
            bytes += brt_matrix_bytes(stream->model->kernels, width, inner);
        }
    }
    return bytes;
}

void brt_stream_plan_state(brt_stream *stream, size_t index)
{
    const brt_state_container *container = &stream->model->container[index];
    for (size_t i = 0; i < container->projections; i++) {
        brt_state_token_projection(stream->tape, container, &container->projection[i]);
        brt_tape_rewind(stream->tape);
    }
    size_t vectors = container->initial->shape[0], final = brt_ceil_div(vectors, slice_vectors) - 1;
    for (size_t i = 0; i <= final; i += brt_max_size(1, final)) { /* the final one may be smaller */
        slice part = slice_at(stream, index, i);
        hear_itself(&part);
        hear_chunk(&part, 0, brt_min_size(chunk_keys, part.s.width));
    }
    hear_last(stream, index, 0);
    slice all = slice_of(stream, index, 0, 0, vectors);
    open_slice(&all);
    close_vectors(stream, index, 0, first_half(stream, index));
    close_vectors(stream, index, first_half(stream, index), vectors);
}
