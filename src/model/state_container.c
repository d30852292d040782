#include "state_container.h"

#include "../ops/attention.h"

#include <stdio.h>

/* NULL when the cell has none of the name. */
static brt_tensor *find(const brt_parameters *parameters, const char *prefix, const char *name)
{
    brt_parameter *found = brt_parameters_find(parameters, "%s%s", prefix, name);
    return found ? &found->tensor : NULL;
}

static brt_linear find_linear(const brt_parameters *parameters, const char *prefix, const char *name)
{
    return brt_parameter_linear(brt_parameters_find(parameters, "%s%s.weight", prefix, name),
                                brt_parameters_find(parameters, "%s%s.bias", prefix, name));
}

void brt_state_container_bind(brt_state_container *container, const brt_parameters *parameters,
                              const brt_config *config, size_t write_layer, size_t read_layer)
{
    char prefix[64];
    snprintf(prefix, sizeof prefix, "layers.%zu.0.state_container.", write_layer);
    *container = (brt_state_container){
        .write_layer = write_layer,
        .read_layer = read_layer,
        .key_heads = (size_t)config->kv_heads,
        .heads = (size_t)(config->heads / config->kv_heads),
        .dim_head = (size_t)config->dim_head,
        .scale = (real)brt_config_logit_scale(config, true),
        .initial = find(parameters, prefix, "init_state"),
        .forget_bias = find(parameters, prefix, "forget_bias"),
        .ids = find(parameters, prefix, "state_pos_ids"),
        .beta = find(parameters, prefix, "learned_ema_beta"),
        .norm_gain = find(parameters, prefix, "state_norm.gamma"),
        .q_to_state = find_linear(parameters, prefix, "q_to_state"),
        .q_from_state = find_linear(parameters, prefix, "q_from_state"),
        .state_to_kv = find_linear(parameters, prefix, "state_to_kv"),
        .to_state_out = find_linear(parameters, prefix, "to_state_out"),
        .state_out_to_gate = find_linear(parameters, prefix, "state_out_to_gate"),
        .to_state_q_scale = find(parameters, prefix, "to_state_cross_attn.q_scale"),
        .to_state_k_scale = find(parameters, prefix, "to_state_cross_attn.k_scale"),
        .self_q_scale = find(parameters, prefix, "state_self_attn.q_scale"),
        .self_k_scale = find(parameters, prefix, "state_self_attn.k_scale"),
        .from_state_q_scale = find(parameters, prefix, "from_state_cross_attn.q_scale"),
        .from_state_k_scale = find(parameters, prefix, "from_state_cross_attn.k_scale"),
    };
    if (!container->forget_bias)
        container->state_to_q = find_linear(parameters, prefix, "state_to_q");
}

brt_tensor *brt_state_recall(brt_tape *tape, brt_tensor *state, brt_tensor *bias)
{
    return bias ? brt_op_unit(tape, brt_op_add_rows(tape, state, bias), 1, NULL) : state;
}

brt_tensor *brt_state_normalise(brt_tape *tape, const brt_state_container *container, brt_tensor *state,
                                brt_tensor *ids)
{
    return brt_op_add_rows(tape, brt_op_layer_norm(tape, state, container->norm_gain), ids);
}

brt_state_view brt_state_open(brt_tape *tape, const brt_state_container *container, brt_tensor *state)
{
    brt_state_view view = {.state = brt_state_recall(tape, state, container->forget_bias)};
    view.normalised = brt_state_normalise(tape, container, view.state, container->ids);
    view.raw_keys = brt_op_linear(tape, view.normalised, &container->state_to_kv, NULL);
    return view;
}

brt_keys brt_state_keys(brt_tape *tape, const brt_state_container *container, const brt_state_view *view)
{
    return brt_op_keys(tape, 1, &view->raw_keys, container->key_heads, container->to_state_k_scale, NULL);
}

size_t brt_state_heard_width(const brt_state_container *container)
{
    size_t inner = container->key_heads * container->heads * container->dim_head;
    return container->forget_bias ? inner : 2 * inner;
}

/* State attentions have neither positions nor a mask. */
static brt_attention unmasked(const brt_state_container *container, size_t row, size_t offset, size_t head)
{
    return (brt_attention){.key_heads = container->key_heads,
                           .heads = container->heads,
                           .scale = container->scale,
                           .out_row = row,
                           .out_offset = offset,
                           .out_head = head};
}

void brt_state_read(brt_tape *tape, const brt_state_container *container, const brt_keys *keys,
                    brt_tensor *raw_queries, brt_tensor *out, size_t offset)
{
    brt_tensor *query = brt_op_queries(tape, raw_queries, container->key_heads, container->heads,
                                       container->to_state_q_scale, NULL, 0);
    brt_attention how = unmasked(container, out->shape[2], offset, container->dim_head);
    brt_op_attention(tape, query, keys->key, keys->value, &how, out);
}

/* ---- the write ------------------------------------------------------------------------------------------ */

static brt_tensor *make_queries(brt_tape *tape, const brt_state_container *container, brt_tensor *normalised,
                                const brt_linear *to_query, brt_tensor *scale)
{
    brt_tensor *projected = brt_op_linear(tape, normalised, to_query, NULL);
    return brt_op_queries(tape, projected, container->key_heads, container->heads, scale, NULL, 0);
}

