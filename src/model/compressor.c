#include "compressor.h"

#include "../ops/compression.h"

static brt_tensor *find(const brt_parameters *parameters, size_t layer, const char *name)
{
    brt_parameter *found = brt_parameters_find(parameters, "mem_manager.layers.%zu.1.1.%s", layer, name);
    return found ? &found->tensor : NULL;
}

void brt_compressor_bind(brt_compressor *compressor, const brt_parameters *parameters, const brt_config *config,
                         size_t layer)
{
    *compressor = (brt_compressor){
        .compression = (brt_compression)config->compression,
        .factor = config->compressed_mem_factor > 1 ? (size_t)config->compressed_mem_factor : 1,
        .weight = find(parameters, layer, "weight"),
        .bias = find(parameters, layer, "bias"),
    };
}

bool brt_compressor_wants_usage(const brt_compressor *compressor)
{
    return compressor->compression == BRT_COMPRESSION_MOST_USED && compressor->factor > 1;
}

/* What becomes of a window. */
static brt_tensor *make_entries(brt_tape *tape, const brt_compressor *compressor, brt_tensor *window, brt_tensor *usage)
{
    if (compressor->factor == 1)
        return window;
    switch (compressor->compression) {
    case BRT_COMPRESSION_CONVOLUTION:
        return brt_op_convolve(tape, window, compressor->weight, compressor->bias, 1);
    case BRT_COMPRESSION_DILATED:
        return brt_op_convolve(tape, window, compressor->weight, compressor->bias, 2);
    case BRT_COMPRESSION_MEAN:
        return brt_op_pool(tape, window, BRT_POOL_MEAN, compressor->factor);
    case BRT_COMPRESSION_MAX:
        return brt_op_pool(tape, window, BRT_POOL_MAX, compressor->factor);
    case BRT_COMPRESSION_MOST_USED:
        return brt_op_most_used(tape, window, usage, compressor->factor);
    }
    return window;
}

brt_tensor *brt_compress(brt_tape *tape, const brt_compressor *compressor, brt_tensor *queue, brt_tensor *window,
                         brt_tensor *usage)
{
    return brt_op_push(tape, queue, make_entries(tape, compressor, window, usage));
}

/* Of queries to keys made of raw ones by what they are, wherever they are. */
static brt_tensor *attend_to_content(brt_tape *tape, const brt_layer *layer, brt_tensor *query, brt_tensor *raw_keys,
                                     const size_t *first_key)
{
    size_t width = layer->key_heads * layer->heads * layer->dim_head;
    brt_keys keys =
        brt_op_keys(tape, 1, &raw_keys, layer->key_heads, brt_tape_constant(tape, layer->k_scale), NULL);
    brt_attention how = {.key_heads = layer->key_heads,
                         .heads = layer->heads,
                         .scale = layer->scale,
                         .first_key = first_key,
                         .out_row = width,
                         .out_head = layer->dim_head};
    brt_tensor *heard = brt_tape_tensor(tape, BRT_SHAPE(raw_keys->shape[0], query->shape[1], width));
    brt_op_attention(tape, query, keys.key, keys.value, &how, heard);
    return heard;
}

brt_tensor *brt_compressor_loss(brt_tape *tape, const brt_compressor *compressor, const brt_layer *layer,
                                const brt_tensor *raw_queries, const brt_tensor *window, const size_t *first_key,
                                real weight)
{
    brt_tensor *old = brt_tape_constant(tape, window);
    brt_tensor *query = brt_op_queries(tape, brt_tape_constant(tape, raw_queries), layer->key_heads, layer->heads,
                                       brt_tape_constant(tape, layer->q_scale), NULL, 0);
    brt_tensor *entries = make_entries(tape, compressor, old, NULL);
    brt_tensor *wanted = attend_to_content(tape, layer, query, old, first_key);
    return brt_op_squared_error(tape, attend_to_content(tape, layer, query, entries, first_key), wanted, weight);
}
