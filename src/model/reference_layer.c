/* A layer as the reference computes it: LayerNorm, queries and keys normalised where asked for, a feed-forward with
 * GEGLU. */
#include "arithmetic.h"

#include "../ops/compression.h"

static brt_tensor *find(const brt_parameters *parameters, size_t layer, const char *name)
{
    brt_parameter *found = brt_parameters_find(parameters, "layers.%zu.%s", layer, name);
    return found ? &found->tensor : NULL;
}

static brt_linear find_linear(const brt_parameters *parameters, size_t layer, const char *name)
{
    return brt_parameter_linear(brt_parameters_find(parameters, "layers.%zu.%s.weight", layer, name), NULL);
}

static void bind(brt_layer *layer, const brt_parameters *parameters, const brt_config *config)
{
    size_t index = layer->index;
    layer->scale = (real)brt_config_logit_scale(config, brt_config_normalises(config, index));
    layer->norm_gain = find(parameters, index, "0.norm.gamma");
    layer->q_scale = find(parameters, index, "0.attn.q_scale");
    layer->k_scale = find(parameters, index, "0.attn.k_scale");
    layer->to_q = find_linear(parameters, index, "0.to_q");
    layer->to_kv = find_linear(parameters, index, "0.to_kv");
    layer->to_out = find_linear(parameters, index, "0.to_out");
    layer->ff_gain = find(parameters, index, "1.0.gamma");
    layer->ff_in = find_linear(parameters, index, "1.1");
    layer->ff_out = find_linear(parameters, index, "1.3");
    brt_conditional_ff_bind(&layer->conditional, parameters, config, index);
    layer->residual_gate = find(parameters, index, "0.residual_gate");
    layer->ff_residual_gate = find(parameters, index, "1.residual_gate");
}

static brt_projection project(brt_tape *tape, const brt_layer *layer, brt_tensor *x, const brt_dropouts *dropouts)
{
    brt_projection projection = {.normalised = brt_op_layer_norm(tape, x, layer->norm_gain)};
    (void)dropouts;
    projection.raw_queries = brt_op_linear(tape, projection.normalised, &layer->to_q, NULL);
    projection.raw_keys = brt_op_linear(tape, projection.normalised, &layer->to_kv, NULL);
    return projection;
}

/* Causal attention over memory and block, into the first columns of `out`. */
static void attend_to_window(brt_tape *tape, const brt_layer *layer, brt_tensor *raw_queries, const brt_sight *sight,
                             brt_tensor *out, brt_tensor *log_sum_exp)
{
    brt_tensor *query = brt_op_queries(tape, raw_queries, layer->key_heads, layer->heads, layer->q_scale,
                                       brt_positions_rotation(layer->positions), sight->first_query);
    brt_attention how = {.key_heads = layer->key_heads,
                         .heads = layer->heads,
                         .scale = layer->scale,
                         .causal = true,
                         .strict = layer->strict,
                         .window = layer->window,
                         .bias = sight->bias ? brt_op_scale(tape, sight->bias, NULL, 1 / layer->scale) : NULL,
                         .first_query = sight->first_query,
                         .first_key = sight->first_key,
                         .log_sum_exp = log_sum_exp,
                         .out_row = out->shape[2],
                         .out_head = layer->dim_head};
    if (sight->usage && !log_sum_exp)
        how.log_sum_exp = brt_tape_tensor(tape, 3, query->shape);
    brt_op_attention(tape, query, sight->keys.key, sight->keys.value, &how, out);
    if (sight->usage)
        brt_op_usage(tape, query, sight->keys.key, &how, sight->first_used, sight->usage);
    brt_tape_forget(tape, query);
}

static brt_heard recall(brt_tape *tape, const brt_layer *layer, brt_tensor *raw_queries, const brt_sight *sight)
{
    brt_recall how = *sight->recall;
    how.scale = layer->scale;
    brt_tensor *query = brt_op_queries_in_parts(tape, raw_queries, raw_queries->shape[1], layer->key_heads,
                                                layer->heads, sight->recall_scale);
    return brt_op_recall(tape, query, NULL, NULL, &how, raw_queries->shape[0]);
}

/* The container's: each state has its own. */
static const brt_linear *state_queries(const brt_layer *layer, const brt_state_container *container)
{
    (void)layer;
    return &container->q_to_state;
}

static void attend_to_state(brt_tape *tape, const brt_layer *layer, const brt_state_container *container,
                            const brt_keys *keys, brt_tensor *raw_queries, brt_tensor *out, size_t offset)
{
    brt_tensor *query =
        brt_op_queries(tape, raw_queries, layer->key_heads, layer->heads, container->to_state_q_scale, NULL, 0);
    brt_attention how = {.key_heads = layer->key_heads,
                         .heads = layer->heads,
                         .scale = container->scale,
                         .out_row = out->shape[2],
                         .out_offset = offset,
                         .out_head = layer->dim_head};
    brt_op_attention(tape, query, keys->key, keys->value, &how, out);
    brt_tape_forget(tape, query);
}

/* The feed-forward of the normalised x, of all tokens or as they are chosen, + residual (or NULL) */
static brt_tensor *feed_forward(brt_tape *tape, const brt_layer *layer, brt_tensor *normalised, brt_tensor *residual,
                                brt_choice *choice)
{
    if (layer->conditional.tokens)
        return brt_conditional_ff_forward(tape, &layer->conditional, &layer->ff_in, &layer->ff_out, normalised,
                                          residual, choice);
    return brt_op_feed_forward(tape, normalised, &layer->ff_in, &layer->ff_out, residual);
}

/* A gate g makes of x + y the mean g y + (1 - g) x. */
static brt_tensor *finish(brt_tape *tape, const brt_layer *layer, brt_tensor *x, brt_tensor *heard,
                          const brt_dropouts *dropouts, brt_choice *choice)
{
    brt_tensor *gate = layer->residual_gate, *ff_gate = layer->ff_residual_gate;
    (void)dropouts;
    brt_tensor *y = brt_op_linear(tape, heard, &layer->to_out, gate ? NULL : x);
    x = gate ? brt_op_ema(tape, gate, y, x) : y;
    brt_tensor *normalised = brt_op_layer_norm(tape, x, layer->ff_gain);
    y = feed_forward(tape, layer, normalised, ff_gate ? NULL : x, choice);
    brt_tape_forget(tape, normalised);
    return ff_gate ? brt_op_ema(tape, ff_gate, y, x) : y;
}

const brt_layer_arithmetic brt_reference_layer = {bind,          project,         attend_to_window, recall,
                                                  state_queries, attend_to_state, finish};
