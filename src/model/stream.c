#include "stream_state.h"

#include "../base/memory.h"
#include "../base/parallel.h"
#include "../base/size.h"

#include <stdlib.h>
#include <string.h>

enum { logits_rows = 64 }; /* positions whose logits are computed at a time: bounds memory for large vocabularies */

static size_t block_width(const brt_stream *stream)
{
    return (size_t)stream->model->config.block_width;
}

static size_t model_dim(const brt_stream *stream)
{
    return (size_t)stream->model->config.dim;
}

static size_t dim_head(const brt_stream *stream)
{
    return (size_t)stream->model->config.dim_head;
}

static size_t vectors(const brt_stream *stream)
{
    return (size_t)stream->model->config.num_state_vectors;
}

static size_t key_heads(const brt_stream *stream)
{
    return (size_t)stream->model->config.kv_heads;
}

/* Keys before the current block's own. */
static size_t memory_keys(const brt_stream *stream)
{
    return brt_carried_keys(&stream->model->config);
}

static real *carried_state(const brt_stream *stream, size_t index)
{
    return stream->carried[stream->model->slots.state + index];
}

/* ---- making: one allocation for everything that is carried ------------------------------------------------ */

static bool has_bias(const brt_stream *stream)
{
    return brt_positions_have_bias(&stream->model->positions);
}

typedef struct placement {
    unsigned char *base; /* NULL: only count */
    size_t used;
    bool overflow;
} placement;

static void *place(placement *p, size_t a, size_t b, size_t c, size_t item)
{
    size_t bytes = item;
    if (!brt_mul_ok(bytes, a, &bytes) || !brt_mul_ok(bytes, b, &bytes) || !brt_mul_ok(bytes, c, &bytes) ||
        bytes > SIZE_MAX / 4 - p->used) {
        p->overflow = true;
        return NULL;
    }
    void *at = p->base ? p->base + p->used : NULL;
    p->used += brt_ceil_div(bytes, 64) * 64;
    return at;
}

static void place_routed(brt_stream *s, placement *p)
{
    const brt_config *config = &s->model->config;
    size_t rows = s->rows, routes = (size_t)config->routes, head = dim_head(s);
    if (s->model->routed == 0)
        return;
    s->begin = place(p, rows, 1, 1, sizeof *s->begin);
    s->draw = place(p, rows, 1, 1, sizeof *s->draw);
    s->chosen_first_key = place(p, rows, brt_router_parts(s->model->routers, block_width(s)), 1, sizeof(size_t));
    for (size_t i = 0; i < s->model->routed; i++) {
        brt_routed_window *window = &s->routed[i];
        window->routes = place(p, rows, routes, head, sizeof(real));
        window->key = place(p, rows * routes, (size_t)config->routed_tokens + 1, head, sizeof(real));
        window->value = place(p, rows * routes, (size_t)config->routed_tokens + 1, head, sizeof(real));
        window->input = place(p, rows, model_dim(s), 1, sizeof(real));
    }
}

static void place_arrays(brt_stream *s, placement *p)
{
    size_t rows = s->rows, width = block_width(s), head = dim_head(s), raw = brt_carried_raw_width(&s->model->config);
    size_t key_rows = rows * key_heads(s), heads = (size_t)s->model->config.heads;
    s->position = place(p, rows, 1, 1, sizeof *s->position);
    s->past = place(p, rows, 1, 1, sizeof *s->past);
    s->first_key = place(p, rows, 1, 1, sizeof *s->first_key);
    s->x = place(p, rows, width, model_dim(s), sizeof *s->x);
    s->tokens = place(p, rows, width, 1, sizeof *s->tokens);
    for (size_t i = 0; i < s->model->slots.count; i++)
        s->carried[i] = place(p, rows, s->model->slots.items[i].vectors, s->model->slots.items[i].width, sizeof(real));
    for (size_t i = 0; i < s->model->depth; i++) {
        s->window[i].block = place(p, rows, width, raw, sizeof(real));
        s->window[i].key = place(p, key_rows, memory_keys(s) + width, head, sizeof(real));
        s->window[i].value = place(p, key_rows, memory_keys(s) + width, head, sizeof(real));
        s->window[i].bias = place(p, has_bias(s) ? heads : 0, memory_keys(s) + width, 1, sizeof(real));
        s->window[i].usage = place(p, brt_model_wants_usage(s->model) ? rows : 0, width, 1, sizeof(real));
    }
    for (size_t i = 0; i < s->model->containers; i++) {
        brt_state_window *state = &s->state[i];
        state->key = place(p, key_rows, vectors(s), head, sizeof(real));
        state->value = place(p, key_rows, vectors(s), head, sizeof(real));
        state->own_key = place(p, key_rows, vectors(s), head, sizeof(real));
        state->own_value = place(p, key_rows, vectors(s), head, sizeof(real));
        state->query = place(p, rows * heads, vectors(s), head, sizeof(real));
        state->heard = place(p, rows * heads, vectors(s), 2 * head, sizeof(real));
        state->log_sum = place(p, rows * heads, vectors(s), 1, sizeof(real));
    }
    place_routed(s, p);
}

