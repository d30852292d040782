#include "layer.h"

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

void brt_layer_bind(brt_layer *layer, const brt_parameters *parameters, const brt_config *config, size_t index,
                    const brt_positions *positions)
{
    *layer = (brt_layer){
        .key_heads = (size_t)config->kv_heads,
        .heads = (size_t)(config->heads / config->kv_heads),
        .dim_head = (size_t)config->dim_head,
        .index = index,
        .scale = (real)brt_config_logit_scale(config, brt_config_normalises(config, index)),
        .window = config->window == BRT_WINDOW_EXACT ? (size_t)config->block_width : 0,
        .positions = positions,
        .norm_gain = find(parameters, index, "0.norm.gamma"),
        .q_scale = find(parameters, index, "0.attn.q_scale"),
        .k_scale = find(parameters, index, "0.attn.k_scale"),
        .to_q = find_linear(parameters, index, "0.to_q"),
        .to_kv = find_linear(parameters, index, "0.to_kv"),
        .to_out = find_linear(parameters, index, "0.to_out"),
        .ff_gain = find(parameters, index, "1.0.gamma"),
        .ff_in = find_linear(parameters, index, "1.1"),
        .ff_out = find_linear(parameters, index, "1.3"),
        .residual_gate = find(parameters, index, "0.residual_gate"),
        .ff_residual_gate = find(parameters, index, "1.residual_gate"),
    };
    for (size_t i = 0; i < config->read_recurrent_layers.count; i++)
        layer->reads += (size_t)config->read_recurrent_layers.layer[i] == index + 1;
}

brt_projection brt_layer_project(brt_tape *tape, const brt_layer *layer, brt_tensor *x)
{
    brt_projection projection = {.normalised = brt_op_layer_norm(tape, x, layer->norm_gain)};
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
}

/* The same, joined with what the router has chosen. */
static void attend_to_window_and_chosen(brt_tape *tape, const brt_layer *layer, brt_tensor *raw_queries,
                                        const brt_sight *sight, brt_tensor *out)
{
    size_t batch = raw_queries->shape[0], time = raw_queries->shape[1];
    brt_heard near = {brt_tape_tensor(tape, BRT_SHAPE(batch, time, raw_queries->shape[2])),
                      brt_tape_tensor(tape, BRT_SHAPE(batch * layer->key_heads, time, layer->heads))};
    attend_to_window(tape, layer, raw_queries, sight, near.out, near.log_sum_exp);
    brt_heard far = brt_router_attend(tape, layer->router, raw_queries, sight->chosen, sight->chosen_first_key);
    brt_op_join(tape, layer->key_heads * layer->heads, &near, &far, layer->router->gate, out, 0);
}

/* x + linear(y), or with a gate g: g linear(y) + (1 - g) x */
static brt_tensor *add_to_stream(brt_tape *tape, brt_tensor *x, brt_tensor *y, const brt_linear *linear,
                                 brt_tensor *gate)
{
    return gate ? brt_op_ema(tape, gate, brt_op_linear(tape, y, linear, NULL), x) : brt_op_linear(tape, y, linear, x);
}

static brt_tensor *feed_forward(brt_tape *tape, const brt_layer *layer, brt_tensor *x)
{
    brt_tensor *hidden = brt_op_linear(tape, brt_op_layer_norm(tape, x, layer->ff_gain), &layer->ff_in, NULL);
    return add_to_stream(tape, x, brt_op_geglu(tape, hidden), &layer->ff_out, layer->ff_residual_gate);
}

/* Rows [first, first + rows) of a batch [rows, time, width]; all of them are the tensor itself. */
static brt_tensor *rows_of(brt_tape *tape, brt_tensor *all, size_t first, size_t rows)
{
    size_t time = all->shape[1], width = all->shape[2];
    if (rows == all->shape[0])
        return all;
    return brt_tape_external(tape, all->data ? all->data + first * time * width : NULL, NULL,
                             BRT_SHAPE(rows, time, width));
}

static void attend_to_windows(brt_tape *tape, const brt_layer *layer, brt_tensor *raw_queries, const brt_sight *sights,
                              size_t count, brt_tensor *heard)
{
    for (size_t i = 0, row = 0; i < count; row += sights[i++].rows) {
        brt_tensor *queries = rows_of(tape, raw_queries, row, sights[i].rows);
        brt_tensor *out = rows_of(tape, heard, row, sights[i].rows);
        if (sights[i].chosen)
            attend_to_window_and_chosen(tape, layer, queries, &sights[i], out);
        else
            attend_to_window(tape, layer, queries, &sights[i], out, NULL);
    }
}

/* The index-th of the states that the layer reads, into columns `offset`.. */
static void read_states(brt_tape *tape, brt_tensor *normalised, const brt_sight *sights, size_t count, size_t index,
                        brt_tensor *heard, size_t offset)
{
    const brt_state_container *container = sights[0].containers[index];
    brt_tensor *raw_queries = brt_op_linear(tape, normalised, &container->q_to_state, NULL);
    for (size_t i = 0, row = 0; i < count; row += sights[i++].rows)
        brt_state_read(tape, container, &sights[i].states[index], rows_of(tape, raw_queries, row, sights[i].rows),
                       rows_of(tape, heard, row, sights[i].rows), offset);
}

brt_tensor *brt_layer_attend(brt_tape *tape, const brt_layer *layer, brt_tensor *x, const brt_projection *projection,
                             const brt_sight *sights, size_t count)
{
    /* All heads over the window, then all heads over each state. */
    size_t inner = layer->key_heads * layer->heads * layer->dim_head;
    brt_tensor *heard = brt_tape_tensor(tape, BRT_SHAPE(x->shape[0], x->shape[1], inner * (1 + layer->reads)));
    attend_to_windows(tape, layer, projection->raw_queries, sights, count, heard);
    for (size_t i = 0; i < layer->reads; i++)
        read_states(tape, projection->normalised, sights, count, i, heard, inner * (1 + i));
    return feed_forward(tape, layer, add_to_stream(tape, x, heard, &layer->to_out, layer->residual_gate));
}
