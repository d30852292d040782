/* What a model costs: parameters, bytes, and the FLOPs of its matrix products as the reference computes them (full
 * rectangles of scores, masked or not). */
#include "stream_state.h"

#include <math.h>

/* Forward FLOPs of one block of one row. */
typedef struct block_flops {
    uint64_t linears;     /* of the tokens, logits included */
    uint64_t key;         /* attention of a block to one key of its window, all layers */
    uint64_t state_read;  /* opening and reading states */
    uint64_t state_write; /* what only the next block uses */
} block_flops;

/* What the feed-forwards of a block for chosen tokens save, less what the light ones cost. */
static uint64_t saved_flops(const brt_config *c)
{
    uint64_t dim = (uint64_t)c->dim, width = (uint64_t)c->block_width, tokens = (uint64_t)c->conditional_ff_tokens;
    uint64_t heavy = 3 * dim * brt_config_ff_inner(c), light = 3 * dim * brt_config_light_ff_inner(c) + dim;
    return c->conditional_ff_layers.count * 2 * ((width - tokens) * heavy - width * light);
}

static block_flops count_reference_block(const brt_config *c)
{
    uint64_t dim = (uint64_t)c->dim, head = (uint64_t)c->dim_head, inner = (uint64_t)c->heads * head;
    uint64_t keys = (uint64_t)c->kv_heads * head;
    uint64_t width = (uint64_t)c->block_width, vectors = (uint64_t)c->num_state_vectors;
    uint64_t containers = c->recurrent_layers.count, depth = (uint64_t)c->depth, ff = brt_config_ff_inner(c);
    bool memformer = c->state_cell == BRT_CELL_MEMFORMER;
    uint64_t heard = memformer ? inner : 2 * inner, seen = width + (memformer ? 1 : vectors);
    uint64_t layer = dim * (2 * inner + 2 * keys) + 3 * dim * ff;
    return (block_flops){
        .linears = 2 * width * (depth * layer + dim * (uint64_t)c->num_tokens) - saved_flops(c),
        .key = depth * 4 * width * inner,
        /* queries to the state, their share of to_out, the state's keys, the attention itself */
        .state_read = containers * (2 * width * dim * 2 * inner + 2 * vectors * dim * 2 * keys +
                                    4 * width * vectors * inner),
        .state_write = containers * (2 * vectors * (dim * heard + heard * dim + dim * dim) +
                                     4 * vectors * seen * inner),
    };
}

/* What the paper's states are made of what they heard: the matrices after attention, of one vector. */
static uint64_t count_update(const brt_config *c)
{
    uint64_t dim = (uint64_t)c->dim, ff = brt_config_ff_inner(c), heard = 2 * (uint64_t)(c->heads * c->dim_head);
    uint64_t gates = c->state_gate == BRT_GATE_LSTM ? 2 : c->state_gate == BRT_GATE_FULL ? 1 : 0;
    uint64_t attention = heard * dim * (1 + gates), feed_forward = ff * dim * (1 + gates);
    switch ((brt_update_kind)c->state_update) {
    case BRT_UPDATE_SKIP:
        return attention;
    case BRT_UPDATE_DUAL:
        return attention + dim * ff + feed_forward;
    case BRT_UPDATE_SINGLE:
        return heard * ff + feed_forward;
    }
    return 0;
}

static block_flops count_paper_block(const brt_config *c)
{
    uint64_t dim = (uint64_t)c->dim, head = (uint64_t)c->dim_head, inner = (uint64_t)c->heads * head;
    uint64_t keys = (uint64_t)c->kv_heads * head, width = (uint64_t)c->block_width;
    uint64_t vectors = (uint64_t)c->num_state_vectors, depth = (uint64_t)c->depth;
    uint64_t states = c->recurrent_layers.count, readers = c->feedback ? depth : states;
    uint64_t layer = dim * (2 * inner + 2 * keys) + 2 * dim * brt_config_ff_inner(c);
    return (block_flops){
        .linears = 2 * width * (depth * layer + dim * (uint64_t)c->num_tokens),
        .key = depth * 4 * width * inner,
        .state_read = readers * (2 * width * dim * 2 * inner + 4 * width * vectors * inner) +
                      states * 2 * vectors * dim * 2 * keys,
        .state_write = states * (2 * vectors * (2 * dim * inner + count_update(c)) +
                                 4 * vectors * (vectors + 2 * width) * inner),
    };
}