static brt_status allocate(brt_stream *stream)
{
    placement count = {0};
    place_arrays(stream, &count);
    if (count.overflow)
        return BRT_FAIL(BRT_ERROR_ARGUMENT, "a stream of %zu rows is larger than a machine can address", stream->rows);
    BRT_TRY(brt_memory_check(count.used + brt_tape_bytes(stream->tape), "a stream's memory"));
    stream->memory_bytes = count.used;
    if (stream->memory_bytes) {
        stream->memory = aligned_alloc(64, stream->memory_bytes);
        if (!stream->memory)
            return BRT_FAIL(BRT_ERROR_MEMORY, "out of memory for a stream of %zu bytes", stream->memory_bytes);
        memset(stream->memory, 0, stream->memory_bytes);
    }
    placement real_one = {.base = stream->memory};
    place_arrays(stream, &real_one);
    return brt_routed_rings_create(&stream->rings, &stream->model->config, stream->rows, 0);
}

static void run_part(brt_stream *stream, size_t time);
static void compress_window(brt_stream *stream, size_t layer);
static brt_tensor *part_logits(brt_stream *stream, size_t row, size_t first, size_t count, size_t time);

/* Biases by distance do not change while the stream is open. */
static void prepare_biases(brt_stream *stream)
{
    for (size_t layer = 0; layer < stream->model->depth && has_bias(stream); layer++)
        brt_stream_keep(stream, brt_positions_bias(stream->tape, &stream->model->positions, layer),
                        stream->window[layer].bias);
}

static void plan_parts(brt_stream *stream, size_t most)
{
    for (size_t time = most; time > 0; time /= 2) {
        run_part(stream, time);
        part_logits(stream, 0, 0, brt_min_size(time, logits_rows), time);
        brt_tape_rewind(stream->tape);
    }
}

/* Everything a feed may ask of the tape, without memory: the most is asked by a whole block, and where routes have been
 * made before. */
static brt_status plan(brt_stream *stream)
{
    prepare_biases(stream);
    plan_parts(stream, block_width(stream));
    stream->filled = 1;
    plan_parts(stream, brt_stream_part(stream, block_width(stream) - 1));
    stream->filled = 0;
    for (size_t i = 0; i < stream->model->containers; i++)
        brt_stream_plan_state(stream, i);
    for (size_t i = 0; stream->model->compressors && i < stream->model->depth; i++)
        compress_window(stream, i);
    return brt_tape_status(stream->tape);
}

static brt_status create(brt_stream **out, const brt_model *model, const brt_stream_options *options)
{
    if (options->size != sizeof *options)
        return BRT_FAIL(BRT_ERROR_ARGUMENT, "stream options must be made with brt_stream_options_init");
    if (options->rows < 1 || options->rows > INT32_MAX)
        return BRT_FAIL(BRT_ERROR_ARGUMENT, "\"rows\" is %zu; a stream has at least one row", options->rows);
    brt_stream *stream = calloc(1, sizeof *stream);
    if (!stream)
        return BRT_FAIL(BRT_ERROR_MEMORY, "out of memory for a stream");
    *out = stream;
    stream->model = model;
    stream->rows = options->rows;
    stream->no_states = options->no_states;
    stream->no_memories = options->no_memories;
    stream->window = calloc(model->depth, sizeof *stream->window);
    stream->carried = calloc(model->slots.count, sizeof *stream->carried);
    stream->state = calloc(model->containers + 1, sizeof *stream->state);
    stream->routed = calloc(model->routed + 1, sizeof *stream->routed);
    if (!stream->window || !stream->carried || !stream->state || !stream->routed)
        return BRT_FAIL(BRT_ERROR_MEMORY, "out of memory for a stream");
    int threads;
    BRT_TRY(brt_count_threads(options->threads, &threads));
    BRT_TRY(brt_tape_create(&stream->tape, model->kernels, threads));
    return plan(stream);
}

