/* A stream's states: read by every token, written at the end of a block. The write is many times the work of a token,
 * so it is spread over the tokens of the block, by slices of vectors: what depends on the old state alone, its share of
 * what the update begins with among it, is done while the first keys come in, the attention to the block in chunks of
 * keys as they are complete. The last token is left with a short chunk and the closing of half of the slices: a
 * product, the gate, and keys of what came out. The next block's first token, which reads them, closes the other half.
 * The parts are the same however the tokens came, so the new state is, too. */
#include "stream_state.h"

#include "../base/parallel.h"
#include "../base/size.h"
#include "../tensor/bulk.h"

#include <math.h>
#include <string.h>

enum {
    slice_vectors = 64,  /* products of fewer rows read their weights more than they compute */
    chunk_keys = 64,
    last_chunk_keys = 4, /* left to the last token, which has more to do */
};

/* Sizes of a state and of its write. */
typedef struct sizes {
    size_t vectors, dim;
    size_t key_heads, heads, head; /* heads: of one key head; head: numbers in one */
    size_t inner, width, raw;      /* of all heads, of a block, of a raw key and value */
    size_t row_slices, slices, chunks;
} sizes;

/* Keys that are heard before the last token. */
static size_t before_last_chunk(size_t width)
{
    return width - brt_min_size(width, last_chunk_keys);
}

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
    s.chunks = brt_ceil_div(before_last_chunk(s.width), chunk_keys) + 1;
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

/* Some vectors of a row, until the tape is rewound. What the stream holds of vectors has those of a slice together. */
typedef struct slice {
    const brt_stream *stream;
    const brt_state_window *w;
    real *carried; /* the state, all of it */
    sizes s;
    brt_state_container container; /* as if these vectors were all */
    size_t row, first, count;
    size_t at; /* of the first vector, in all rows */
} slice;

