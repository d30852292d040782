#include "routed.h"

#include "../base/size.h"
#include "../ops/compression.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Temperatures are learned as factors of this one: scores of unrelated keys then differ by 1, as the inverse root of
 * 64 dimensions times 8 does. */
static const real temperature_unit = 8;

/* ---- parameters ---------------------------------------------------------------------------------------------- */

static void add_linear(brt_declaration *d, const char *name, size_t out, size_t in)
{
    brt_parameter *parameter = brt_declare(d, name, BRT_INIT_LINEAR, BRT_SHAPE(out, in));
    parameter->is_matrix = parameter->decays = true;
    parameter->panel = BRT_PANEL;
}

void brt_router_declare(brt_declaration *d, const brt_config *c, size_t layer)
{
    size_t dim = (size_t)c->dim, dim_head = (size_t)c->dim_head, routes = (size_t)c->routes;
    size_t states = c->recurrent_layers.count * dim;
    snprintf(d->prefix, sizeof d->prefix, "layers.%zu.0.routed.", layer);
    brt_declare(d, "route", BRT_INIT_NORMAL, BRT_SHAPE(routes, dim_head));
    d->skipped = 1;
    if (states) {
        brt_declare(d, "state_norm.gamma", BRT_INIT_ONES, BRT_SHAPE(states));
        add_linear(d, "from_states.weight", routes * dim_head, states);
    }
    if (c->route_every) {
        brt_declare(d, "input_norm.gamma", BRT_INIT_ONES, BRT_SHAPE(dim));
        add_linear(d, "from_input.weight", routes * dim_head, dim);
    }
    d->skipped = 0;
    brt_declare(d, "temperature", BRT_INIT_ONES, BRT_SHAPE(routes));
    brt_declare(d, "null_key", BRT_INIT_SMALL_NORMAL, BRT_SHAPE(routes, dim_head));
    brt_declare(d, "null_value", BRT_INIT_SMALL_NORMAL, BRT_SHAPE(routes, dim_head));
    brt_declare(d, "q_scale", BRT_INIT_ONES, BRT_SHAPE(dim_head));
    brt_declare(d, "gate", BRT_INIT_ONES, BRT_SHAPE((size_t)c->heads));
}

static brt_tensor *find(const brt_parameters *parameters, size_t layer, const char *name)
{
    brt_parameter *found = brt_parameters_find(parameters, "layers.%zu.0.routed.%s", layer, name);
    return found ? &found->tensor : NULL;
}

/* Zeros where there is none. */
static brt_linear find_linear(const brt_parameters *parameters, size_t layer, const char *name, const char *bias)
{
    brt_parameter *weight = brt_parameters_find(parameters, "layers.%zu.0.routed.%s.weight", layer, name);
    brt_linear none = {0};
    return weight ? brt_parameter_linear(weight, brt_parameters_find(parameters, "layers.%zu.0.routed.%s", layer, bias))
                  : none;
}

void brt_router_bind(brt_router *router, const brt_parameters *parameters, const brt_config *config, size_t layer)
{
    *router = (brt_router){
        .ring = brt_config_rank(&config->routed_layers, layer),
        .routes = (size_t)config->routes,
        .heads = (size_t)(config->heads / config->routes),
        .dim = (size_t)config->dim_head,
        .part = (size_t)(config->route_every ? config->route_every : config->block_width),
        .tokens = (size_t)config->routed_tokens,
        .capacity = (size_t)config->routed_capacity,
        .random = config->random_routes,
        .route = find(parameters, layer, "route"),
        .state_gain = find(parameters, layer, "state_norm.gamma"),
        .from_states = find_linear(parameters, layer, "from_states", "route"),
        .input_gain = find(parameters, layer, "input_norm.gamma"),
        .from_input = find_linear(parameters, layer, "from_input", "no bias"),
        .temperature = find(parameters, layer, "temperature"),
        .null_key = find(parameters, layer, "null_key"),
        .null_value = find(parameters, layer, "null_value"),
        .q_scale = find(parameters, layer, "q_scale"),
        .gate = find(parameters, layer, "gate"),
    };
}

/* ---- looking up ---------------------------------------------------------------------------------------------- */

size_t brt_router_parts(const brt_router *router, size_t time)
{
    return brt_ceil_div(time, router->part);
}

/* [batch, vectors, dim] -> [batch, 1, dim] */
static brt_tensor *mean_vector(brt_tape *tape, brt_tensor *state)
{
    return brt_op_pool(tape, state, BRT_POOL_MEAN, state->shape[1]);
}

/* The mean vectors of all states side by side, normalised, turned into routes: [batch, 1, routes * dim]. */
static brt_tensor *routes_from_states(brt_tape *tape, const brt_router *router, brt_tensor *const *states, size_t count)
{
    brt_tensor *means = mean_vector(tape, states[0]);
    for (size_t i = 1; i < count; i++)
        means = brt_op_concat(tape, means, mean_vector(tape, states[i]));
    return brt_op_linear(tape, brt_op_layer_norm(tape, means, router->state_gain), &router->from_states, NULL);
}

brt_tensor *brt_router_routes(brt_tape *tape, const brt_router *router, brt_tensor *const *states, size_t count,
                              brt_tensor *x, brt_tensor *before)
{
    size_t batch = x->shape[0], parts = brt_router_parts(router, x->shape[1]);
    brt_tensor *routes = router->state_gain ? routes_from_states(tape, router, states, count)
                                            : brt_op_select_state(tape, NULL, router->route, NULL, batch);
    if (!router->input_gain)
        return routes;
    if (parts > 1)
        routes = brt_op_repeat(tape, routes, parts);
    brt_tensor *inputs = brt_op_pick(tape, x, before, -1, router->part, parts);
    return brt_op_linear(tape, brt_op_layer_norm(tape, inputs, router->input_gain), &router->from_input, routes);
}

