#include "arithmetic.h"

static size_t count_reads(const brt_config *config, size_t layer)
{
    size_t reads = 0;
    for (size_t i = 0; i < config->read_recurrent_layers.count; i++)
        reads += (size_t)config->read_recurrent_layers.layer[i] == layer + 1;
    return reads ? reads : config->feedback;
}

void brt_layer_bind(brt_layer *layer, const brt_parameters *parameters, const brt_config *config, size_t index,
                    const brt_positions *positions)
{
    *layer = (brt_layer){
        .arithmetic = brt_arithmetic_of(config),
        .key_heads = (size_t)config->kv_heads,
        .heads = (size_t)(config->heads / config->kv_heads),
        .dim_head = (size_t)config->dim_head,
        .index = index,
        .source = config->enhanced_recurrence ? (index + 1) % (size_t)config->depth : index,
        .reads = count_reads(config, index),
        .window = config->window == BRT_WINDOW_BLOCK ? 0 : (size_t)config->block_width,
        .strict = config->window == BRT_WINDOW_PREVIOUS,
        .positions = positions,
    };
    layer->arithmetic->layer->bind(layer, parameters, config);
}

brt_projection brt_layer_project(brt_tape *tape, const brt_layer *layer, brt_tensor *x, const brt_dropouts *dropouts)
{
    return layer->arithmetic->layer->project(tape, layer, x, dropouts);
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

static brt_heard attend_to_long_memory(brt_tape *tape, const brt_layer *layer, brt_tensor *raw_queries,
                                       const brt_sight *sight)
{
    if (!sight->recall)
        return brt_router_attend(tape, layer->router, raw_queries, sight->chosen, sight->chosen_first_key);
    if (layer->router)
        return brt_router_recall(tape, layer->router, raw_queries, sight->recall);
    return layer->arithmetic->layer->recall(tape, layer, raw_queries, sight);
}

/* Attention to the window, joined with that to a long memory, if there is one. */
static void attend_to_tokens(brt_tape *tape, const brt_layer *layer, brt_tensor *raw_queries, const brt_sight *sight,
                             brt_tensor *out)
{
    const brt_layer_arithmetic *arithmetic = layer->arithmetic->layer;
    if (!sight->chosen && !sight->recall) {
        arithmetic->attend_to_window(tape, layer, raw_queries, sight, out, NULL);
        return;
    }
    size_t batch = raw_queries->shape[0], time = raw_queries->shape[1];
    brt_heard near = {brt_tape_tensor(tape, BRT_SHAPE(batch, time, raw_queries->shape[2])),
                      brt_tape_tensor(tape, BRT_SHAPE(batch * layer->key_heads, time, layer->heads))};
    arithmetic->attend_to_window(tape, layer, raw_queries, sight, near.out, near.log_sum_exp);
    brt_heard far = attend_to_long_memory(tape, layer, raw_queries, sight);
    brt_tensor *gate = layer->router ? layer->router->gate : NULL;
    brt_op_join(tape, layer->key_heads * layer->heads, &near, &far, gate, out, 0);
}

static void attend_to_windows(brt_tape *tape, const brt_layer *layer, brt_tensor *raw_queries, const brt_sight *sights,
                              size_t count, brt_tensor *heard)
{
    for (size_t i = 0, row = 0; i < count; row += sights[i++].rows)
        attend_to_tokens(tape, layer, rows_of(tape, raw_queries, row, sights[i].rows), &sights[i],
                         rows_of(tape, heard, row, sights[i].rows));
}

/* The index-th of the states that the layer reads, into columns `offset`.. */
static void read_states(brt_tape *tape, const brt_layer *layer, brt_tensor *normalised, const brt_sight *sights,
                        size_t count, size_t index, brt_tensor *heard, size_t offset)
{
    const brt_layer_arithmetic *arithmetic = layer->arithmetic->layer;
    const brt_state_container *container = sights[0].containers[index];
    brt_tensor *raw_queries = brt_op_linear(tape, normalised, arithmetic->state_queries(layer, container), NULL);
    for (size_t i = 0, row = 0; i < count; row += sights[i++].rows)
        arithmetic->attend_to_state(tape, layer, container, &sights[i].states[index],
                                    rows_of(tape, raw_queries, row, sights[i].rows),
                                    rows_of(tape, heard, row, sights[i].rows), offset);
}

brt_tensor *brt_layer_attend(brt_tape *tape, const brt_layer *layer, brt_tensor *x, const brt_projection *projection,
                             const brt_sight *sights, size_t count, brt_choice *choice)
{
    /* All heads over the window, then all heads over each state. */
    size_t inner = layer->key_heads * layer->heads * layer->dim_head;
    brt_tensor *heard = brt_tape_tensor(tape, BRT_SHAPE(x->shape[0], x->shape[1], inner * (1 + layer->reads)));
    attend_to_windows(tape, layer, projection->raw_queries, sights, count, heard);
    for (size_t i = 0; i < layer->reads; i++)
        read_states(tape, layer, projection->normalised, sights, count, i, heard, inner * (1 + i));
    brt_tape_forget(tape, projection->normalised);
    brt_tensor *y = layer->arithmetic->layer->finish(tape, layer, x, heard, sights[0].dropouts, choice);
    brt_tape_round(tape, heard);
    return y;
}