static slice slice_at(const brt_stream *stream, size_t index, size_t number)
{
    slice part = {.stream = stream,
               .w = &stream->state[index],
               .carried = stream->carried[stream->model->slots.state + index],
               .s = sizes_of(stream, &stream->model->container[index]),
               .container = stream->model->container[index]};
    part.row = number / part.s.row_slices;
    part.first = number % part.s.row_slices * slice_vectors;
    part.count = brt_min_size(slice_vectors, part.s.vectors - part.first);
    part.at = part.row * part.s.vectors + part.first;
    brt_tensor **by_vector[] = {&part.container.ids, &part.container.forget_bias};
    for (size_t i = 0; i < 2; i++)
        if (*by_vector[i])
            *by_vector[i] = view(stream, (*by_vector[i])->data, part.first * part.s.dim,
                                 BRT_SHAPE(part.count, part.s.dim));
    return part;
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
    sizes s = sizes_of(stream, &stream->model->container[index]);
    for (size_t i = 0; i < s.slices; i++) {
        slice part = slice_at(stream, index, i);
        open_slice(&part);
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

/* Joins what the vectors of a slice heard from a chunk with what they heard from the chunks before. */
typedef struct joining {
    const brt_kernels *kernels;
    const slice *part;
    bool first;
    const real *out, *log_sum; /* of the chunk: [count, all heads, head], [key_heads, count, heads] */
    real *heard;               /* as out */
    real *log_sum_so_far;      /* as log_sum */
} joining;

/* Softmax over both sets of keys: each weighs as its sum. */
static void join_head(const joining *j, const real *out, real log_sum, real *heard, real *log_sum_so_far)
{
    size_t head = j->part->s.head;
    if (j->first) {
        memcpy(heard, out, head * sizeof *heard);
        *log_sum_so_far = log_sum;
        return;
    }
    float before = *log_sum_so_far, ratio = expf(-fabsf(before - log_sum)), larger = 1 / (1 + ratio);
    float share = log_sum > before ? larger : 1 - larger;
    j->kernels->scale_add(head, share, out, 1 - share, heard);
    *log_sum_so_far = fmaxf(before, log_sum) + log1pf(ratio);
}

static void join_task(void *context, size_t vector, int thread)
{
    const joining *j = context;
    const sizes *s = &j->part->s;
    (void)thread;
    for (size_t h = 0; h < s->key_heads * s->heads; h++) {
        size_t sum = (h / s->heads * j->part->count + vector) * s->heads + h % s->heads;
        size_t at = vector * s->inner + h * s->head;
        join_head(j, j->out + at, j->log_sum[sum], j->heard + at, &j->log_sum_so_far[sum]);
    }
}

/* The vectors attend to the keys [first, end) of the block, and of the memory if they hear it. */
static void hear_chunk(const slice *part, size_t first, size_t end)
{
    const brt_stream *stream = part->stream;
    const sizes *s = &part->s;
    size_t layer = part->container.write_layer, at = (part->row * s->width + first) * s->raw;
    brt_tensor *memory = view(stream, stream->carried[stream->model->slots.memory + layer], at,
                              BRT_SHAPE(1, end - first, s->raw));
    brt_tensor *block = view(stream, stream->window[layer].block, at, BRT_SHAPE(1, end - first, s->raw));
    brt_tensor *query = view(stream, part->w->query, part->at * s->inner,
                             BRT_SHAPE(s->key_heads, part->count, s->heads, s->head));
    brt_tensor *out = brt_tape_tensor(stream->tape, BRT_SHAPE(1, part->count, s->inner));
    brt_tensor *log_sum = brt_tape_tensor(stream->tape, BRT_SHAPE(s->key_heads, part->count, s->heads));
    brt_state_hear_chunk(stream->tape, &part->container, query, memory, block, out, log_sum);
    joining j = {.kernels = stream->model->kernels,
                 .part = part,
                 .first = first == 0 && brt_state_hears_apart(&part->container),
                 .out = out->data,
                 .log_sum = log_sum->data,
                 .heard = view_slice(part, part->w->heard, s->inner)->data,
                 .log_sum_so_far = view_slice(part, part->w->log_sum, s->key_heads * s->heads)->data};
    if (brt_tape_running(stream->tape))
        brt_parallel_for(brt_tape_threads(stream->tape), part->count, join_task, &j);
    brt_tape_rewind(stream->tape);
}

/* Keys up to the end of a chunk. */
static size_t chunk_end(const sizes *s, size_t chunk)
{
    return chunk + 1 < s->chunks ? brt_min_size((chunk + 1) * chunk_keys, before_last_chunk(s->width)) : s->width;
}

/* Slices that must have heard the state after so many tokens of the block: all before the one that completes the first
 * chunk. */
static size_t slices_due(const sizes *s, size_t filled)
{
    size_t spread = brt_max_size(1, chunk_end(s, 0) - 1);
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

static void close_slices(const brt_stream *stream, size_t index, size_t first, size_t end)
{
    for (size_t i = first; i < end; i++) {
        slice part = slice_at(stream, index, i);
        close_slice(&part);
    }
}

void brt_stream_write_state(brt_stream *stream, size_t index)
{
    brt_state_window *w = &stream->state[index];
    w->closed = brt_ceil_div(w->slices, 2);
    close_slices(stream, index, 0, w->closed);
}

static void finish_state(const brt_stream *stream, size_t index)
{
    brt_state_window *w = &stream->state[index];
    if (w->closed == 0)
        return;
    close_slices(stream, index, w->closed, w->slices);
    w->slices = w->chunks = w->closed = 0;
}

void brt_stream_finish_states(const brt_stream *stream)
{
    for (size_t i = 0; i < stream->model->containers; i++)
        finish_state(stream, i);
}

/* ---- opening and planning ---------------------------------------------------------------------------------------- */

static brt_status make_projections(brt_stream *stream, size_t index)
{
    const brt_state_container *container = &stream->model->container[index];
    for (size_t i = 0; i < container->projections; i++) {
        brt_matrix **matrix = &stream->state[index].token_projection[i];
        brt_tensor *weight = brt_state_token_projection(stream->tape, container, &container->projection[i]);
        BRT_TRY(brt_matrix_create(matrix, stream->model->kernels, weight->shape[0], weight->shape[1], weight->data));
        BRT_TRY(brt_matrix_enable(*matrix, false, false));
        brt_tape_rewind(stream->tape);
    }
    return BRT_OK;
}

brt_status brt_stream_make_projections(brt_stream *stream)
{
    for (size_t i = 0; i < stream->model->containers; i++)
        BRT_TRY(make_projections(stream, i));
    return BRT_OK;
}

void brt_stream_close_projections(brt_stream *stream)
{
    for (size_t i = 0; i < stream->model->containers && stream->state; i++)
        for (size_t j = 0; j < BRT_STATE_PROJECTIONS; j++)
            brt_matrix_close(stream->state[i].token_projection[j]);
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
    size_t last = brt_ceil_div(container->initial->shape[0], slice_vectors) - 1;
    for (size_t i = 0; i <= last; i += brt_max_size(1, last)) { /* the last one may be smaller */
        slice part = slice_at(stream, index, i);
        hear_itself(&part);
        hear_chunk(&part, 0, brt_min_size(chunk_keys, part.s.width));
        close_slice(&part);
    }
}
