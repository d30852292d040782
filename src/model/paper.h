/* The arithmetic of Hutchins et al. 2022 as their own code has it (google-research/meliad): what layers and states
 * share. paper_config.c has the rules of its arguments, paper_parameters.c names, shapes and first values,
 * paper_heads.c this header's functions, paper_layer.c the tokens' direction, paper_state.c the states'. */
#ifndef BRT_MODEL_PAPER_H
#define BRT_MODEL_PAPER_H

#include "../ops/attention.h"
#include "../ops/ops.h"
#include "parameters.h"

/* ---- arguments -------------------------------------------------------------------------------------------------- */

void brt_paper_fill_defaults(brt_config *config);
/* After the rules of all models. */
brt_status brt_paper_check(const brt_config *config);

/* ---- keys, values and queries of tokens, or of states ----------------------------------------------------------- */

typedef struct brt_paper_heads {
    size_t count, key_heads, dim_head; /* count: of queries */
    bool by_cosine;                    /* keys and queries have length 1 */
    brt_linear to_keys, to_values;
} brt_paper_heads;

/* One of two sets of queries: to their own kind, or across to the other. */
typedef struct brt_paper_queries {
    brt_linear to_queries;
    brt_tensor *scale; /* [heads]; NULL without cosines */
    bool signed_scale; /* else its size counts */
} brt_paper_queries;

/* A gate after a matrix; which of its parameters there are depends on its kind. */
typedef struct brt_paper_gate {
    brt_gate_kind kind;
    brt_tensor *bias; /* fixed: [dim] */
    size_t kernels;
    brt_linear kernel[2]; /* full: one; lstm: to forget and to take in */
} brt_paper_gate;

/* Parameters by PREFIXname; where there is none, NULL, or a linear layer without weight. */
brt_tensor *brt_paper_find(const brt_parameters *parameters, const char *prefix, const char *name);
brt_linear brt_paper_find_linear(const brt_parameters *parameters, const char *prefix, const char *name);
brt_paper_heads brt_paper_find_heads(const brt_parameters *parameters, const char *prefix, const brt_config *config);
brt_paper_queries brt_paper_find_queries(const brt_parameters *parameters, const char *prefix,
                                         const brt_config *config, bool across);

/* x [batch, time, dim] -> [batch, time, keys | values], what is remembered: keys as attention wants them but for their
 * turn */
brt_tensor *brt_paper_raw_keys(brt_tape *tape, const brt_paper_heads *heads, brt_tensor *x);
/* What brt_op_attention multiplies logits with: the learned scales are in the queries. */
real brt_paper_logit_scale(const brt_paper_heads *heads);
/* raw_queries [batch, time, heads * dim_head], from queries->to_queries -> as brt_op_queries */
brt_tensor *brt_paper_make_queries(brt_tape *tape, const brt_paper_heads *heads, const brt_paper_queries *queries,
                                   brt_tensor *raw_queries, const brt_rotation *rotation, size_t first_query);
/* A bias by distance as attention adds it, before its scale. */
brt_tensor *brt_paper_scale_bias(brt_tape *tape, const brt_paper_heads *heads, const brt_paper_queries *queries,
                                 brt_tensor *bias);

#endif
