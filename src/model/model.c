#include "model.h"

#include "../base/size.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- making ------------------------------------------------------------------------------------------ */

static void bind_containers(brt_model *model)
{
    size_t index = 0, read;
    for (size_t layer = 0; layer < model->depth; layer++)
        if (brt_config_writes_state(&model->config, layer, &read))
            brt_state_container_bind(&model->container[index++], &model->parameters, &model->config, layer, read);
}

/* With feedback, layers without a state of their own read that of the last recurrent one. */
static void bind_readers(brt_model *model)
{
    size_t reader = 0;
    for (size_t layer = 0; layer < model->depth; layer++) {
        model->first_reader[layer] = reader;
        for (size_t i = 0; i < model->containers; i++)
            if (model->container[i].read_layer == layer)
                model->readers[reader++] = &model->container[i];
        if (model->config.feedback && reader == model->first_reader[layer])
            model->readers[reader++] = &model->container[model->containers - 1];
    }
}

static void bind_ends(brt_model *model)
{
    const brt_config *config = &model->config;
    const brt_arithmetic *arithmetic = brt_arithmetic_of(config);
    int64_t divided_by = config->logit_divisor == BRT_DIVISOR_DIM ? config->dim : config->num_tokens;
    model->arithmetic = arithmetic;
    model->embedding = brt_parameter_table(brt_parameters_find(&model->parameters, "%s", arithmetic->embedding));
    model->final_gain = &brt_parameters_find(&model->parameters, "%s", arithmetic->final_gain)->tensor;
    model->to_logits =
        brt_parameter_linear(brt_parameters_find(&model->parameters, "%s", arithmetic->to_logits), NULL);
    model->logit_divisor = arithmetic->divides_logits ? (real)sqrt((double)divided_by) : 1;
}

static brt_status create_compressors(brt_model *model)
{
    if (!model->config.use_compressed_mem)
        return BRT_OK;
    model->compressors = calloc(model->depth, sizeof *model->compressors);
    if (!model->compressors)
        return BRT_FAIL(BRT_ERROR_MEMORY, "out of memory for the compression of %zu layers", model->depth);
    for (size_t i = 0; i < model->depth; i++)
        brt_compressor_bind(&model->compressors[i], &model->parameters, &model->config, i);
    return BRT_OK;
}

static void bind_routers(brt_model *model)
{
    for (size_t layer = 0, index = 0; layer < model->depth; layer++)
        if (brt_config_is_routed(&model->config, layer)) {
            brt_router_bind(&model->routers[index], &model->parameters, &model->config, layer);
            model->layers[layer].router = &model->routers[index++];
        }
}

static brt_status build(brt_model *model, brt_choose_precision *choose, const void *context)
{
    const brt_config *config = &model->config;
    BRT_TRY(brt_kernels_select(&model->kernels));
    BRT_TRY(brt_parameters_create(&model->parameters, config, choose, context));
    BRT_TRY(brt_parameters_create_matrices(&model->parameters, model->kernels));
    BRT_TRY(brt_positions_create(&model->positions, config, &model->parameters, brt_carried_keys(config)));
    BRT_TRY(create_compressors(model));
    model->layers = calloc(model->depth, sizeof *model->layers);
    model->routers = calloc(model->routed + 1, sizeof *model->routers);
    model->container = calloc(model->containers + 1, sizeof *model->container);
    model->readers = calloc(model->containers + model->depth, sizeof *model->readers);
    model->first_reader = calloc(model->depth, sizeof *model->first_reader);
    if (!model->layers || !model->routers || !model->container || !model->readers || !model->first_reader)
        return BRT_FAIL(BRT_ERROR_MEMORY, "out of memory for %zu layers", model->depth);
    for (size_t i = 0; i < model->depth; i++)
        brt_layer_bind(&model->layers[i], &model->parameters, config, i, &model->positions);
    bind_containers(model);
    bind_readers(model);
    bind_routers(model);
    bind_ends(model);
    return brt_slots_create(&model->slots, config, model->container);
}

brt_status brt_model_allocate(brt_model **out, const brt_config *config, brt_choose_precision *choose,
                              const void *context)
{
    brt_model *model = calloc(1, sizeof *model);
    if (!model)
        return BRT_FAIL(BRT_ERROR_MEMORY, "out of memory for a model");
    model->config = *config;
    brt_status status = brt_config_check(&model->config);
    if (status == BRT_OK) {
        model->depth = (size_t)model->config.depth;
        model->containers = model->config.recurrent_layers.count;
        model->routed = model->config.routed_layers.count;
        status = build(model, choose, context);
    }
    if (status != BRT_OK) {
        brt_model_close(model);
        return status;
    }
    *out = model;
    return BRT_OK;
}