brt_status brt_stream_measure(const brt_model *model, const brt_stream_options *options, uint64_t *bytes)
{
    brt_stream *stream = NULL;
    brt_status status = create(&stream, model, options);
    if (status == BRT_OK) {
        placement count = {0};
        place_arrays(stream, &count);
        *bytes = count.used + brt_tape_bytes(stream->tape) +
                 brt_routed_rings_bytes(&model->config, stream->rows, 0);
    }
    brt_stream_close(stream);
    return status;
}

brt_stream_options brt_stream_options_init(void)
{
    return (brt_stream_options){.size = sizeof(brt_stream_options), .rows = 1};
}

brt_status brt_stream_open(brt_stream **out, const brt_model *model, const brt_stream_options *options)
{
    brt_stream *stream = NULL;
    brt_status status = create(&stream, model, options);
    if (status == BRT_OK)
        status = allocate(stream);
    if (status == BRT_OK)
        status = brt_tape_commit(stream->tape);
    if (status == BRT_OK) {
        prepare_biases(stream);
        status = brt_stream_reset(stream, -1);
    }
    if (status != BRT_OK) {
        brt_stream_close(stream);
        return status;
    }
    *out = stream;
    return BRT_OK;
}

void brt_stream_close(brt_stream *stream)
{
    if (!stream)
        return;
    brt_tape_close(stream->tape);
    brt_routed_rings_close(stream->rings, &stream->model->config);
    free(stream->routed);
    free(stream->window);
    free(stream->carried);
    free(stream->state);
    free(stream->memory);
    free(stream);
}

/* ---- tensors over what is carried ------------------------------------------------------------------------- */

static brt_tensor *x_tensor(brt_stream *stream, size_t time)
{
    return brt_tape_external(stream->tape, stream->x, NULL, BRT_SHAPE(stream->rows, time, model_dim(stream)));
}

static brt_tensor *window_bias(brt_stream *stream, size_t layer)
{
    return brt_tape_external(stream->tape, stream->window[layer].bias, NULL,
                             BRT_SHAPE((size_t)stream->model->config.heads, memory_keys(stream) + block_width(stream)));
}

void brt_stream_keep(brt_stream *stream, const brt_tensor *result, real *to)
{
    if (brt_tape_running(stream->tape))
        memcpy(to, result->data, result->count * sizeof(real));
    brt_tape_rewind(stream->tape);
}

/* ---- the window ------------------------------------------------------------------------------------------- */

/* Turns raw rows [count, keys | values] of one batch row into attention's keys and values at positions
 * position, position + 1, ... */
static void prepare_keys(const brt_stream *stream, size_t layer, size_t row, const real *raw, size_t position,
                         size_t count)
{
    const brt_window *window = &stream->window[layer];
    const brt_layer *l = &stream->model->layers[layer];
    const brt_kernels *kernels = stream->model->kernels;
    const brt_rotation *rotation = brt_positions_rotation(l->positions);
    size_t head = dim_head(stream), heads = key_heads(stream);
    for (size_t h = 0; h < heads; h++) {
        size_t first = (row * heads + h) * (memory_keys(stream) + block_width(stream)) + position;
        for (size_t i = 0; i < count; i++) {
            size_t at = (position + i) * head;
            const real *key = raw + (i * 2 * heads + h) * head;
            kernels->rotary_forward(1, head, key, head, l->k_scale ? l->k_scale->data : NULL,
                                    rotation ? rotation->key_cosine + at : NULL,
                                    rotation ? rotation->key_sine + at : NULL, window->key + (first + i) * head, head);
            memcpy(window->value + (first + i) * head, key + heads * head, head * sizeof(real));
        }
    }
}

