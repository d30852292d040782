/* A stream's windows: the keys and values of memories and of the current block, layer by layer. */
#include "stream_state.h"

#include "../base/parallel.h"

#include <string.h>

/* ---- biases ------------------------------------------------------------------------------------------------ */

void brt_stream_make_biases(brt_stream *stream)
{
    const brt_positions *positions = &stream->model->positions;
    for (size_t layer = 0; layer < stream->model->depth && brt_positions_have_bias(positions); layer++)
        brt_stream_keep(stream, brt_positions_bias(stream->tape, positions, layer), stream->window[layer].bias);
}

brt_tensor *brt_stream_bias(brt_stream *stream, size_t layer)
{
    size_t heads = (size_t)stream->model->config.heads;
    size_t span = brt_stream_memory_keys(stream) + brt_stream_width(stream);
    if (!brt_positions_have_bias(&stream->model->positions))
        return NULL;
    return brt_tape_external(stream->tape, stream->window[layer].bias, NULL, BRT_SHAPE(heads, span));
}

/* ---- keys -------------------------------------------------------------------------------------------------- */

brt_keys brt_stream_window_keys(brt_stream *stream, size_t layer)
{
    const brt_window *window = &stream->window[layer];
    size_t rows = stream->rows * brt_stream_key_heads(stream), head = brt_stream_dim_head(stream);
    size_t keys = brt_stream_memory_keys(stream) + brt_stream_width(stream);
    return (brt_keys){brt_tape_external(stream->tape, window->key, NULL, BRT_SHAPE(rows, keys, head)),
                      brt_tape_external(stream->tape, window->value, NULL, BRT_SHAPE(rows, keys, head))};
}

/* Turns raw rows [count, keys | values] of one batch row into attention's keys and values at positions
 * position, position + 1, ... */
static void prepare_keys(const brt_stream *stream, size_t layer, size_t row, const real *raw, size_t position,
                         size_t count)
{
    const brt_window *window = &stream->window[layer];
    const brt_layer *l = &stream->model->layers[layer];
    const brt_kernels *kernels = stream->model->kernels;
    const brt_rotation *rotation = brt_positions_rotation(l->positions);
    size_t head = brt_stream_dim_head(stream), heads = brt_stream_key_heads(stream);
    for (size_t h = 0; h < heads; h++) {
        size_t first = (row * heads + h) * (brt_stream_memory_keys(stream) + brt_stream_width(stream)) + position;
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

void brt_stream_append_keys(brt_stream *stream, size_t layer, const real *raw_keys, size_t time)
{
    size_t width = brt_stream_width(stream), row_width = brt_carried_raw_width(&stream->model->config);
    for (size_t row = 0; row < stream->rows; row++) {
        const real *raw = raw_keys + row * time * row_width;
        memcpy(stream->window[layer].block + (row * width + stream->filled) * row_width, raw,
               time * row_width * sizeof(real));
        prepare_keys(stream, layer, row, raw, brt_stream_memory_keys(stream) + stream->filled, time);
    }
}

/* A layer's window from its raw keys: compressed memory, memory, then what is filled of the block. */
static void prepare_window(const brt_stream *stream, size_t layer, size_t row)
{
    const brt_slots *slots = &stream->model->slots;
    size_t width = brt_stream_width(stream), raw = brt_carried_raw_width(&stream->model->config);
    size_t room = brt_carried_compressed(&stream->model->config), source = stream->model->layers[layer].source;
    if (room)
        prepare_keys(stream, layer, row, stream->carried[slots->compressed + source] + row * room * raw, 0, room);
    prepare_keys(stream, layer, row, stream->carried[slots->memory + source] + row * width * raw, room, width);
    prepare_keys(stream, layer, row, stream->window[layer].block + row * width * raw, brt_stream_memory_keys(stream),
                 stream->filled);
}

static void prepare_task(void *context, size_t task, int thread)
{
    const brt_stream *stream = context;
    (void)thread;
    prepare_window(stream, task % stream->model->depth, task / stream->model->depth);
}

void brt_stream_prepare_windows(brt_stream *stream)
{
    for (size_t row = 0; row < stream->rows; row++)
        stream->first_key[row] = brt_carried_first_key(&stream->model->config, stream->past[row]);
    brt_parallel_for(brt_tape_threads(stream->tape), stream->rows * stream->model->depth, prepare_task, stream);
}

/* ---- what becomes of them ---------------------------------------------------------------------------------- */

void brt_stream_count_usage(brt_stream *stream, size_t layer, const brt_tensor *usage)
{
    if (!usage || !brt_tape_running(stream->tape))
        return;
    if (stream->filled == 0)
        memcpy(stream->window[layer].usage, usage->data, usage->count * sizeof(real));
    else
        stream->model->kernels->add(usage->count, usage->data, stream->window[layer].usage);
}

void brt_stream_compress_window(brt_stream *stream, size_t layer)
{
    const brt_model *model = stream->model;
    size_t rows = stream->rows, width = brt_stream_width(stream), raw = brt_carried_raw_width(&model->config);
    size_t room = brt_carried_compressed(&model->config), source = model->layers[layer].source;
    real *carried = stream->carried[model->slots.compressed + source];
    brt_tensor *window = brt_tape_external(stream->tape, stream->carried[model->slots.memory + source], NULL,
                                           BRT_SHAPE(rows, width, raw));
    brt_tensor *queue = brt_tape_external(stream->tape, carried, NULL, BRT_SHAPE(rows, room, raw));
    brt_tensor *usage = brt_tape_external(stream->tape, stream->window[layer].usage, NULL, BRT_SHAPE(rows, width));
    brt_stream_keep(stream, brt_compress(stream->tape, &model->compressors[source], queue, window, usage), carried);
}

static void remember_layer(brt_stream *stream, size_t layer)
{
    size_t index = stream->model->slots.memory + layer;
    real *before = stream->carried[index];
    stream->carried[index] = stream->window[layer].block;
    stream->window[layer].block = before;
    for (size_t row = 0; row < stream->rows && stream->no_memories; row++)
        brt_slot_start(&stream->model->slots.items[index], stream->carried[index], row);
}

void brt_stream_remember_block(brt_stream *stream)
{
    brt_stream_remember(stream);
    for (size_t layer = 0; layer < stream->model->depth; layer++)
        remember_layer(stream, layer);
    for (size_t row = 0; row < stream->rows && !stream->no_memories; row++)
        stream->past[row]++;
}
