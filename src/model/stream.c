#include "stream_state.h"

#include "../base/memory.h"
#include "../base/parallel.h"
#include "../base/size.h"
#include "../tensor/bulk.h"

#include <stdlib.h>
#include <string.h>

static size_t model_dim(const brt_stream *stream)
{
    return (size_t)stream->model->config.dim;
}

static size_t vectors(const brt_stream *stream)
{
    return (size_t)stream->model->config.num_state_vectors;
}

/* ---- making: one allocation for everything that is carried ------------------------------------------------ */

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
    size_t rows = s->rows, routes = (size_t)config->routes, head = brt_stream_dim_head(s);
    s->begin = place(p, rows, 1, 1, sizeof *s->begin);
    s->recall_scale = place(p, head, 1, 1, sizeof *s->recall_scale);
    if (s->model->routed == 0)
        return;
    s->draw = place(p, rows, 1, 1, sizeof *s->draw);
    s->chosen_first_key = place(p, rows, brt_router_parts(s->model->routers, brt_stream_width(s)), 1, sizeof(size_t));
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
    const brt_config *config = &s->model->config;
    size_t rows = s->rows, width = brt_stream_width(s), head = brt_stream_dim_head(s);
    size_t keys = brt_stream_memory_keys(s) + width, key_rows = rows * brt_stream_key_heads(s);
    size_t heads = (size_t)config->heads, raw = brt_carried_raw_width(config);
    s->position = place(p, rows, 1, 1, sizeof *s->position);
    s->past = place(p, rows, 1, 1, sizeof *s->past);
    s->first_key = place(p, rows, 1, 1, sizeof *s->first_key);
    s->x = place(p, rows, width, model_dim(s), sizeof *s->x);
    s->tokens = place(p, rows, width, 1, sizeof *s->tokens);
    s->offset = place(p, rows, width, 1, sizeof *s->offset);
    for (size_t i = 0; i < s->model->slots.count; i++)
        s->carried[i] = place(p, rows, s->model->slots.items[i].vectors, s->model->slots.items[i].width, sizeof(real));
    for (size_t i = 0; i < s->model->depth; i++) {
        s->window[i].block = place(p, rows, width, raw, sizeof(real));
        s->window[i].key = place(p, key_rows, keys, head, sizeof(real));
        s->window[i].value = place(p, key_rows, keys, head, sizeof(real));
        s->window[i].bias = place(p, brt_positions_have_bias(&s->model->positions) ? heads : 0, keys, 1, sizeof(real));
        s->window[i].usage = place(p, brt_model_wants_usage(s->model) ? rows : 0, width, 1, sizeof(real));
    }
    for (size_t i = 0; i < s->model->containers; i++) {
        brt_state_window *state = &s->state[i];
        state->key = place(p, key_rows, vectors(s), head, sizeof(real));
        state->value = place(p, key_rows, vectors(s), head, sizeof(real));
        state->own_key = place(p, key_rows, vectors(s), head, sizeof(real));
        state->own_value = place(p, key_rows, vectors(s), head, sizeof(real));
        state->query = place(p, rows * heads, vectors(s), head, sizeof(real));
        state->heard = place(p, rows * heads, vectors(s), head, sizeof(real));
        state->log_sum = place(p, rows * heads, vectors(s), 1, sizeof(real));
        const brt_state_container *container = &s->model->container[i];
        for (size_t j = 0; j < container->projections; j++)
            state->projected[j] =
                place(p, rows, vectors(s), brt_state_projected_width(&container->projection[j]), sizeof(real));
    }
    for (size_t i = 0; i < config->conditional_ff_layers.count; i++)
        s->scores[i] = place(p, rows, width, 1, sizeof(real));
    place_routed(s, p);
}

static brt_status allocate(brt_stream *stream)
{
    placement count = {0};
    place_arrays(stream, &count);
    if (count.overflow)
        return BRT_FAIL(BRT_ERROR_ARGUMENT, "a stream of %zu rows is larger than a machine can address", stream->rows);
    BRT_TRY(brt_memory_check(count.used + brt_tape_bytes(stream->tape) + brt_stream_projections_bytes(stream) +
                                 brt_parameters_enabling_bytes(&stream->model->parameters, false, false),
                             "a stream's memory"));
    stream->memory_bytes = count.used;
    if (stream->memory_bytes) {
        stream->memory = aligned_alloc(64, stream->memory_bytes);
        if (!stream->memory)
            return BRT_FAIL(BRT_ERROR_MEMORY, "out of memory for a stream of %zu bytes", stream->memory_bytes);
        memset(stream->memory, 0, stream->memory_bytes);
    }
    placement real_one = {.base = stream->memory};
    place_arrays(stream, &real_one);
    return brt_stream_create_memories(stream);
}