/* Appends a part's raw keys [rows, time, keys | values] to the current block. */
static void append_keys(brt_stream *stream, size_t layer, const brt_tensor *raw_keys, size_t time)
{
    size_t width = block_width(stream), row_width = brt_carried_raw_width(&stream->model->config);
    for (size_t row = 0; row < stream->rows; row++) {
        const real *raw = raw_keys->data + row * time * row_width;
        memcpy(stream->window[layer].block + (row * width + stream->filled) * row_width, raw,
               time * row_width * sizeof(real));
        prepare_keys(stream, layer, row, raw, memory_keys(stream) + stream->filled, time);
    }
}

/* ---- feeding ---------------------------------------------------------------------------------------------- */

/* Adds what a part's queries used of the memory to what the block's earlier ones did. */
static void count_usage(brt_stream *stream, size_t layer, const brt_tensor *usage)
{
    if (!usage || !brt_tape_running(stream->tape))
        return;
    if (stream->filled == 0)
        memcpy(stream->window[layer].usage, usage->data, usage->count * sizeof(real));
    else
        stream->model->kernels->add(usage->count, usage->data, stream->window[layer].usage);
}

static void run_layer(brt_stream *stream, size_t index, size_t time)
{
    const brt_model *model = stream->model;
    const brt_layer *layer = &model->layers[index];
    const brt_window *window = &stream->window[index];
    size_t width = block_width(stream), memory = memory_keys(stream), keys = memory + width, head = dim_head(stream);
    size_t first = model->first_reader[index], key_rows = stream->rows * key_heads(stream);
    brt_keys states[BRT_MAX_DEPTH];
    brt_tensor *x = x_tensor(stream, time);
    brt_projection projection = brt_layer_project(stream->tape, layer, x);
    if (brt_tape_running(stream->tape))
        append_keys(stream, index, projection.raw_keys, time);
    for (size_t i = 0; i < layer->reads; i++)
        states[i] = brt_stream_state_keys(stream, (size_t)(model->readers[first + i] - model->container));
    brt_routed chosen;
    if (layer->router)
        chosen = brt_stream_choose(stream, layer->router, x);
    brt_sight sight = {
        .keys = {brt_tape_external(stream->tape, window->key, NULL, BRT_SHAPE(key_rows, keys, head)),
                 brt_tape_external(stream->tape, window->value, NULL, BRT_SHAPE(key_rows, keys, head))},
        .bias = has_bias(stream) ? window_bias(stream, index) : NULL,
        .first_key = stream->first_key,
        .first_query = memory + stream->filled,
        .chosen = layer->router ? &chosen : NULL,
        .chosen_first_key = stream->chosen_first_key,
        .states = states,
        .containers = model->readers + first,
        .usage = brt_model_wants_usage(model) ? brt_tape_tensor(stream->tape, BRT_SHAPE(stream->rows, width)) : NULL,
        .first_used = memory - width,
    };
    brt_tensor *y = brt_layer_attend(stream->tape, layer, x, &projection, &sight);
    count_usage(stream, index, sight.usage);
    brt_stream_keep(stream, y, stream->x);
}

/* The tokens in stream->tokens, [rows, time], through all layers: leaves the output in stream->x. */
static void run_part(brt_stream *stream, size_t time)
{
    const brt_model *model = stream->model;
    brt_stream_keep(stream, brt_op_embedding(stream->tape, &model->embedding, stream->tokens, stream->rows, time), stream->x);
    for (size_t layer = 0; layer < model->depth; layer++)
        run_layer(stream, layer, time);
}

/* Logits of positions [first, first + count) of one row of stream->x, [rows, time, dim]. */
static brt_tensor *part_logits(brt_stream *stream, size_t row, size_t first, size_t count, size_t time)
{
    size_t dim = model_dim(stream);
    real *x = stream->x ? stream->x + (row * time + first) * dim : NULL;
    return brt_model_logits(stream->tape, stream->model,
                            brt_tape_external(stream->tape, x, NULL, BRT_SHAPE(1, count, dim)));
}