brt_keys brt_state_own_keys(brt_tape *tape, const brt_state_container *container, const brt_state_view *view)
{
    /* Memformer's softmax is one over a vector itself and the block: their keys have one scale. */
    brt_tensor *scale = container->forget_bias ? container->from_state_k_scale : container->self_k_scale;
    return brt_op_keys(tape, 1, &view->raw_keys, container->key_heads, scale, NULL);
}

void brt_state_hear_itself(brt_tape *tape, const brt_state_container *container, brt_tensor *normalised,
                           brt_tensor *query, size_t first, const brt_keys *keys, brt_tensor *heard,
                           brt_tensor *log_sum_exp)
{
    brt_attention how = unmasked(container, heard->shape[2], 0, 2 * container->dim_head);
    if (container->forget_bias) { /* a window of one key: a vector's own */
        how.causal = true;
        how.window = 1;
        how.first_query = first;
        how.log_sum_exp = log_sum_exp;
        how.out_head = container->dim_head;
    } else {
        query = make_queries(tape, container, normalised, &container->state_to_q, container->self_q_scale);
    }
    brt_op_attention(tape, query, keys->key, keys->value, &how, heard);
}

brt_tensor *brt_state_block_queries(brt_tape *tape, const brt_state_container *container, brt_tensor *normalised)
{
    return make_queries(tape, container, normalised, &container->q_from_state, container->from_state_q_scale);
}

static void attend_to_block(brt_tape *tape, const brt_state_container *container, brt_tensor *query, brt_tensor *block,
                            const brt_attention *how, brt_tensor *out)
{
    brt_keys keys = brt_op_keys(tape, 1, &block, container->key_heads, container->from_state_k_scale, NULL);
    brt_op_attention(tape, query, keys.key, keys.value, how, out);
}

void brt_state_hear_chunk(brt_tape *tape, const brt_state_container *container, brt_tensor *query, brt_tensor *chunk,
                          brt_tensor *out, brt_tensor *log_sum_exp)
{
    brt_attention how = unmasked(container, out->shape[2], 0, container->dim_head);
    how.log_sum_exp = log_sum_exp;
    attend_to_block(tape, container, query, chunk, &how, out);
}

brt_tensor *brt_state_update(brt_tape *tape, const brt_state_container *container, brt_tensor *heard, brt_tensor *state)
{
    brt_tensor *out = brt_op_linear(tape, heard, &container->to_state_out, NULL);
    brt_tensor *update = brt_op_linear(tape, out, &container->state_out_to_gate, NULL);
    return brt_op_ema(tape, container->beta, update, state);
}

/* Memformer: one softmax over a vector itself and the block. */
static brt_tensor *hear_as_one(brt_tape *tape, const brt_state_container *c, const brt_state_view *view,
                               const brt_keys *own, brt_tensor *query, brt_tensor *block)
{
    size_t batch = view->state->shape[0], vectors = view->state->shape[1], width = brt_state_heard_width(c);
    brt_heard both[2];
    for (int i = 0; i < 2; i++)
        both[i] = (brt_heard){brt_tape_tensor(tape, BRT_SHAPE(batch, vectors, width)),
                              brt_tape_tensor(tape, BRT_SHAPE(batch * c->key_heads, vectors, c->heads))};
    brt_state_hear_itself(tape, c, view->normalised, query, 0, own, both[0].out, both[0].log_sum_exp);
    brt_state_hear_chunk(tape, c, query, block, both[1].out, both[1].log_sum_exp);
    brt_tensor *heard = brt_tape_tensor(tape, BRT_SHAPE(batch, vectors, width));
    brt_op_join(tape, c->key_heads * c->heads, &both[0], &both[1], NULL, heard, 0);
    return heard;
}

/* Side by side: from the whole state, from the block. */
static brt_tensor *hear_apart(brt_tape *tape, const brt_state_container *c, const brt_state_view *view,
                              const brt_keys *own, brt_tensor *query, brt_tensor *block)
{
    size_t batch = view->state->shape[0], vectors = view->state->shape[1], width = brt_state_heard_width(c);
    brt_tensor *heard = brt_tape_tensor(tape, BRT_SHAPE(batch, vectors, width));
    brt_state_hear_itself(tape, c, view->normalised, query, 0, own, heard, NULL);
    brt_attention how = unmasked(c, width, c->dim_head, 2 * c->dim_head);
    attend_to_block(tape, c, query, block, &how, heard);
    return heard;
}

brt_tensor *brt_state_write(brt_tape *tape, const brt_state_container *container, const brt_state_view *view,
                            brt_tensor *block)
{
    brt_keys own = brt_state_own_keys(tape, container, view);
    brt_tensor *query = brt_state_block_queries(tape, container, view->normalised);
    brt_tensor *heard = container->forget_bias ? hear_as_one(tape, container, view, &own, query, block)
                                               : hear_apart(tape, container, view, &own, query, block);
    return brt_state_update(tape, container, heard, view->state);
}