brt_status brt_model_create(brt_model **out, const brt_config *config, uint64_t seed)
{
    brt_model *model;
    BRT_TRY(brt_model_allocate(&model, config, NULL, NULL));
    brt_parameters_initialise(&model->parameters, seed);
    *out = model;
    return BRT_OK;
}

void brt_model_close(brt_model *model)
{
    if (!model)
        return;
    brt_parameters_close(&model->parameters);
    brt_slots_close(&model->slots);
    brt_positions_close(&model->positions);
    free(model->layers);
    free(model->compressors);
    free(model->routers);
    free(model->container);
    free(model->readers);
    free(model->first_reader);
    free(model);
}

const brt_config *brt_model_config(const brt_model *model)
{
    return &model->config;
}

size_t brt_model_parameter_count(const brt_model *model)
{
    return model->parameters.count;
}

#ifndef BRT_REAL_DOUBLE
brt_status brt_model_parameter(const brt_model *model, size_t index, brt_parameter_info *out)
{
    if (index >= model->parameters.count)
        return BRT_FAIL(BRT_ERROR_ARGUMENT, "there is no parameter %zu: the model has %zu", index,
                        model->parameters.count);
    const brt_parameter *parameter = &model->parameters.items[index];
    *out = (brt_parameter_info){.name = parameter->name,
                                .dtype = brt_precision_dtype(parameter->precision),
                                .data = parameter->tensor.data,
                                .count = parameter->tensor.count,
                                .dims = parameter->tensor.dims,
                                .transposed = parameter->transposed};
    for (size_t i = 0; i < out->dims; i++)
        out->shape[i] = parameter->tensor.shape[i];
    return BRT_OK;
}
#endif

/* ---- forward -------------------------------------------------------------------------------------------- */

brt_status brt_model_check_tokens(const brt_model *model, const int32_t *tokens, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (tokens[i] < 0 || tokens[i] >= model->config.num_tokens)
            return BRT_FAIL(BRT_ERROR_ARGUMENT, "token %d at position %zu is not in the vocabulary: 0 to %lld",
                            tokens[i], i, (long long)model->config.num_tokens - 1);
    return BRT_OK;
}

enum { most_containers = BRT_MAX_DEPTH };

typedef struct pass {
    brt_tape *tape;
    const brt_model *model;
    brt_block *block;
    brt_state_view view[most_containers]; /* of each container */
    brt_keys keys[most_containers];
    brt_tensor *bias;               /* of all layers, where they have the same */
    brt_tensor *raw_keys[BRT_MAX_DEPTH]; /* of the block, by layer */
    brt_tensor *states[most_containers]; /* as the block finds them */
} pass;

/* As every reader of this block finds them. */
static void open_states(pass *p)
{
    const brt_model *model = p->model;
    for (size_t i = 0; i < model->containers; i++) {
        p->view[i] = brt_state_open(p->tape, &model->container[i], p->block->carried[model->slots.state + i]);
        p->keys[i] = brt_state_keys(p->tape, &model->container[i], &p->view[i]);
    }
}

static void write_states(pass *p, size_t layer)
{
    const brt_model *model = p->model;
    brt_tensor **carried = p->block->carried, *memory = carried[model->slots.memory + layer];
    for (size_t i = 0; i < model->containers; i++)
        if (model->container[i].write_layer == layer)
            carried[model->slots.state + i] =
                brt_state_write(p->tape, &model->container[i], &p->view[i], memory, p->raw_keys[layer]);
}

/* Of compressed memory | window | block. */
static brt_keys window_keys(const pass *p, size_t index)
{
    const brt_model *model = p->model;
    const brt_layer *layer = &model->layers[index];
    brt_tensor *raw[3];
    size_t parts = 0;
    if (model->compressors)
        raw[parts++] = p->block->carried[model->slots.compressed + layer->source];
    raw[parts++] = p->block->carried[model->slots.memory + layer->source];
    raw[parts++] = p->raw_keys[index];
    return brt_op_keys(p->tape, parts, raw, layer->key_heads, layer->k_scale, brt_positions_rotation(layer->positions));
}