/* Writes the logits of positions [first, time) of every row to out + row * row_stride. */
static void write_logits(brt_stream *stream, size_t first, size_t time, real *out, size_t row_stride)
{
    size_t classes = (size_t)stream->model->config.num_tokens;
    for (size_t row = 0; row < stream->rows; row++)
        for (size_t done = first; done < time; done += logits_rows) {
            size_t count = brt_min_size(logits_rows, time - done);
            brt_stream_keep(stream, part_logits(stream, row, done, count, time),
                 out + row * row_stride + (done - first) * classes);
        }
}

/* A layer's window from its raw keys: compressed memory, memory, then what is filled of the block. */
static void prepare_window(const brt_stream *stream, size_t layer, size_t row)
{
    const brt_slots *slots = &stream->model->slots;
    size_t width = block_width(stream), raw = brt_carried_raw_width(&stream->model->config);
    size_t room = brt_carried_compressed(&stream->model->config);
    if (room)
        prepare_keys(stream, layer, row, stream->carried[slots->compressed + layer] + row * room * raw, 0, room);
    prepare_keys(stream, layer, row, stream->carried[slots->memory + layer] + row * width * raw, room, width);
    prepare_keys(stream, layer, row, stream->window[layer].block + row * width * raw, memory_keys(stream),
                 stream->filled);
}

static void prepare_task(void *context, size_t task, int thread)
{
    const brt_stream *stream = context;
    (void)thread;
    prepare_window(stream, task % stream->model->depth, task / stream->model->depth);
}

/* Attention's form of the window's keys and of the states, from their raw forms: after a block, a reset, a load. A part
 * of the first token's work, so that a block's last one has less. */
static void prepare(brt_stream *stream)
{
    for (size_t i = 0; i < stream->model->containers; i++)
        brt_stream_open_state(stream, i);
    for (size_t row = 0; row < stream->rows; row++)
        stream->first_key[row] = brt_carried_first_key(&stream->model->config, stream->past[row]);
    brt_parallel_for(brt_tape_threads(stream->tape), stream->rows * stream->model->depth, prepare_task, stream);
    brt_stream_choose_again(stream);
    stream->stale = false;
}

/* The window goes on as entries of the compressed memory (the same steps as in a training block). */
static void compress_window(brt_stream *stream, size_t layer)
{
    const brt_model *model = stream->model;
    size_t rows = stream->rows, width = block_width(stream), raw = brt_carried_raw_width(&model->config);
    size_t room = brt_carried_compressed(&model->config);
    real *carried = stream->carried[model->slots.compressed + layer];
    brt_tensor *window = brt_tape_external(stream->tape, stream->carried[model->slots.memory + layer], NULL,
                                           BRT_SHAPE(rows, width, raw));
    brt_tensor *queue = brt_tape_external(stream->tape, carried, NULL, BRT_SHAPE(rows, room, raw));
    brt_tensor *usage = brt_tape_external(stream->tape, stream->window[layer].usage, NULL, BRT_SHAPE(rows, width));
    brt_tensor *entries = brt_compress(stream->tape, &model->compressors[layer], window, usage);
    brt_stream_keep(stream, brt_op_push(stream->tape, queue, entries), carried);
}

static void remember_block(brt_stream *stream)
{
    brt_stream_remember(stream);
    for (size_t i = 0; i < stream->model->depth; i++) {
        real **memory = &stream->carried[stream->model->slots.memory + i], *before = *memory;
        *memory = stream->window[i].block;
        stream->window[i].block = before;
    }
    for (size_t row = 0; row < stream->rows && !stream->no_memories; row++)
        stream->past[row]++;
}

/* The parts of the states' writes that are due. */
static void advance_states(brt_stream *stream)
{
    for (size_t i = 0; i < stream->model->containers && !stream->no_states; i++)
        brt_stream_advance_state(stream, i);
}

/* A full block: the states are written, the block becomes the memory (the same steps as in a training segment). */
static void commit_block(brt_stream *stream)
{
    for (size_t i = 0; i < stream->model->containers && !stream->no_states; i++)
        brt_stream_write_state(stream, i);
    for (size_t i = 0; stream->model->compressors && i < stream->model->depth; i++)
        compress_window(stream, i);
    remember_block(stream);
    stream->filled = 0;
    stream->stale = true;
}

