/* The tokens' direction of a layer in the paper's arithmetic: RMSNorm, no biases, a feed-forward with relu. */
#include "arithmetic.h"

#include <stdio.h>

static void bind(brt_layer *layer, const brt_parameters *parameters, const brt_config *config)
{
    char prefix[64];
    snprintf(prefix, sizeof prefix, "transformer%zu/tbase/", layer->index);
    layer->norm_gain = brt_paper_find(parameters, prefix, "_kvq/pre_attn_layernorm/scale");
    layer->tokens = brt_paper_find_heads(parameters, prefix, config);
    layer->to_window = brt_paper_find_queries(parameters, prefix, config, false);
    layer->to_state = brt_paper_find_queries(parameters, prefix, config, true);
    layer->to_out = brt_paper_find_linear(parameters, prefix, "post_attn_mlp/output_layer");
    layer->ff_gain = brt_paper_find(parameters, prefix, "pre_ffn_layernorm/scale");
    layer->ff_in = brt_paper_find_linear(parameters, prefix, "ffn/hidden0");
    layer->ff_out = brt_paper_find_linear(parameters, prefix, "ffn/output_layer");
}

static brt_projection project(brt_tape *tape, const brt_layer *layer, brt_tensor *x, const brt_dropouts *dropouts)
{
    brt_tensor *normalised = brt_op_rms_norm(tape, x, layer->norm_gain);
    normalised = brt_drop(tape, dropouts, layer->index, BRT_DROP_BEFORE_ATTENTION, normalised, NULL);
    return (brt_projection){.normalised = normalised,
                            .raw_queries = brt_op_linear(tape, normalised, &layer->to_window.to_queries, NULL),
                            .raw_keys = brt_paper_raw_keys(tape, &layer->tokens, normalised)};
}

static brt_attention all_heads(const brt_layer *layer, const brt_tensor *out)
{
    return (brt_attention){.key_heads = layer->key_heads,
                           .heads = layer->heads,
                           .scale = brt_paper_logit_scale(&layer->tokens),
                           .out_row = out->shape[2],
                           .out_head = layer->dim_head};
}

static void attend_to_window(brt_tape *tape, const brt_layer *layer, brt_tensor *raw_queries, const brt_sight *sight,
                             brt_tensor *out, brt_tensor *log_sum_exp)
{
    brt_tensor *query = brt_paper_make_queries(tape, &layer->tokens, &layer->to_window, raw_queries,
                                               brt_positions_rotation(layer->positions), sight->first_query);
    brt_attention how = all_heads(layer, out);
    how.causal = true;
    how.strict = layer->strict;
    how.window = layer->window;
    how.first_query = sight->first_query;
    how.first_key = sight->first_key;
    how.log_sum_exp = log_sum_exp;
    how.dropout = brt_attention_dropout(sight->dropouts, layer->index);
    if (sight->bias)
        how.bias = brt_paper_scale_bias(tape, &layer->tokens, &layer->to_window, sight->bias);
    brt_op_attention(tape, query, sight->keys.key, sight->keys.value, &how, out);
    brt_tape_forget(tape, query);
}

static brt_heard recall(brt_tape *tape, const brt_layer *layer, brt_tensor *raw_queries, const brt_sight *sight)
{
    brt_recall how = *sight->recall;
    how.scale = brt_paper_logit_scale(&layer->tokens);
    brt_tensor *query = brt_paper_make_queries(tape, &layer->tokens, &layer->to_window, raw_queries, NULL, 0);
    return brt_op_recall(tape, query, NULL, NULL, &how, raw_queries->shape[0]);
}

/* The layer's second set, whosever state it is. */
static const brt_linear *state_queries(const brt_layer *layer, const brt_state_container *container)
{
    (void)container;
    return &layer->to_state.to_queries;
}

static void attend_to_state(brt_tape *tape, const brt_layer *layer, const brt_state_container *container,
                            const brt_keys *keys, brt_tensor *raw_queries, brt_tensor *out, size_t offset)
{
    brt_tensor *query = brt_paper_make_queries(tape, &layer->tokens, &layer->to_state, raw_queries, NULL, 0);
    brt_attention how = all_heads(layer, out);
    (void)container;
    how.out_offset = offset;
    brt_op_attention(tape, query, keys->key, keys->value, &how, out);
    brt_tape_forget(tape, query);
}

static brt_tensor *finish(brt_tape *tape, const brt_layer *layer, brt_tensor *x, brt_tensor *heard,
                          const brt_dropouts *dropouts, brt_choice *choice)
{
    (void)choice;
    x = brt_op_linear(tape, heard, &layer->to_out, x);
    brt_tensor *normalised = brt_op_rms_norm(tape, x, layer->ff_gain);
    brt_tensor *hidden = brt_op_linear(tape, normalised, &layer->ff_in, NULL);
    brt_tape_forget(tape, normalised);
    brt_tensor *bent = brt_op_relu(tape, hidden);
    brt_tensor *y = brt_op_linear(tape, bent, &layer->ff_out, brt_drops(dropouts) ? NULL : x);
    brt_tape_forget(tape, bent);
    if (!brt_drops(dropouts))
        return y;
    return brt_drop(tape, dropouts, layer->index, BRT_DROP_AFTER_FEED_FORWARD, y, x);
}

const brt_layer_arithmetic brt_paper_layer = {bind,          project,         attend_to_window, recall,
                                              state_queries, attend_to_state, finish};