/* The window that a layer has read, and no later block will, goes on as entries of the compressed memory. */
static void compress_window(const pass *p, const brt_layer *layer, const brt_tensor *raw_queries, brt_tensor *usage)
{
    const brt_slots *slots = &p->model->slots;
    const brt_compressor *compressor = &p->model->compressors[layer->source];
    brt_tensor **queue = &p->block->carried[slots->compressed + layer->source];
    brt_tensor *window = p->block->carried[slots->memory + layer->source];
    brt_reconstruction *reconstruction = &p->block->reconstruction;
    *queue = brt_compress(p->tape, compressor, *queue, window, usage);
    if (reconstruction->weight == 0)
        return;
    const brt_tensor *loss = brt_compressor_loss(p->tape, compressor, layer, raw_queries, window,
                                                 reconstruction->first_old, reconstruction->weight);
    for (size_t row = 0; brt_tape_running(p->tape) && row < p->block->batch; row++)
        reconstruction->loss += (double)loss->data[row];
}

/* What the router of a layer, whose input is x, chooses. */
static brt_routed look_up(pass *p, const brt_router *router, brt_tensor *x)
{
    brt_block *block = p->block;
    brt_tensor **input = &block->carried[p->model->slots.route_input + router->ring];
    brt_tensor *routes = brt_router_routes(p->tape, router, p->states, p->model->containers, x,
                                           router->input_gain ? *input : NULL);
    if (router->input_gain)
        *input = brt_op_pick(p->tape, x, NULL, (ptrdiff_t)block->time - 1, 1, 1);
    return brt_router_look_up(p->tape, router, routes, brt_router_parts(router, block->time), &block->remembered);
}

/* The window [batch, block_width, keys | values] of a layer that no later block sees. */
static void remember(const pass *p, const brt_router *router, const brt_tensor *window)
{
    const brt_remembered *remembered = &p->block->remembered;
    if (brt_tape_running(p->tape) && remembered->rings[router->ring].end == remembered->end)
        brt_ring_append(&remembered->rings[router->ring], brt_tape_kernels(p->tape), brt_tape_threads(p->tape),
                        window->data);
}

/* The price that a block's tokens meet in a layer becomes that of the next block. */
static brt_choice open_choice(const pass *p, const brt_layer *layer)
{
    size_t slot = p->model->slots.price + layer->conditional.index;
    return (brt_choice){.price = layer->conditional.tokens ? p->block->carried[slot] : NULL};
}

static void renew_price(const pass *p, const brt_layer *layer, const brt_choice *choice)
{
    if (layer->conditional.tokens)
        p->block->carried[p->model->slots.price + layer->conditional.index] =
            brt_conditional_ff_price(p->tape, &layer->conditional, choice->scores);
}

/* What a full block leaves of a layer that has read its memories. */
static void close_block(pass *p, size_t index, const brt_tensor *raw_queries, brt_tensor *usage,
                        const brt_choice *choice)
{
    const brt_model *model = p->model;
    const brt_layer *layer = &model->layers[index];
    write_states(p, index);
    if (model->compressors)
        compress_window(p, layer, raw_queries, usage);
    if (layer->router)
        remember(p, layer->router, p->block->carried[model->slots.memory + layer->source]);
    renew_price(p, layer, choice);
}

static brt_tensor *run_layer(pass *p, size_t index, brt_tensor *x)
{
    const brt_model *model = p->model;
    const brt_layer *layer = &model->layers[index];
    brt_block *block = p->block;
    size_t width = (size_t)model->config.block_width;
    bool wants_usage = block->complete && brt_model_wants_usage(model);
    const brt_state_container **readers = model->readers + model->first_reader[index];
    brt_keys states[most_containers];
    for (size_t i = 0; i < layer->reads; i++)
        states[i] = p->keys[readers[i] - model->container];
    brt_projection projection = brt_layer_project(p->tape, layer, x, block->dropouts);
    p->raw_keys[index] = projection.raw_keys;
    brt_routed chosen;
    if (layer->router)
        chosen = look_up(p, layer->router, x);
    brt_sight sight = {
        .rows = block->batch,
        .keys = window_keys(p, index),
        .bias = p->bias ? p->bias : brt_positions_bias(p->tape, layer->positions, index),
        .first_key = block->first_key,
        .first_query = brt_carried_keys(&model->config),
        .chosen = layer->router ? &chosen : NULL,
        .chosen_first_key = block->remembered.first_key,
        .states = states,
        .containers = readers,
        .usage = wants_usage ? brt_tape_tensor(p->tape, BRT_SHAPE(block->batch, width)) : NULL,
        .first_used = brt_carried_keys(&model->config) - width,
        .dropouts = block->dropouts,
    };
    brt_choice choice = open_choice(p, layer);
    brt_tensor *y = brt_layer_attend(p->tape, layer, x, &projection, &sight, 1, &choice);
    brt_tape_forget(p->tape, sight.keys.key);
    brt_tape_forget(p->tape, sight.keys.value);
    if (block->complete)
        close_block(p, index, projection.raw_queries, sight.usage, &choice);
    return y;
}