static void take_tokens(brt_stream *stream, const int32_t *tokens, size_t stride, size_t time)
{
    for (size_t row = 0; row < stream->rows; row++) {
        memcpy(stream->tokens + row * time, tokens + row * stride, time * sizeof *tokens);
        stream->position[row] += time;
    }
}

/* `every` tells whether logits, if wanted, are those of every token or of the last. */
static brt_status feed(brt_stream *stream, const int32_t *tokens, size_t time, real *logits, bool every)
{
    size_t classes = (size_t)stream->model->config.num_tokens;
    BRT_TRY(brt_tape_status(stream->tape));
    BRT_TRY(brt_model_check_tokens(stream->model, tokens, stream->rows * time));
    for (size_t done = 0; done < time;) {
        if (stream->stale)
            prepare(stream);
        size_t part = brt_stream_part(stream, brt_min_size(time - done, block_width(stream) - stream->filled));
        take_tokens(stream, tokens + done, time, part);
        run_part(stream, part);
        if (logits && every)
            write_logits(stream, 0, part, logits + done * classes, time * classes);
        else if (logits && done + part == time)
            write_logits(stream, part - 1, part, logits, classes);
        stream->filled += part;
        done += part;
        advance_states(stream);
        if (stream->filled == block_width(stream))
            commit_block(stream);
    }
    return brt_tape_status(stream->tape);
}

brt_status brt_stream_feed(brt_stream *stream, const int32_t *tokens, size_t time, float *logits)
{
    return feed(stream, tokens, time, logits, true);
}

brt_status brt_stream_feed_last(brt_stream *stream, const int32_t *tokens, size_t time, float *logits)
{
    return feed(stream, tokens, time, logits, false);
}

/* ---- resets and looking inside ------------------------------------------------------------------------------ */

static void reset_row(brt_stream *stream, size_t row)
{
    stream->position[row] = stream->past[row] = 0;
    for (size_t i = 0; i < stream->model->slots.count; i++) {
        const brt_slot *slot = &stream->model->slots.items[i];
        size_t count = brt_slot_row(slot);
        if (slot->initial)
            memcpy(stream->carried[i] + row * count, slot->initial->data, count * sizeof(real));
        else
            memset(stream->carried[i] + row * count, 0, count * sizeof(real));
    }
}

brt_status brt_stream_reset(brt_stream *stream, int64_t row)
{
    if (row >= 0 && (size_t)row >= stream->rows)
        return BRT_FAIL(BRT_ERROR_ARGUMENT, "there is no row %lld to reset: the stream has %zu", (long long)row,
                        stream->rows);
    if (row >= 0 && stream->filled && stream->rows > 1)
        return BRT_FAIL(BRT_ERROR_ARGUMENT,
                        "row %lld cannot be reset inside a block: %zu of %zu tokens are waiting in every row",
                        (long long)row, stream->filled, block_width(stream));
    for (size_t i = 0; i < stream->rows; i++)
        if (row < 0 || i == (size_t)row)
            reset_row(stream, i);
    if (row < 0 || stream->rows == 1)
        stream->filled = 0;
    brt_stream_forget_part(stream);
    stream->stale = true;
    return BRT_OK;
}

brt_status brt_stream_drop_partial_block(brt_stream *stream)
{
    for (size_t row = 0; row < stream->rows; row++)
        stream->position[row] -= stream->filled;
    stream->filled = 0;
    brt_stream_forget_part(stream);
    stream->stale = true;
    return BRT_OK;
}

uint64_t brt_stream_position(const brt_stream *stream, size_t row)
{
    return row < stream->rows ? stream->position[row] : 0;
}

size_t brt_stream_memory_length(const brt_stream *stream)
{
    return brt_model_memory_length(stream->model, stream->past, stream->rows);
}

brt_status brt_stream_memories(const brt_stream *stream, size_t layer, float *out)
{
    return brt_model_copy_memories(stream->model, stream->carried, stream->rows, layer,
                                   brt_stream_memory_length(stream), out);
}

brt_status brt_stream_states(const brt_stream *stream, size_t index, float *out)
{
    BRT_TRY(brt_model_check_state(stream->model, index));
    memcpy(out, carried_state(stream, index), stream->rows * vectors(stream) * model_dim(stream) * sizeof *out);
    return BRT_OK;
}
