/* How a layer's window is compressed when the next block has taken its place: the second stage of the reference's
 * MemoryManager, with the other compressions of the Compressive Transformer (Rae et al. 2020) to choose from. */
#ifndef BRT_MODEL_COMPRESSOR_H
#define BRT_MODEL_COMPRESSOR_H

#include "../ops/compression.h"
#include "parameters.h"

typedef struct brt_compressor {
    brt_compression compression;
    size_t factor;             /* tokens of an entry; 1: entries are tokens */
    brt_tensor *weight, *bias; /* of a convolution */
} brt_compressor;

void brt_compressor_bind(brt_compressor *compressor, const brt_parameters *parameters, const brt_config *config,
                         size_t layer);
/* Whether brt_compress reads the usage. */
bool brt_compressor_wants_usage(const brt_compressor *compressor);
/* A window's raw keys [batch, block_width, width] -> entries [batch, brt_carried_entries, width]. usage
 * [batch, block_width]: how much attention each has got (brt_op_usage); may be NULL where it is not wanted. */
brt_tensor *brt_compress(brt_tape *tape, const brt_compressor *compressor, brt_tensor *memory, brt_tensor *usage);

#endif
