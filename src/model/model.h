/* The model: parameters bound to layers and states, and its forward pass over one block. */
#ifndef BRT_MODEL_MODEL_H
#define BRT_MODEL_MODEL_H

#include "layer.h"
#include "rotary.h"

struct brt_model {
    brt_config config;
    brt_parameters parameters;
    const brt_kernels *kernels;
    brt_gemm *gemm;
    brt_rotary rotary;
    size_t depth, containers;
    brt_layer *layers;
    brt_state_container *container;       /* [containers], ascending by the layer that writes */
    const brt_state_container **readers;  /* [containers], grouped by the layer that reads, in that order */
    size_t *first_reader;                 /* [depth]: a layer's readers begin here */
    brt_tensor *embedding, *final_gain;
    brt_linear to_logits;
};

/* A model with its parameters allocated but not set; the configuration is checked and copied. Set them, then call
 * brt_parameters_refresh. */
brt_status brt_model_allocate(brt_model **out, const brt_config *config);

/* One block of a batch on its way through the layers. */
typedef struct brt_block {
    size_t batch, time;
    const int32_t *tokens;   /* [batch, time], each in the vocabulary; lives until backward */
    brt_tensor **memory;     /* [depth], in: [batch, block_width, 2 * dim_head] of the block before; out: of this one */
    brt_tensor **state;      /* [containers], in: as read by this block (after resets); out: as this block leaves it */
    const size_t *first_key; /* [batch]: 0, or block_width for a row without memory; lives until backward */
    bool writes_state;       /* false for a block shorter than block_width, or where nobody reads the result */
} brt_block;
/* -> the last layer's output [batch, time, dim]; `memory` and `state` are replaced by the block's own. */
brt_tensor *brt_model_block(brt_tape *tape, const brt_model *model, brt_block *block);
/* x [batch, time, dim] -> logits [batch, time, num_tokens] */
brt_tensor *brt_model_logits(brt_tape *tape, const brt_model *model, brt_tensor *x);

/* A layer's memory, [count, 2 * dim_head] as it is carried, -> [2, count, dim_head]: keys, then values. */
void brt_model_split_memory(const brt_model *model, const real *raw, size_t count, real *out);

/* The sentence of a token that is not in the vocabulary. */
brt_status brt_model_check_tokens(const brt_model *model, const int32_t *tokens, size_t count);

#endif