brt_routed brt_router_look_up(brt_tape *tape, const brt_router *router, brt_tensor *routes, size_t parts,
                              const brt_remembered *remembered)
{
    brt_routing how = {.ring = remembered->rings ? &remembered->rings[router->ring] : NULL,
                       .capacity = router->capacity,
                       .begin = remembered->begin,
                       .end = remembered->end,
                       .readers = parts,
                       .tokens = router->tokens,
                       .random = router->random,
                       .draw = remembered->draw};
    brt_tensor *temperature = brt_op_scale(tape, router->temperature, NULL, temperature_unit);
    return brt_op_route(tape, routes, temperature, router->null_key, router->null_value, &how);
}

brt_heard brt_router_attend(brt_tape *tape, const brt_router *router, brt_tensor *projected, const brt_routed *chosen,
                            const size_t *first_key)
{
    size_t time = projected->shape[1], part = brt_min_size(router->part, time);
    size_t readers = projected->shape[0] * brt_router_parts(router, time), inner = projected->shape[2];
    brt_heard heard = {brt_tape_tensor(tape, BRT_SHAPE(readers, part, inner)),
                       brt_tape_tensor(tape, BRT_SHAPE(readers * router->routes, part, router->heads))};
    brt_tensor *query =
        brt_op_queries_in_parts(tape, projected, part, router->routes, router->heads, router->q_scale);
    brt_attention how = {.key_heads = router->routes,
                         .heads = router->heads,
                         .scale = temperature_unit,
                         .first_key = first_key,
                         .log_sum_exp = heard.log_sum_exp,
                         .out_row = inner,
                         .out_head = router->dim};
    brt_op_attention(tape, query, chosen->key, chosen->value, &how, heard.out);
    return heard;
}

brt_heard brt_router_recall(brt_tape *tape, const brt_router *router, brt_tensor *projected, const brt_recall *recall)
{
    brt_recall how = *recall;
    how.scale = temperature_unit;
    brt_tensor *query = brt_op_queries_in_parts(tape, projected, projected->shape[1], router->routes, router->heads,
                                                router->q_scale);
    return brt_op_recall(tape, query, router->null_key, router->null_value, &how, projected->shape[0]);
}

/* ---- rings --------------------------------------------------------------------------------------------------- */

brt_ring_shape brt_routed_ring_shape(const brt_config *config, size_t capacity, size_t rows, size_t blocks)
{
    size_t width = (size_t)config->block_width;
    return (brt_ring_shape){.type = (brt_ring_type)config->routed_dtype,
                            .rows = rows,
                            .heads = (size_t)config->kv_heads,
                            .dim = (size_t)config->dim_head,
                            .unit = width,
                            .slots = (brt_ceil_div(capacity, width) + blocks) * width};
}

brt_status brt_rings_create(brt_ring **out, const brt_ring_shape *shape, size_t count)
{
    *out = NULL;
    if (count == 0)
        return BRT_OK;
    brt_ring *rings = calloc(count, sizeof *rings);
    if (!rings)
        return BRT_FAIL(BRT_ERROR_MEMORY, "out of memory for %zu routed memories", count);
    for (size_t i = 0; i < count; i++) {
        brt_status status = brt_ring_create(&rings[i], shape);
        if (status != BRT_OK) {
            brt_rings_close(rings, count);
            return status;
        }
    }
    *out = rings;
    return BRT_OK;
}

void brt_rings_close(brt_ring *rings, size_t count)
{
    for (size_t i = 0; rings && i < count; i++)
        brt_ring_close(&rings[i]);
    free(rings);
}

uint64_t brt_routed_bytes(const brt_config *config, size_t rows, size_t blocks)
{
    brt_ring_shape shape = brt_routed_ring_shape(config, (size_t)config->routed_capacity, rows, blocks);
    return config->routed_layers.count * brt_ring_bytes(&shape);
}

size_t brt_routed_remembered(size_t capacity, size_t width, uint64_t past)
{
    uint64_t blocks = past ? past - 1 : 0;
    return blocks <= capacity / width ? brt_min_size((size_t)blocks * width, capacity) : capacity;
}

void brt_routed_copy(const brt_ring *ring, const brt_kernels *kernels, size_t row, size_t count, size_t length,
                     real *keys, real *values)
{
    size_t heads = ring->shape.heads, dim = ring->shape.dim, none = length - count;
    memset(keys, 0, none * heads * dim * sizeof *keys);
    memset(values, 0, none * heads * dim * sizeof *values);
    for (size_t i = none; i < length; i++)
        for (size_t head = 0; head < heads; head++) {
            uint64_t position = ring->end - (length - i);
            brt_ring_copy(ring, kernels, &ring->key, row, head, position, keys + (i * heads + head) * dim);
            brt_ring_copy(ring, kernels, &ring->value, row, head, position, values + (i * heads + head) * dim);
        }
}

brt_status brt_routed_check(size_t memories, size_t index)
{
    if (index < memories)
        return BRT_OK;
    return BRT_FAIL(BRT_ERROR_ARGUMENT, "there is no routed memory %zu: there are %zu", index, memories);
}
