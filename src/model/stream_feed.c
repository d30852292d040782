/* Feeding: tokens through the layers of one stream, or a token of each of several streams in one pass over the weights.
 * Products and norms are of all their rows, only attention knows what belongs to which stream. */
#include "stream_state.h"

#include "../base/size.h"

#include <string.h>

enum {
    logits_rows = 64,  /* positions whose logits are computed at a time: bounds memory for large vocabularies */
    most_together = 32, /* streams in one pass */
};

/* Streams of one model that are fed the same number of tokens. Several are fed one, and have one row each; the first
 * one's tape and x, which have room for a block, then serve all. */
typedef struct group {
    brt_stream *const *streams;
    size_t count, time;
} group;

static size_t rows_of(const group *g)
{
    return g->count == 1 ? g->streams[0]->rows : g->count;
}

/* Rows [first, first + rows) of x. */
static brt_tensor *view_x(const group *g, size_t first, size_t rows)
{
    brt_stream *stream = g->streams[0];
    size_t dim = (size_t)stream->model->config.dim;
    real *x = stream->x ? stream->x + first * g->time * dim : NULL;
    return brt_tape_external(stream->tape, x, NULL, BRT_SHAPE(rows, g->time, dim));
}

/* ---- a layer ----------------------------------------------------------------------------------------------- */

/* What a stream's part of the block sees in a layer whose input is x [rows, time, dim]. */
static brt_sight look(brt_stream *stream, size_t index, brt_tensor *x)
{
    const brt_model *model = stream->model;
    const brt_layer *layer = &model->layers[index];
    size_t first = model->first_reader[index], width = brt_stream_width(stream);
    for (size_t i = 0; i < layer->reads; i++)
        stream->state_keys[i] = brt_stream_state_keys(stream, (size_t)(model->readers[first + i] - model->container));
    const brt_recall *recall = brt_stream_recall(stream, index);
    if (layer->router && !recall)
        stream->chosen = brt_stream_choose(stream, layer->router, x);
    return (brt_sight){
        .rows = stream->rows,
        .keys = brt_stream_window_keys(stream, index),
        .bias = brt_stream_bias(stream, index),
        .first_key = stream->first_key,
        .first_query = brt_stream_memory_keys(stream) + stream->filled,
        .chosen = layer->router && !recall ? &stream->chosen : NULL,
        .chosen_first_key = stream->chosen_first_key,
        .recall = recall,
        .recall_scale = brt_stream_recall_scale(stream, index),
        .states = stream->state_keys,
        .containers = model->readers + first,
        .usage = brt_model_wants_usage(model) ? brt_tape_tensor(stream->tape, BRT_SHAPE(stream->rows, width)) : NULL,
        .first_used = brt_stream_memory_keys(stream) - width,
    };
}

static void run_layer(const group *g, size_t index)
{
    brt_stream *first = g->streams[0];
    const brt_layer *layer = &first->model->layers[index];
    brt_tensor *x = view_x(g, 0, rows_of(g));
    brt_projection projection = brt_layer_project(first->tape, layer, x, NULL);
    size_t raw = g->time * projection.raw_keys->shape[2]; /* of a row */
    brt_sight sights[most_together];
    for (size_t i = 0; i < g->count; i++) {
        if (brt_tape_running(first->tape))
            brt_stream_append_keys(g->streams[i], index, projection.raw_keys->data + i * raw, g->time);
        sights[i] = look(g->streams[i], index, view_x(g, i, g->streams[i]->rows));
    }
    brt_choice choice = brt_streams_choice(g->streams, g->count, layer);
    brt_tensor *y = brt_layer_attend(first->tape, layer, x, &projection, sights, g->count, &choice);
    for (size_t i = 0; i < g->count; i++)
        brt_stream_count_usage(g->streams[i], index, sights[i].usage);
    for (size_t i = 0; i < g->count && choice.scores && brt_tape_running(first->tape); i++)
        brt_stream_keep_scores(g->streams[i], layer, choice.scores->data + i * g->time, g->time);
    brt_stream_keep(first, y, first->x);
    for (size_t i = 1; i < g->count; i++)
        brt_tape_rewind(g->streams[i]->tape);
}