/* Everything a stream may ask of the tape, without memory. */
static brt_status plan(brt_stream *stream)
{
    brt_stream_make_biases(stream);
    brt_stream_plan_feeding(stream);
    for (size_t i = 0; i < stream->model->containers; i++)
        brt_stream_plan_state(stream, i);
    for (size_t i = 0; stream->model->compressors && i < stream->model->depth; i++)
        brt_stream_compress_window(stream, i);
    for (size_t i = 0; i < stream->model->depth; i++)
        brt_stream_renew_price(stream, &stream->model->layers[i]);
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
    BRT_TRY(brt_stream_choose_memories(stream, options));
    stream->window = calloc(model->depth, sizeof *stream->window);
    stream->carried = calloc(model->slots.count, sizeof *stream->carried);
    stream->state = calloc(model->containers + 1, sizeof *stream->state);
    stream->state_keys = calloc(model->containers + 1, sizeof *stream->state_keys);
    stream->routed = calloc(model->routed + 1, sizeof *stream->routed);
    stream->scores = calloc(model->config.conditional_ff_layers.count + 1, sizeof *stream->scores);
    if (!stream->window || !stream->carried || !stream->state || !stream->state_keys || !stream->routed ||
        !stream->scores)
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
        *bytes = count.used + brt_tape_bytes(stream->tape) + brt_stream_projections_bytes(stream) +
                 brt_stream_memories_bytes(stream);
    }
    brt_stream_close(stream);
    return status;
}

brt_stream_options brt_stream_options_init(void)
{
    return (brt_stream_options){.size = sizeof(brt_stream_options), .rows = 1, .recall_capacity = 250000};
}

brt_status brt_stream_open(brt_stream **out, const brt_model *model, const brt_stream_options *options)
{
    brt_stream *stream = NULL;
    brt_status status = create(&stream, model, options);
    if (status == BRT_OK)
        status = allocate(stream);
    if (status == BRT_OK)
        status = brt_parameters_enable(&model->parameters, false, false);
    if (status == BRT_OK)
        status = brt_tape_commit(stream->tape);
    if (status == BRT_OK)
        status = brt_stream_make_projections(stream);
    if (status == BRT_OK) {
        brt_stream_make_biases(stream);
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
    brt_stream_close_memories(stream);
    brt_stream_close_projections(stream);
    free(stream->routed);
    free(stream->scores);
    free(stream->window);
    free(stream->carried);
    free(stream->state);
    free(stream->state_keys);
    free(stream->memory);
    free(stream);
}

void brt_stream_keep(const brt_stream *stream, const brt_tensor *result, real *to)
{
    if (brt_tape_running(stream->tape))
        brt_bulk_copy(brt_tape_threads(stream->tape), result->count, result->data, to);
    brt_tape_rewind(stream->tape);
}

/* ---- resets and looking inside ------------------------------------------------------------------------------ */

static void reset_row(brt_stream *stream, size_t row)
{
    stream->position[row] = stream->past[row] = 0;
    for (size_t i = 0; i < stream->model->slots.count; i++)
        brt_slot_start(&stream->model->slots.items[i], stream->carried[i], row);
}

brt_status brt_stream_reset(brt_stream *stream, int64_t row)
{
    if (row >= 0 && (size_t)row >= stream->rows)
        return BRT_FAIL(BRT_ERROR_ARGUMENT, "there is no row %lld to reset: the stream has %zu", (long long)row,
                        stream->rows);
    if (row >= 0 && stream->filled && stream->rows > 1)
        return BRT_FAIL(BRT_ERROR_ARGUMENT,
                        "row %lld cannot be reset inside a block: %zu of %zu tokens are waiting in every row",
                        (long long)row, stream->filled, brt_stream_width(stream));
    brt_stream_finish_states(stream);
    for (size_t i = 0; i < stream->rows; i++)
        if (row < 0 || i == (size_t)row)
            reset_row(stream, i);
    if (row < 0 || stream->rows == 1)
        stream->filled = 0;
    brt_stream_forget_part(stream);
    stream->stale = stream->replaced = true;
    return BRT_OK;
}

brt_status brt_stream_drop_partial_block(brt_stream *stream)
{
    for (size_t row = 0; row < stream->rows; row++)
        stream->position[row] -= stream->filled;
    stream->filled = 0;
    brt_stream_forget_part(stream);
    stream->stale = stream->replaced = true;
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
    brt_stream_finish_states(stream);
    memcpy(out, stream->carried[stream->model->slots.state + index],
           stream->rows * vectors(stream) * model_dim(stream) * sizeof *out);
    return BRT_OK;
}