/* What a convolution makes of a block's memory, all layers. */
static uint64_t compression_flops(const brt_config *c)
{
    uint64_t patch = (uint64_t)c->compressed_mem_factor * (uint64_t)c->dim_head;
    uint64_t outputs = brt_carried_entries(c) * brt_carried_raw_width(c);
    return brt_config_learns_compression(c) ? (uint64_t)c->depth * 2 * outputs * patch : 0;
}

static block_flops count_block(const brt_config *c)
{
    return c->arithmetic == BRT_ARITHMETIC_PAPER ? count_paper_block(c) : count_reference_block(c);
}

/* Of the first `blocks` blocks of a text. */
static uint64_t forward_flops(const brt_config *config, const block_flops *block, uint64_t blocks)
{
    uint64_t flops = blocks * (block->linears + block->state_read + block->state_write);
    for (uint64_t past = 0; past < blocks; past++)
        flops += ((uint64_t)config->block_width + brt_carried_visible(config, past)) * block->key +
                 (past ? compression_flops(config) : 0);
    return flops;
}

/* Of the routers of a block, with routed memories that are full. */
static uint64_t routing_flops(const brt_config *c)
{
    uint64_t width = (uint64_t)c->block_width, dim_head = (uint64_t)c->dim_head, routes = (uint64_t)c->routes;
    uint64_t inputs = c->recurrent_layers.count * (uint64_t)c->dim + (c->route_every ? (uint64_t)c->dim : 0);
    uint64_t parts = c->route_every ? width / (uint64_t)c->route_every : 1;
    uint64_t choice = 2 * routes * dim_head * (inputs + (uint64_t)c->routed_capacity);
    return c->routed_layers.count *
           (parts * choice + 4 * width * (uint64_t)c->heads * dim_head * ((uint64_t)c->routed_tokens + 1));
}

/* Of the matrices that a token reads, on average. */
static uint64_t decode_bytes(const brt_model *model)
{
    double bytes = 0;
    for (size_t i = 0; i < model->parameters.count; i++) {
        const brt_parameter *parameter = &model->parameters.items[i];
        if (parameter->is_matrix)
            bytes += (1 - parameter->skipped) * (double)brt_parameter_bytes(parameter);
    }
    return (uint64_t)llround(bytes);
}

static brt_status check_tokens(const brt_config *config, size_t sample_tokens, size_t segment_tokens)
{
    size_t width = (size_t)config->block_width;
    if (!segment_tokens || segment_tokens % width || !sample_tokens || sample_tokens % segment_tokens)
        return BRT_FAIL(BRT_ERROR_ARGUMENT,
                        "a sample of %zu tokens in segments of %zu: segments must be multiples of block_width (%zu), "
                        "samples of segments",
                        sample_tokens, segment_tokens, width);
    return BRT_OK;
}

brt_status brt_model_measure(const brt_model *model, size_t sample_tokens, size_t segment_tokens, brt_model_costs *out)
{
    const brt_config *config = &model->config;
    uint64_t width = (uint64_t)config->block_width;
    BRT_TRY(check_tokens(config, sample_tokens, segment_tokens));
    block_flops block = count_block(config);
    uint64_t forward = forward_flops(config, &block, sample_tokens / width), segments = sample_tokens / segment_tokens;
    uint64_t full = 2 + brt_carried_compressed(config); /* blocks, after which every memory is full */
    *out = (brt_model_costs){0};
    for (size_t i = 0; i < model->parameters.count; i++) {
        out->parameters += model->parameters.items[i].tensor.count;
        out->parameter_bytes += brt_parameter_bytes(&model->parameters.items[i]);
    }
    out->flops_per_token = forward_flops(config, &block, full) - forward_flops(config, &block, full - 1);
    out->flops_per_token = (out->flops_per_token + routing_flops(config)) / width;
    /* Backward is twice forward, but for the write at a segment's end, whose result is carried detached. */
    out->train_flops_per_sample = forward + 2 * (forward - segments * block.state_write);
    out->decode_bytes_per_token = decode_bytes(model);
    out->routed_bytes = brt_routed_bytes(config, 1, 0);
    brt_stream_options options = brt_stream_options_init();
    return brt_stream_measure(model, &options, &out->stream_bytes);
}