static brt_tensor *embed(const group *g)
{
    brt_stream *first = g->streams[0];
    const brt_model *model = first->model;
    for (size_t i = 0, row = 0; i < g->count && brt_tape_running(first->tape); i++)
        for (size_t j = 0; j < g->streams[i]->rows; j++)
            first->offset[row++] = (size_t)(g->streams[i]->position[j] % (uint64_t)model->config.max_seq_len);
    return brt_model_embed(first->tape, model, first->tokens, rows_of(g), g->time, first->offset);
}

/* The first stream's tokens [rows, time] through all layers: leaves the output in its x. */
static void run_part(const group *g)
{
    brt_stream *first = g->streams[0];
    const brt_model *model = first->model;
    brt_stream_keep(first, embed(g), first->x);
    for (size_t layer = 0; layer < model->depth; layer++)
        run_layer(g, layer);
}

/* ---- logits ------------------------------------------------------------------------------------------------ */

/* Of `count` positions from one on in x [rows * time, dim]. */
static brt_tensor *make_logits(brt_stream *stream, size_t position, size_t count)
{
    size_t dim = (size_t)stream->model->config.dim;
    real *x = stream->x ? stream->x + position * dim : NULL;
    return brt_model_logits(stream->tape, stream->model,
                            brt_tape_external(stream->tape, x, NULL, BRT_SHAPE(1, count, dim)), NULL);
}

static void write_logits(brt_stream *stream, size_t position, size_t count, real *out)
{
    size_t classes = (size_t)stream->model->config.num_tokens;
    for (size_t done = 0; done < count; done += logits_rows)
        brt_stream_keep(stream, make_logits(stream, position + done, brt_min_size(logits_rows, count - done)),
                        out + done * classes);
}

/* ---- planning ---------------------------------------------------------------------------------------------- */

static void plan_parts(brt_stream *stream, size_t most)
{
    for (size_t time = most; time > 0; time /= 2) {
        run_part(&(group){&stream, 1, time});
        make_logits(stream, 0, brt_min_size(time, logits_rows));
        brt_tape_rewind(stream->tape);
    }
}

static size_t most_streams(const brt_stream *stream)
{
    return brt_min_size(most_together, brt_stream_width(stream));
}

/* The stream is the first of many: as if every other was itself. */
static void plan_together(brt_stream *stream)
{
    group g = {&stream, most_streams(stream), 1};
    for (size_t index = 0; index < stream->model->depth; index++) {
        const brt_layer *layer = &stream->model->layers[index];
        brt_tensor *x = view_x(&g, 0, g.count);
        brt_projection projection = brt_layer_project(stream->tape, layer, x, NULL);
        brt_sight sights[most_together], own = look(stream, index, view_x(&g, 0, 1));
        for (size_t i = 0; i < g.count; i++)
            sights[i] = own;
        brt_choice choice = brt_streams_choice(g.streams, 1, layer);
        if (choice.price)
            choice.price = brt_tape_tensor(stream->tape, BRT_SHAPE(g.count, 1, BRT_PRICE_NUMBERS));
        brt_layer_attend(stream->tape, layer, x, &projection, sights, g.count, &choice);
        brt_tape_rewind(stream->tape);
    }
}

/* The most is asked by a whole block, and where routes have been made before. */
void brt_stream_plan_feeding(brt_stream *stream)
{
    plan_parts(stream, brt_stream_width(stream));
    stream->filled = 1;
    plan_parts(stream, brt_stream_part(stream, brt_stream_width(stream) - 1));
    stream->filled = 0;
    if (stream->rows == 1)
        plan_together(stream);
}

/* ---- before and after a part ------------------------------------------------------------------------------- */

/* Attention's form of keys and states, from their raw forms: after a block, a reset, a load. It is a part of the first
 * token's work, so that a block's last one has less. */
static void prepare(brt_stream *stream)
{
    brt_stream_finish_states(stream);
    for (size_t i = 0; i < stream->model->containers && stream->replaced; i++)
        brt_stream_open_state(stream, i);
    brt_stream_prepare_windows(stream);
    brt_stream_choose_again(stream);
    stream->stale = stream->replaced = false;
}

