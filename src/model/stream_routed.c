/* Routed memories in a stream: what the current part of the block has chosen is kept until the part is full. */
#include "stream_state.h"

#include "../base/size.h"

#include <string.h>

static size_t parts_of_block(const brt_stream *stream)
{
    return brt_router_parts(stream->model->routers, (size_t)stream->model->config.block_width);
}

/* What is remembered, for `parts` readers of each row. */
static brt_remembered remembered(brt_stream *stream, const brt_router *router, size_t parts)
{
    const brt_config *config = &stream->model->config;
    uint64_t end = stream->rings ? stream->rings[0].end : 0;
    for (size_t row = 0; row < stream->rows && brt_tape_running(stream->tape); row++) {
        size_t count = brt_stream_remembered(stream, row);
        stream->begin[row] = end - count;
        stream->draw[row] = stream->past[row] * parts_of_block(stream) + stream->filled / router->part;
        for (size_t part = 0; part < parts; part++)
            stream->chosen_first_key[row * parts + part] = brt_routing_first_key((size_t)config->routed_tokens, count);
    }
    return (brt_remembered){
        .rings = stream->rings,
        .begin = stream->begin,
        .end = end,
        .first_key = stream->chosen_first_key,
        .draw = stream->draw,
    };
}

static brt_tensor *chosen_tensor(brt_stream *stream, const brt_router *router, real *data)
{
    return brt_tape_external(stream->tape, data, NULL,
                             BRT_SHAPE(stream->rows * router->routes, router->tokens + 1, router->dim));
}

static brt_tensor *input_tensor(brt_stream *stream, const brt_router *router)
{
    return brt_tape_external(stream->tape, stream->routed[router->ring].input, NULL,
                             BRT_SHAPE(stream->rows, 1, (size_t)stream->model->config.dim));
}

/* Copies the last part's of each row, of [rows, parts, count], to [rows, count]. */
static void keep_last(brt_stream *stream, const brt_tensor *from, size_t parts, real *to)
{
    size_t count = from->count / (stream->rows * parts);
    for (size_t row = 0; row < stream->rows && brt_tape_running(stream->tape); row++)
        memcpy(to + row * count, from->data + ((row + 1) * parts - 1) * count, count * sizeof *to);
}

/* Looks up the memory for the parts that begin with x's tokens. */
static brt_routed look_up(brt_stream *stream, const brt_router *router, brt_tensor *x)
{
    const brt_model *model = stream->model;
    brt_routed_window *window = &stream->routed[router->ring];
    brt_tensor *states[BRT_MAX_DEPTH];
    size_t time = x->shape[1], parts = brt_router_parts(router, time);
    for (size_t i = 0; i < model->containers; i++)
        states[i] = brt_tape_external(stream->tape, stream->carried[model->slots.state + i], NULL,
                                      BRT_SHAPE(stream->rows, (size_t)model->config.num_state_vectors,
                                                (size_t)model->config.dim));
    brt_remembered all = remembered(stream, router, parts);
    brt_tensor *routes =
        brt_router_routes(stream->tape, router, states, model->containers, x, input_tensor(stream, router));
    brt_routed chosen = brt_router_look_up(stream->tape, router, routes, parts, &all);
    if (time % router->part) {
        keep_last(stream, routes, parts, window->routes);
        keep_last(stream, chosen.key, parts, window->key);
        keep_last(stream, chosen.value, parts, window->value);
    }
    return chosen;
}

brt_routed brt_stream_choose(brt_stream *stream, const brt_router *router, brt_tensor *x)
{
    brt_routed_window *window = &stream->routed[router->ring];
    brt_routed chosen = {chosen_tensor(stream, router, window->key), chosen_tensor(stream, router, window->value)};
    if (stream->filled % router->part == 0)
        chosen = look_up(stream, router, x);
    else
        remembered(stream, router, 1);
    if (router->input_gain)
        keep_last(stream, x, x->shape[1], window->input);
    return chosen;
}

size_t brt_stream_part(const brt_stream *stream, size_t time)
{
    if (!stream->model->routed || stream->recalls)
        return time;
    size_t part = stream->model->routers->part, inside = stream->filled % part;
    return inside ? brt_min_size(time, part - inside) : time;
}

void brt_stream_remember(brt_stream *stream)
{
    const brt_model *model = stream->model;
    int threads = brt_tape_threads(stream->tape);
    for (size_t layer = 0, index; layer < model->depth; layer++) {
        const brt_router *router = model->layers[layer].router;
        if (!brt_stream_has_memory(stream, layer, &index))
            continue;
        const real *window = stream->carried[model->slots.memory + model->layers[layer].source];
        brt_ring_append(&stream->rings[index], model->kernels, threads, window);
        if (stream->scans)
            brt_ring_append(&stream->scans[index], model->kernels, threads, window);
        if (router && router->input_gain)
            memcpy(stream->carried[model->slots.route_input + router->ring], stream->routed[router->ring].input,
                   stream->rows * (size_t)model->config.dim * sizeof(real));
    }
}

void brt_stream_forget_part(brt_stream *stream)
{
    const brt_model *model = stream->model;
    for (size_t i = 0; i < model->routed && model->routers[i].input_gain; i++)
        memcpy(stream->routed[i].input, stream->carried[model->slots.route_input + i],
               stream->rows * (size_t)model->config.dim * sizeof(real));
}

void brt_stream_choose_again(brt_stream *stream)
{
    for (size_t i = 0; i < stream->model->routed; i++) {
        const brt_router *router = &stream->model->routers[i];
        brt_routed_window *window = &stream->routed[i];
        if (stream->filled % router->part == 0 || stream->recalls)
            continue;
        brt_remembered all = remembered(stream, router, 1);
        brt_tensor *routes = brt_tape_external(stream->tape, window->routes, NULL,
                                               BRT_SHAPE(stream->rows, router->routes * router->dim));
        brt_routed chosen = brt_router_look_up(stream->tape, router, routes, 1, &all);
        keep_last(stream, chosen.key, 1, window->key);
        keep_last(stream, chosen.value, 1, window->value);
        brt_tape_rewind(stream->tape);
    }
}

size_t brt_stream_routed_length(const brt_stream *stream)
{
    size_t most = 0;
    for (size_t row = 0; stream->memories && row < stream->rows; row++)
        most = brt_max_size(most, brt_stream_remembered(stream, row));
    return most;
}

brt_status brt_stream_routed(const brt_stream *stream, size_t index, float *out)
{
    const brt_config *config = &stream->model->config;
    size_t length = brt_stream_routed_length(stream), row_reals = length * brt_carried_raw_width(config) / 2;
    BRT_TRY(brt_routed_check(stream->memories, index));
    for (size_t row = 0; row < stream->rows; row++)
        brt_routed_copy(&stream->rings[index], stream->model->kernels, row,
                        brt_stream_remembered(stream, row), length, out + row * row_reals,
                        out + (stream->rows + row) * row_reals);
    return BRT_OK;
}
