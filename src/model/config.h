/* The constructor arguments of the model. config.c has the one table of keys: reading, writing, command-line flags and
 * documentation come from it. */
#ifndef BRT_MODEL_CONFIG_H
#define BRT_MODEL_CONFIG_H

#include "../base/json.h"

enum { BRT_MAX_DEPTH = 1024 };

typedef struct brt_layer_list {
    size_t count;
    int64_t layer[BRT_MAX_DEPTH];
} brt_layer_list;

/* How a state becomes the next one. */
typedef enum brt_state_cell {
    BRT_CELL_BLOCK_RECURRENT, /* Hutchins et al. 2022: attends to itself and to the block */
    BRT_CELL_MEMFORMER,       /* Wu et al. 2022: every vector to the block and to itself alone, and forgets by a bias */
} brt_state_cell;
/* Whose equations: those of the reference, or of the code of Hutchins et al. 2022 (docs/paper.md). */
typedef enum brt_arithmetic_kind { BRT_ARITHMETIC_REFERENCE, BRT_ARITHMETIC_PAPER } brt_arithmetic_kind;

/* How attention to the window knows where a key is. */
typedef enum brt_position_encoding {
    BRT_POSITION_XPOS,   /* rotary with length factors, the reference's */
    BRT_POSITION_ROTARY, /* without */
    BRT_POSITION_T5,     /* a learned bias of each head by ranges of distances, in every layer */
    BRT_POSITION_DYNAMIC, /* an MLP of the distance as a bias, one for all layers */
    BRT_POSITION_ALIBI,  /* a bias that falls with the distance */
    BRT_POSITION_NONE,
    /* The paper's only. */
    BRT_POSITION_ABSOLUTE, /* waves added to the embedding, from 0 in every segment */
    BRT_POSITION_FOURIER,  /* a bias of each head from waves of the distance */
    BRT_POSITION_NN,       /* from a hidden layer of the distance */
    BRT_POSITION_ORTHOGONAL, /* from curves that rise at growing distances, made orthogonal */
} brt_position_encoding;

enum {
    BRT_T5_BUCKETS = 32,
    BRT_T5_DISTANCE = 128,   /* from this distance on, the last bucket */
    BRT_FOURIER_WIDTH = 128, /* half of them cosines, half sines */
    BRT_NN_WIDTH = 128,      /* hidden units */
};

/* Which keys of memory and block a query sees. */
typedef enum brt_window_kind {
    BRT_WINDOW_BLOCK, /* all of the memory and those of the block up to itself, as the reference: block_width + 1 to
                         2 * block_width keys */
    BRT_WINDOW_EXACT,    /* block_width keys, the last its own */
    BRT_WINDOW_PREVIOUS, /* the block_width keys before its own, the paper's */
} brt_window_kind;

/* What lets a new state in, and what is made of it (the paper's "horizontal" direction). */
typedef enum brt_gate_kind { BRT_GATE_FIXED, BRT_GATE_LSTM, BRT_GATE_FULL, BRT_GATE_RESIDUAL } brt_gate_kind;
typedef enum brt_update_kind { BRT_UPDATE_SKIP, BRT_UPDATE_DUAL, BRT_UPDATE_SINGLE } brt_update_kind;
typedef enum brt_attention_scale { BRT_SCALE_SIGNED, BRT_SCALE_ABSOLUTE } brt_attention_scale;
typedef enum brt_logit_divisor { BRT_DIVISOR_VOCABULARY, BRT_DIVISOR_DIM } brt_logit_divisor;

/* What becomes of a block that leaves the window, with use_compressed_mem. */
typedef enum brt_compression {
    BRT_COMPRESSION_CONVOLUTION, /* the reference's */
    BRT_COMPRESSION_DILATED,     /* a convolution whose taps are two apart */
    BRT_COMPRESSION_MEAN,
    BRT_COMPRESSION_MAX,
    BRT_COMPRESSION_MOST_USED,   /* what got most attention */
} brt_compression;

/* How a routed memory keeps keys and values; in the order of brt_ring_type. */
typedef enum brt_routed_dtype { BRT_ROUTED_F32, BRT_ROUTED_BF16, BRT_ROUTED_INT8 } brt_routed_dtype;

struct brt_config {
    int64_t num_tokens, dim, depth, dim_head, heads;
    bool all_layers_qk_rmsnorm;
    double ff_mult;
    int64_t max_seq_len, block_width;
    brt_layer_list recurrent_layers, read_recurrent_layers; /* counted from 1, as the reference does */
    int64_t num_state_vectors, ignore_index;
    bool use_flash_attn, use_compressed_mem;
    int64_t compressed_mem_factor;
    int64_t position_encoding, window, kv_heads, compression;
    int64_t state_cell;
    double qk_logit_scale, state_gate_bias;
    bool recurrent_qk_rmsnorm, residual_gates, enhanced_recurrence;
    brt_layer_list routed_layers; /* counted from 1 */
    int64_t routed_capacity, routed_dtype, routes, routed_tokens, route_every;
    bool random_routes;
    brt_layer_list conditional_ff_layers; /* counted from 1 */
    int64_t conditional_ff_tokens;
    double light_ff_mult;
    int64_t arithmetic, state_gate, state_update, attention_scale, logit_divisor, position_terms;
    bool feedback, cosine_attention;
    double alibi_bound, position_end;
    uint64_t given; /* bit i: key i was set */
};

/* Sets every key of the object; `what` names it in errors. */
brt_status brt_config_from_json(brt_config *config, const json_t *object, const char *what);
/* A new object with every key. NULL when out of memory. */
json_t *brt_config_to_json(const brt_config *config);
/* Writes DIR/config.json. */
brt_status brt_config_save(const brt_config *config, const char *dir);
/* Whether the key was set. */
bool brt_config_is_given(const brt_config *config, const char *name);
/* Width of the feed-forward's hidden layer: int(dim * ff_mult * 2 / 3); the paper's: dim * ff_mult, rounded. */
size_t brt_config_ff_inner(const brt_config *config);
/* Whether layer (from 0) normalises its window's queries and keys. */
bool brt_config_normalises(const brt_config *config, size_t layer);
/* What logits are multiplied by, those of normalised queries and keys or others. */
double brt_config_logit_scale(const brt_config *config, bool normalised);
/* Whether memories are compressed by weights. */
bool brt_config_learns_compression(const brt_config *config);
/* Likewise of a light feed-forward: int(dim * light_ff_mult * 2 / 3). */
size_t brt_config_light_ff_inner(const brt_config *config);
/* How many of the listed layers, counted from 1, come before layer (from 0). */
size_t brt_config_rank(const brt_layer_list *list, size_t layer);
/* Whether layer (from 0) has a routed memory. */
bool brt_config_is_routed(const brt_config *config, size_t layer);
/* Whether its feed-forward is for chosen tokens only. */
bool brt_config_is_conditional(const brt_config *config, size_t layer);
/* Whether layer (from 0) has a state container; its read layer (from 0) in *read. */
bool brt_config_writes_state(const brt_config *config, size_t layer, size_t *read);

#endif
