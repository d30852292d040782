/* A recurrent state: a set of vectors per row, read by one layer and written, through a gate, by the same or a later
 * one, once per block (Hutchins et al. 2022, "Recurrent cell"). With feedback every layer reads it. */
#ifndef BRT_MODEL_STATE_CONTAINER_H
#define BRT_MODEL_STATE_CONTAINER_H

#include "paper.h"

typedef struct brt_arithmetic brt_arithmetic;

/* Of what a state's vectors heard: one matrix, or two in a row. */
typedef struct brt_state_projection {
    brt_linear first, second; /* second: without weight where there is one */
} brt_state_projection;
enum { BRT_STATE_PROJECTIONS = 3 }; /* at most */

typedef struct brt_state_container {
    const brt_arithmetic *arithmetic;
    size_t write_layer, read_layer;    /* from 0 */
    size_t key_heads, heads, dim_head; /* heads: queries' of one key head */
    brt_tensor *initial;               /* [vectors, dim] */
    brt_tensor *ids;                   /* [vectors, dim] */
    brt_tensor *norm_gain;
    real scale;                      /* of the logits of the write's attentions */
    bool hears_memory;               /* not the block alone */
    size_t heard_head, heard_tokens; /* see brt_state_heard_width */
    size_t projections;
    brt_state_projection projection[BRT_STATE_PROJECTIONS]; /* of what is heard: what the update begins with */
    /* The reference's; scales NULL in the paper's. */
    brt_tensor *forget_bias; /* [vectors, dim], of Memformer's cell; NULL: the block-recurrent one */
    brt_tensor *beta;        /* [dim], the gate */
    brt_linear q_to_state, q_from_state, state_to_kv;
    brt_linear state_to_q; /* not of Memformer's; nor is self_q_scale */
    brt_tensor *to_state_q_scale, *to_state_k_scale;
    brt_tensor *self_q_scale, *self_k_scale;
    brt_tensor *from_state_q_scale, *from_state_k_scale;
    /* The paper's. */
    brt_paper_heads vectors;
    brt_paper_queries to_itself, to_tokens;
    brt_update_kind update;
    brt_paper_gate gate, ff_gate; /* after attention, after the feed-forward */
    brt_linear ff_in, ff_out;
    brt_tensor *ff_gain;
} brt_state_container;

void brt_state_container_bind(brt_state_container *container, const brt_parameters *parameters,
                              const brt_config *config, size_t write_layer, size_t read_layer);

/* What reading and writing share: the state as it was before the block. */
typedef struct brt_state_view {
    brt_tensor *state;      /* [batch, vectors, dim]: brt_state_recall */
    brt_tensor *normalised; /* norm(state) + ids */
    brt_tensor *raw_keys;   /* [batch, vectors, 2 * key_heads * dim_head]: keys | values */
} brt_state_view;
brt_state_view brt_state_open(brt_tape *tape, const brt_state_container *container, brt_tensor *state);
/* Keys and values for the readers. */
brt_keys brt_state_keys(brt_tape *tape, const brt_state_container *container, const brt_state_view *view);

/* What the container's arithmetic does its own way. */
typedef struct brt_state_arithmetic {
    void (*bind)(brt_state_container *container, const brt_parameters *parameters, const brt_config *config);
    brt_tensor *(*raw_keys)(brt_tape *tape, const brt_state_container *container, brt_tensor *normalised);
    /* to the state itself, or to tokens: [batch * key_heads, vectors, heads, dim_head] */
    brt_tensor *(*queries)(brt_tape *tape, const brt_state_container *container, brt_tensor *normalised,
                           bool to_tokens);
    /* The next state, from the container's projections of what was heard. */
    brt_tensor *(*update)(brt_tape *tape, const brt_state_container *container, brt_tensor *const *projected,
                          brt_tensor *state);
} brt_state_arithmetic;
extern const brt_state_arithmetic brt_reference_state, brt_paper_state;

/* The layer that writes: the state attends to itself and to raw keys and values of tokens,
 * [batch, tokens, 2 * key_heads * dim_head]: the block's, and those of the memory before it where hears_memory. Returns
 * the next state. */
brt_tensor *brt_state_write(brt_tape *tape, const brt_state_container *container, const brt_state_view *view,
                            brt_tensor *memory, brt_tensor *block);

/* ---- the write in parts, for streams: most of it needs no more than the state as it was ----------------------
 * All of it is done by vector: a container with the ids and forget_bias of some serves for them alone. */

/* A state as the cell finds it: for Memformer (state + bias) / |state + bias|, else the state. */
brt_tensor *brt_state_recall(brt_tape *tape, const brt_state_container *container, brt_tensor *state);
/* Its norm + ids. */
brt_tensor *brt_state_normalise(brt_tape *tape, const brt_state_container *container, brt_tensor *state);
/* Keys and values for the state itself. */
brt_keys brt_state_own_keys(brt_tape *tape, const brt_state_container *container, const brt_state_view *view);
/* What vectors hear, [batch, vectors, heard_width]: head h of all from the state itself in the dim_head columns from
 * h * heard_head on, from tokens in those from h * heard_head + heard_tokens on. For Memformer both are the same: from
 * a vector itself and the block together. */
size_t brt_state_heard_width(const brt_state_container *container);
bool brt_state_hears_apart(const brt_state_container *container); /* not for Memformer */
/* From the state itself: vectors first, first + 1, ... hear all of it, or, for Memformer, themselves; then log_sum_exp
 * [batch * key_heads, vectors, heads] joins it with the block. query: brt_state_token_queries, for Memformer. */
void brt_state_hear_itself(brt_tape *tape, const brt_state_container *container, brt_tensor *normalised,
                           brt_tensor *query, size_t first, const brt_keys *keys, brt_tensor *heard,
                           brt_tensor *log_sum_exp);
/* From tokens: queries [batch * key_heads, vectors, heads, dim_head], ... */
brt_tensor *brt_state_token_queries(brt_tape *tape, const brt_state_container *container, brt_tensor *normalised);
/* ... and keys and values, [batch * key_heads, tokens, dim_head], of a chunk of raw ones of the block, and of as many
 * of the memory where hears_memory. */
brt_keys brt_state_token_keys(brt_tape *tape, const brt_state_container *container, brt_tensor *memory,
                              brt_tensor *block);
/* The queries attend to those of a chunk: out [batch, vectors, all heads * dim_head], and the logarithm of the
 * softmax's sum, [batch * key_heads, vectors, heads], to join chunks by. */
void brt_state_hear_chunk(brt_tape *tape, const brt_state_container *container, brt_tensor *query, brt_tensor *memory,
                          brt_tensor *block, brt_tensor *out, brt_tensor *log_sum_exp);
/* Of what was heard, or of a share of it, with zeros in the columns of the rest. */
brt_tensor *brt_state_project(brt_tape *tape, const brt_state_projection *projection, brt_tensor *heard);
/* Of the tokens' share, [batch, vectors, all heads * dim_head], the same by one matrix [out, all heads * dim_head] for
 * both in a row, without biases: a third of the work, for what can only be done when all tokens have been heard. */
brt_tensor *brt_state_token_projection(brt_tape *tape, const brt_state_container *container,
                                       const brt_state_projection *projection);
/* Numbers that a projection makes of what a vector heard. */
size_t brt_state_projected_width(const brt_state_projection *projection);
/* The next state. */
brt_tensor *brt_state_update(brt_tape *tape, const brt_state_container *container, brt_tensor *const *projected,
                             brt_tensor *state);

#endif
