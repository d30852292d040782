#include "compressor.h"

#include "../base/size.h"

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

brt_tensor *brt_compress(brt_tape *tape, const brt_compressor *compressor, brt_tensor *memory, brt_tensor *usage)
{
    if (compressor->factor == 1)
        return memory;
    switch (compressor->compression) {
    case BRT_COMPRESSION_CONVOLUTION:
        return brt_op_convolve(tape, memory, compressor->weight, compressor->bias, 1);
    case BRT_COMPRESSION_DILATED:
        return brt_op_convolve(tape, memory, compressor->weight, compressor->bias, 2);
    case BRT_COMPRESSION_MEAN:
        return brt_op_pool(tape, memory, BRT_POOL_MEAN, compressor->factor);
    case BRT_COMPRESSION_MAX:
        return brt_op_pool(tape, memory, BRT_POOL_MAX, compressor->factor);
    case BRT_COMPRESSION_MOST_USED:
        return brt_op_most_used(tape, memory, usage, compressor->factor);
    }
    return memory;
}
