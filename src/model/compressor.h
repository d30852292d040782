/* How a layer's window is compressed when the next block has taken its place: the second stage of the reference's
 * MemoryManager, with the other compressions of the Compressive Transformer (Rae et al. 2020) to choose from. */
#ifndef BRT_MODEL_COMPRESSOR_H
#define BRT_MODEL_COMPRESSOR_H

#include "layer.h"

typedef struct brt_compressor {
    brt_compression compression;
    size_t factor;             /* tokens of an entry; 1: entries are tokens */
    brt_tensor *weight, *bias; /* of a convolution */
} brt_compressor;

void brt_compressor_bind(brt_compressor *compressor, const brt_parameters *parameters, const brt_config *config,
                         size_t layer);
/* Whether brt_compress reads the usage. */
bool brt_compressor_wants_usage(const brt_compressor *compressor);
/* The queue [batch, brt_carried_compressed, width] after a window's raw keys [batch, block_width, width] have entered
 * it as brt_carried_entries entries. usage [batch, block_width]: how much attention each key has got (brt_op_usage);
 * may be NULL where it is not wanted. */
brt_tensor *brt_compress(brt_tape *tape, const brt_compressor *compressor, brt_tensor *queue, brt_tensor *window,
                         brt_tensor *usage);

/* The loss that teaches a compressor to keep what is asked for ("attention-reconstruction" in Rae et al. 2020):
 *   mean of (attend(q, keys, values) - attend(q, keys', values'))^2,
 * where q are a layer's raw queries [batch, time, width], keys and values are made of a window [batch, block_width,
 * width], keys' and values' of the window's entries, without positions or masks. All but the compressor's weights is
 * constant. Rows of which first_key [batch] (lives until backward) is past the window have no loss.
 * -> [batch]; the gradient is that of weight * their sum. */
brt_tensor *brt_compressor_loss(brt_tape *tape, const brt_compressor *compressor, const brt_layer *layer,
                                const brt_tensor *raw_queries, const brt_tensor *window, const size_t *first_key,
                                real weight);

#endif
