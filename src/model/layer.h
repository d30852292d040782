/* One layer: attention over memory, block and states, then a feed-forward, both residual. */
#ifndef BRT_MODEL_LAYER_H
#define BRT_MODEL_LAYER_H

#include "conditional_ff.h"
#include "dropouts.h"
#include "paper.h"
#include "positions.h"
#include "routed.h"
#include "state_container.h"

typedef struct brt_layer {
    const brt_arithmetic *arithmetic;
    size_t key_heads, heads, dim_head; /* heads: queries' of one key head */
    size_t index, reads;               /* reads: states read here */
    size_t source;                     /* the layer whose memory it reads: itself, or with enhanced recurrence (Ding et
                                          al. 2021) the next one, and the first one's the last */
    size_t window;                     /* keys that a token sees; 0: all of memory and block */
    bool strict;                       /* a token does not see itself */
    const brt_positions *positions;
    const brt_router *router;          /* NULL without a routed memory */
    brt_tensor *norm_gain, *ff_gain;
    brt_linear to_out, ff_in, ff_out;
    /* The reference's. */
    real scale;                    /* of the window's logits */
    brt_tensor *q_scale, *k_scale; /* NULL without qk normalisation */
    brt_linear to_q, to_kv;
    brt_tensor *residual_gate, *ff_residual_gate; /* [dim], or NULL: the residual stream is a sum */
    brt_conditional_ff conditional;
    /* The paper's. */
    brt_paper_heads tokens;
    brt_paper_queries to_window, to_state;
} brt_layer;

void brt_layer_bind(brt_layer *layer, const brt_parameters *parameters, const brt_config *config, size_t index,
                    const brt_positions *positions);

/* The layer's input x [batch, time, dim], normalised, and what is made of it for attention. */
typedef struct brt_projection {
    brt_tensor *normalised;
    brt_tensor *raw_queries; /* [batch, time, key_heads * heads * dim_head] */
    brt_tensor *raw_keys;    /* [batch, time, 2 * key_heads * dim_head]: keys | values, what is remembered */
} brt_projection;
brt_projection brt_layer_project(brt_tape *tape, const brt_layer *layer, brt_tensor *x, const brt_dropouts *dropouts);

/* What the queries of a block see: of all rows of a batch, or of some of them. */
typedef struct brt_sight {
    size_t rows;
    brt_keys keys;           /* of memory and block: [batch * key_heads, keys, dim_head] */
    brt_tensor *bias;        /* brt_positions_bias */
    const size_t *first_key; /* [batch]: rows without memory see the block only */
    size_t first_query;      /* key index of the first query: the width of the memory + what the block already holds */
    const brt_routed *chosen; /* of the routed memory; its first_key [batch * parts] */
    const size_t *chosen_first_key;
    const brt_recall *recall; /* instead, all that is remembered; `recall_scale` [dim_head] scales normalised queries
                               * where there is no router */
    brt_tensor *recall_scale;
    const brt_keys *states;  /* [layer->reads], of the states read here, ascending by the layer that writes them */
    const brt_state_container *const *containers;
    brt_tensor *usage;       /* out, or NULL where not wanted: [batch, ...], how much attention the keys from first_used
                              * on get */
    size_t first_used;
    const brt_dropouts *dropouts; /* NULL: none */
} brt_sight;
/* The rows of the batch have `count` sights, one after the other, whose first dimension "batch" is their rows (more
 * than one for inference only) -> the layer's output, [batch, time, dim] */
brt_tensor *brt_layer_attend(brt_tape *tape, const brt_layer *layer, brt_tensor *x, const brt_projection *projection,
                             const brt_sight *sights, size_t count, brt_choice *choice);

/* What the layer's arithmetic does its own way. */
typedef struct brt_layer_arithmetic {
    void (*bind)(brt_layer *layer, const brt_parameters *parameters, const brt_config *config);
    brt_projection (*project)(brt_tape *tape, const brt_layer *layer, brt_tensor *x, const brt_dropouts *dropouts);
    /* Attention of the rows of one sight to the window, into the first columns of `out` [rows, time, ...]; log_sum_exp
     * as brt_attention has it, or NULL. */
    void (*attend_to_window)(brt_tape *tape, const brt_layer *layer, brt_tensor *raw_queries, const brt_sight *sight,
                             brt_tensor *out, brt_tensor *log_sum_exp);
    /* Exact recall in a layer without a router: with its own logits, as if no position lay between. */
    brt_heard (*recall)(brt_tape *tape, const brt_layer *layer, brt_tensor *raw_queries, const brt_sight *sight);
    /* What makes raw queries to a state of the normalised input, and their attention, into columns `offset`.. */
    const brt_linear *(*state_queries)(const brt_layer *layer, const brt_state_container *container);
    void (*attend_to_state)(brt_tape *tape, const brt_layer *layer, const brt_state_container *container,
                            const brt_keys *keys, brt_tensor *raw_queries, brt_tensor *out, size_t offset);
    /* x and what was heard -> the layer's output */
    brt_tensor *(*finish)(brt_tape *tape, const brt_layer *layer, brt_tensor *x, brt_tensor *heard,
                          const brt_dropouts *dropouts, brt_choice *choice);
} brt_layer_arithmetic;
extern const brt_layer_arithmetic brt_reference_layer, brt_paper_layer;

#endif