brt_tensor *brt_model_embed(brt_tape *tape, const brt_model *model, const int32_t *tokens, size_t batch, size_t time,
                            const size_t *offset)
{
    brt_tensor *x = brt_op_embedding(tape, &model->embedding, tokens, batch, time);
    return model->positions.encoding == BRT_POSITION_ABSOLUTE
               ? brt_op_add_positions(tape, x, model->positions.basis, offset)
               : x;
}

brt_tensor *brt_model_block(brt_tape *tape, const brt_model *model, brt_block *block)
{
    pass p = {.tape = tape, .model = model, .block = block};
    if (brt_positions_shared(&model->positions))
        p.bias = brt_positions_bias(tape, &model->positions, 0);
    for (size_t i = 0; i < model->containers; i++)
        p.states[i] = block->carried[model->slots.state + i];
    brt_tensor *x = brt_model_embed(tape, model, block->tokens, block->batch, block->time, block->offset);
    open_states(&p);
    for (size_t layer = 0; layer < model->depth; layer++)
        x = run_layer(&p, layer, x);
    for (size_t layer = 0; layer < model->depth; layer++)
        block->carried[model->slots.memory + layer] = p.raw_keys[layer];
    return x;
}

brt_tensor *brt_model_logits(brt_tape *tape, const brt_model *model, brt_tensor *x, const brt_dropouts *dropouts)
{
    brt_tensor *gain = model->final_gain;
    if (model->arithmetic->divides_logits)
        gain = brt_op_scale(tape, gain, NULL, 1 / model->logit_divisor);
    brt_tensor *normalised = model->arithmetic->norm(tape, x, gain);
    normalised = brt_drop(tape, dropouts, model->depth, BRT_DROP_BEFORE_LOGITS, normalised, NULL);
    return brt_op_linear(tape, normalised, &model->to_logits, NULL);
}

bool brt_model_wants_usage(const brt_model *model)
{
    return model->compressors && brt_compressor_wants_usage(&model->compressors[0]);
}

/* ---- looking inside --------------------------------------------------------------------------------------- */

size_t brt_model_memory_length(const brt_model *model, const uint64_t *past, size_t rows)
{
    size_t most = 0;
    for (size_t row = 0; row < rows; row++)
        most = brt_max_size(most, brt_carried_visible(&model->config, past[row]));
    return most;
}

/* The key | value that is so many keys before the current block, from 1. */
static const real *raw_memory(const brt_model *model, real *const *carried, size_t layer, size_t row, size_t back)
{
    size_t width = (size_t)model->config.block_width, room = brt_carried_compressed(&model->config);
    size_t raw_width = brt_carried_raw_width(&model->config);
    if (back <= width)
        return carried[model->slots.memory + layer] + ((row + 1) * width - back) * raw_width;
    return carried[model->slots.compressed + layer] + ((row + 1) * room - (back - width)) * raw_width;
}

brt_status brt_model_copy_memories(const brt_model *model, real *const *carried, size_t rows, size_t layer,
                                   size_t length, real *out)
{
    if (layer >= model->depth)
        return BRT_FAIL(BRT_ERROR_ARGUMENT, "there is no layer %zu: the model has %zu", layer, model->depth);
    size_t half = brt_carried_raw_width(&model->config) / 2;
    for (size_t row = 0; row < rows; row++)
        for (size_t i = 0; i < length; i++) {
            const real *raw = raw_memory(model, carried, layer, row, length - i);
            memcpy(out + (row * length + i) * half, raw, half * sizeof *out);
            memcpy(out + ((rows + row) * length + i) * half, raw + half, half * sizeof *out);
        }
    return BRT_OK;
}

brt_status brt_model_check_state(const brt_model *model, size_t index)
{
    if (index < model->containers)
        return BRT_OK;
    return BRT_FAIL(BRT_ERROR_ARGUMENT, "there is no state %zu: the model has %zu recurrent layers", index,
                    model->containers);
}
