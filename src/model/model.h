/* The model: parameters bound to layers and states, and its forward pass over one block. */
#ifndef BRT_MODEL_MODEL_H
#define BRT_MODEL_MODEL_H

#include "arithmetic.h"
#include "carried.h"
#include "compressor.h"

struct brt_model {
    brt_config config;
    brt_parameters parameters;
    const brt_kernels *kernels;
    brt_positions positions;
    size_t depth, containers;
    brt_slots slots;
    brt_layer *layers;
    brt_compressor *compressors;          /* [depth], or NULL: no compressed memory */
    size_t routed;                        /* layers with a routed memory */
    brt_router *routers;                  /* [routed], ascending by layer */
    brt_state_container *container;       /* [containers], ascending by the layer that writes */
    const brt_state_container **readers;  /* grouped by the layer that reads, in that order */
    size_t *first_reader;                 /* [depth]: a layer's readers begin here */
    const brt_arithmetic *arithmetic;
    brt_table embedding;
    brt_tensor *final_gain;
    brt_linear to_logits;
    real logit_divisor; /* 1, or what the paper's logits are divided by */
};

/* A model with its parameters allocated but not set, in the precisions that are chosen (NULL: F32); the configuration
 * is checked and copied. Set them before anything reads the model. */
brt_status brt_model_allocate(brt_model **out, const brt_config *config, brt_choose_precision *choose,
                              const void *context);

/* The loss of what a block's compressors leave out: brt_compressor_loss. */
typedef struct brt_reconstruction {
    real weight;             /* of each row's and layer's in the gradient; 0: there is none */
    const size_t *first_old; /* [batch]: 0, or where a row has no window a number past it; lives until backward */
    double loss;             /* out: the sum over rows and layers */
} brt_reconstruction;

/* One block of a batch on its way through the layers. */
typedef struct brt_block {
    size_t batch, time;
    const int32_t *tokens;   /* [batch, time], each in the vocabulary; lives until backward */
    brt_tensor **carried;    /* [slots], each [batch, vectors, width]; in: what this block reads (states after resets);
                                out: what it leaves */
    const size_t *first_key; /* [batch]: brt_carried_first_key of each row; lives until backward */
    brt_remembered remembered; /* by routed layers */
    const size_t *offset;    /* [batch]: of the block in its segment, for absolute positions; lives until backward */
    bool complete;           /* block_width tokens: what it leaves is carried on, else only its output is used */
    const brt_dropouts *dropouts; /* NULL: none */
    brt_reconstruction reconstruction;
} brt_block;
/* -> the last layer's output [batch, time, dim]; `carried` is replaced by the block's own. A full block moves the
 * windows of routed layers to their rings, unless they are there already because the block is run again. */
brt_tensor *brt_model_block(brt_tape *tape, const brt_model *model, brt_block *block);
/* tokens [batch, time] -> [batch, time, dim]: the first layer's input. offset as in a block; all live until
 * backward. */
brt_tensor *brt_model_embed(brt_tape *tape, const brt_model *model, const int32_t *tokens, size_t batch, size_t time,
                            const size_t *offset);
/* x [batch, time, dim] -> logits [batch, time, num_tokens] */
brt_tensor *brt_model_logits(brt_tape *tape, const brt_model *model, brt_tensor *x, const brt_dropouts *dropouts);

/* Whether some compression asks how much attention the memory gets. */
bool brt_model_wants_usage(const brt_model *model);

/* Keys that the row with the most blocks behind it has as memory; past [rows]. */
size_t brt_model_memory_length(const brt_model *model, const uint64_t *past, size_t rows);
/* A layer's memories of all rows -> out [2, rows, length, kv_heads * dim_head]: keys, then values, the newest `length`
 * of compressed memory | window.
 * carried [slots]: each [rows, vectors, width]. BRT_ERROR_ARGUMENT when there is no such layer. */
brt_status brt_model_copy_memories(const brt_model *model, real *const *carried, size_t rows, size_t layer,
                                   size_t length, real *out);
/* The sentence of a state that is not there: index counts the recurrent layers. */
brt_status brt_model_check_state(const brt_model *model, size_t index);

/* The sentence of a token that is not in the vocabulary. */
brt_status brt_model_check_tokens(const brt_model *model, const int32_t *tokens, size_t count);

#endif