/* A full block: the states are written, the block becomes the memory (the same steps as in a training segment). */
static void commit_block(brt_stream *stream)
{
    for (size_t i = 0; i < stream->model->containers && !stream->no_states; i++)
        brt_stream_write_state(stream, i);
    for (size_t i = 0; stream->model->compressors && i < stream->model->depth; i++)
        brt_stream_compress_window(stream, i);
    for (size_t i = 0; i < stream->model->depth; i++)
        brt_stream_renew_price(stream, &stream->model->layers[i]);
    brt_stream_remember_block(stream);
    stream->filled = 0;
    stream->stale = true;
}

static void advance(brt_stream *stream, size_t time)
{
    stream->filled += time;
    for (size_t row = 0; row < stream->rows; row++)
        stream->position[row] += time;
    for (size_t i = 0; i < stream->model->containers && !stream->no_states; i++)
        brt_stream_advance_state(stream, i);
    if (stream->filled == brt_stream_width(stream))
        commit_block(stream);
}

/* ---- one stream -------------------------------------------------------------------------------------------- */

static void take_tokens(brt_stream *stream, const int32_t *tokens, size_t stride, size_t time)
{
    for (size_t row = 0; row < stream->rows; row++)
        memcpy(stream->tokens + row * time, tokens + row * stride, time * sizeof *tokens);
}

/* `every` tells whether logits, if wanted, are those of every token or of the last. */
static brt_status feed(brt_stream *stream, const int32_t *tokens, size_t time, real *logits, bool every)
{
    size_t classes = (size_t)stream->model->config.num_tokens;
    BRT_TRY(brt_tape_status(stream->tape));
    BRT_TRY(brt_model_check_tokens(stream->model, tokens, stream->rows * time));
    for (size_t done = 0, part; done < time; done += part) {
        if (stream->stale)
            prepare(stream);
        part = brt_stream_part(stream, brt_min_size(time - done, brt_stream_width(stream) - stream->filled));
        take_tokens(stream, tokens + done, time, part);
        run_part(&(group){&stream, 1, part});
        for (size_t row = 0; row < stream->rows && logits; row++)
            if (every)
                write_logits(stream, row * part, part, logits + (row * time + done) * classes);
            else if (done + part == time)
                write_logits(stream, row * part + part - 1, 1, logits + row * classes);
        advance(stream, part);
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

/* ---- several streams --------------------------------------------------------------------------------------- */

static brt_status check_streams(brt_stream *const *streams, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        BRT_TRY(brt_tape_status(streams[i]->tape));
        if (streams[i]->model != streams[0]->model)
            return BRT_FAIL(BRT_ERROR_ARGUMENT, "stream %zu is of another model than the first", i);
        if (streams[i]->rows != 1)
            return BRT_FAIL(BRT_ERROR_ARGUMENT, "stream %zu has %zu rows; streams that are fed together have one", i,
                            streams[i]->rows);
        for (size_t j = 0; j < i; j++)
            if (streams[i] == streams[j])
                return BRT_FAIL(BRT_ERROR_ARGUMENT, "stream %zu is stream %zu; each can be fed one token", i, j);
    }
    return BRT_OK;
}

static brt_status feed_together(const group *g, const int32_t *tokens, real *logits)
{
    brt_stream *first = g->streams[0];
    for (size_t i = 0; i < g->count; i++)
        if (g->streams[i]->stale)
            prepare(g->streams[i]);
    memcpy(first->tokens, tokens, g->count * sizeof *tokens);
    run_part(g);
    if (logits)
        write_logits(first, 0, g->count, logits);
    for (size_t i = 0; i < g->count; i++)
        advance(g->streams[i], 1);
    for (size_t i = 0; i < g->count; i++)
        BRT_TRY(brt_tape_status(g->streams[i]->tape));
    return BRT_OK;
}

brt_status brt_streams_feed(brt_stream *const *streams, size_t count, const int32_t *tokens, float *logits)
{
    BRT_TRY(check_streams(streams, count));
    if (count > 0)
        BRT_TRY(brt_model_check_tokens(streams[0]->model, tokens, count));
    for (size_t done = 0; done < count;) {
        size_t classes = (size_t)streams[0]->model->config.num_tokens;
        group g = {streams + done, brt_min_size(most_streams(streams[0]), count - done), 1};
        BRT_TRY(feed_together(&g, tokens + done, logits ? logits + done * classes : NULL));
        done += g.count;
    }
    return BRT_OK;
}
