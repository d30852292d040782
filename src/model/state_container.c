#include "arithmetic.h"

#include <string.h>

void brt_state_container_bind(brt_state_container *container, const brt_parameters *parameters,
                              const brt_config *config, size_t write_layer, size_t read_layer)
{
    *container = (brt_state_container){
        .arithmetic = brt_arithmetic_of(config),
        .write_layer = write_layer,
        .read_layer = read_layer,
        .key_heads = (size_t)config->kv_heads,
        .heads = (size_t)(config->heads / config->kv_heads),
        .dim_head = (size_t)config->dim_head,
    };
    container->arithmetic->state->bind(container, parameters, config);
}

brt_tensor *brt_state_recall(brt_tape *tape, const brt_state_container *container, brt_tensor *state)
{
    brt_tensor *bias = container->forget_bias;
    return bias ? brt_op_unit(tape, brt_op_add_rows(tape, state, bias), 1, NULL) : state;
}

brt_tensor *brt_state_normalise(brt_tape *tape, const brt_state_container *container, brt_tensor *state)
{
    brt_tensor *normalised = container->arithmetic->norm(tape, state, container->norm_gain);
    brt_tensor *known = brt_op_add_rows(tape, normalised, container->ids);
    brt_tape_forget(tape, normalised);
    return known;
}

brt_state_view brt_state_open(brt_tape *tape, const brt_state_container *container, brt_tensor *state)
{
    brt_state_view view = {.state = brt_state_recall(tape, container, state)};
    view.normalised = brt_state_normalise(tape, container, view.state);
    view.raw_keys = container->arithmetic->state->raw_keys(tape, container, view.normalised);
    return view;
}

brt_keys brt_state_keys(brt_tape *tape, const brt_state_container *container, const brt_state_view *view)
{
    return brt_op_keys(tape, 1, &view->raw_keys, container->key_heads, container->to_state_k_scale, NULL);
}

/* ---- the write ------------------------------------------------------------------------------------------ */

bool brt_state_hears_apart(const brt_state_container *container)
{
    return !container->forget_bias;
}

size_t brt_state_heard_width(const brt_state_container *container)
{
    size_t inner = container->key_heads * container->heads * container->dim_head;
    return brt_state_hears_apart(container) ? 2 * inner : inner;
}

brt_keys brt_state_own_keys(brt_tape *tape, const brt_state_container *container, const brt_state_view *view)
{
    return brt_op_keys(tape, 1, &view->raw_keys, container->key_heads, container->self_k_scale, NULL);
}

/* The state's attentions have neither positions nor a mask. */
static brt_attention unmasked(const brt_state_container *container, size_t row, size_t offset, size_t head)
{
    return (brt_attention){.key_heads = container->key_heads,
                           .heads = container->heads,
                           .scale = container->scale,
                           .out_row = row,
                           .out_offset = offset,
                           .out_head = head};
}

void brt_state_hear_itself(brt_tape *tape, const brt_state_container *container, brt_tensor *normalised,
                           brt_tensor *query, size_t first, const brt_keys *keys, brt_tensor *heard,
                           brt_tensor *log_sum_exp)
{
    brt_attention how = unmasked(container, heard->shape[2], 0, container->heard_head);
    if (!brt_state_hears_apart(container)) { /* a window of one key: a vector's own */
        how.causal = true;
        how.window = 1;
        how.first_query = first;
        how.log_sum_exp = log_sum_exp;
        brt_op_attention(tape, query, keys->key, keys->value, &how, heard);
    } else {
        query = container->arithmetic->state->queries(tape, container, normalised, false);
        brt_op_attention(tape, query, keys->key, keys->value, &how, heard);
        brt_tape_forget(tape, query);
    }
}

brt_tensor *brt_state_token_queries(brt_tape *tape, const brt_state_container *container, brt_tensor *normalised)
{
    return container->arithmetic->state->queries(tape, container, normalised, true);
}

brt_keys brt_state_token_keys(brt_tape *tape, const brt_state_container *container, brt_tensor *memory,
                              brt_tensor *block)
{
    brt_tensor *raw[2];
    size_t parts = 0;
    if (container->hears_memory)
        raw[parts++] = memory;
    raw[parts++] = block;
    return brt_op_keys(tape, parts, raw, container->key_heads, container->from_state_k_scale, NULL);
}

static void attend_to_tokens(brt_tape *tape, const brt_state_container *container, brt_tensor *query,
                             brt_tensor *memory, brt_tensor *block, const brt_attention *how, brt_tensor *out)
{
    brt_keys keys = brt_state_token_keys(tape, container, memory, block);
    brt_op_attention(tape, query, keys.key, keys.value, how, out);
    brt_tape_forget(tape, query);
    brt_tape_forget(tape, keys.key);
    brt_tape_forget(tape, keys.value);
}

void brt_state_hear_chunk(brt_tape *tape, const brt_state_container *container, brt_tensor *query, brt_tensor *memory,
                          brt_tensor *block, brt_tensor *out, brt_tensor *log_sum_exp)
{
    brt_attention how = unmasked(container, out->shape[2], 0, container->dim_head);
    how.log_sum_exp = log_sum_exp;
    attend_to_tokens(tape, container, query, memory, block, &how, out);
}

brt_tensor *brt_state_project(brt_tape *tape, const brt_state_projection *projection, brt_tensor *heard)
{
    brt_tensor *first = brt_op_linear(tape, heard, &projection->first, NULL);
    return projection->second.weight ? brt_op_linear(tape, first, &projection->second, NULL) : first;
}

size_t brt_state_projected_width(const brt_state_projection *projection)
{
    return (projection->second.weight ? projection->second.weight : projection->first.weight)->shape[0];
}

/* Row i is the vector whose only number is a 1 in the i-th of the tokens' columns. */
static brt_tensor *unit_vectors(brt_tape *tape, const brt_state_container *c)
{
    size_t inner = c->key_heads * c->heads * c->dim_head, width = brt_state_heard_width(c);
    brt_tensor *units = brt_tape_tensor(tape, BRT_SHAPE(inner, width));
    if (brt_tape_running(tape))
        memset(units->data, 0, units->count * sizeof(real));
    for (size_t i = 0; i < inner && brt_tape_running(tape); i++)
        units->data[i * width + i / c->dim_head * c->heard_head + c->heard_tokens + i % c->dim_head] = 1;
    return units;
}

brt_tensor *brt_state_token_projection(brt_tape *tape, const brt_state_container *container,
                                       const brt_state_projection *projection)
{
    brt_state_projection unbiased = *projection;
    unbiased.first.bias = unbiased.second.bias = NULL;
    return brt_op_transpose(tape, brt_state_project(tape, &unbiased, unit_vectors(tape, container)));
}

brt_tensor *brt_state_update(brt_tape *tape, const brt_state_container *container, brt_tensor *const *projected,
                             brt_tensor *state)
{
    return container->arithmetic->state->update(tape, container, projected, state);
}

/* Memformer: one softmax over a vector itself and the block. */
static brt_tensor *hear_as_one(brt_tape *tape, const brt_state_container *c, const brt_state_view *view,
                               const brt_keys *own, brt_tensor *query, brt_tensor *memory, brt_tensor *block)
{
    size_t batch = view->state->shape[0], vectors = view->state->shape[1], width = brt_state_heard_width(c);
    brt_heard both[2];
    for (int i = 0; i < 2; i++)
        both[i] = (brt_heard){brt_tape_tensor(tape, BRT_SHAPE(batch, vectors, width)),
                              brt_tape_tensor(tape, BRT_SHAPE(batch * c->key_heads, vectors, c->heads))};
    brt_state_hear_itself(tape, c, view->normalised, query, 0, own, both[0].out, both[0].log_sum_exp);
    brt_state_hear_chunk(tape, c, query, memory, block, both[1].out, both[1].log_sum_exp);
    brt_tensor *heard = brt_tape_tensor(tape, BRT_SHAPE(batch, vectors, width));
    brt_op_join(tape, c->key_heads * c->heads, &both[0], &both[1], NULL, heard, 0);
    return heard;
}

/* Side by side: from the whole state, from tokens. */
static brt_tensor *hear_apart(brt_tape *tape, const brt_state_container *c, const brt_state_view *view,
                              const brt_keys *own, brt_tensor *query, brt_tensor *memory, brt_tensor *block)
{
    size_t batch = view->state->shape[0], vectors = view->state->shape[1], width = brt_state_heard_width(c);
    brt_tensor *heard = brt_tape_tensor(tape, BRT_SHAPE(batch, vectors, width));
    brt_state_hear_itself(tape, c, view->normalised, query, 0, own, heard, NULL);
    brt_attention how = unmasked(c, width, c->heard_tokens, c->heard_head);
    attend_to_tokens(tape, c, query, memory, block, &how, heard);
    return heard;
}

brt_tensor *brt_state_write(brt_tape *tape, const brt_state_container *container, const brt_state_view *view,
                            brt_tensor *memory, brt_tensor *block)
{
    brt_keys own = brt_state_own_keys(tape, container, view);
    brt_tensor *query = brt_state_token_queries(tape, container, view->normalised);
    brt_tensor *heard = brt_state_hears_apart(container)
                            ? hear_apart(tape, container, view, &own, query, memory, block)
                            : hear_as_one(tape, container, view, &own, query, memory, block);
    brt_tape_forget(tape, view->normalised);
    brt_tape_forget(tape, own.key);
    brt_tape_forget(tape, own.value);
    brt_tensor *projected[BRT_STATE_PROJECTIONS];
    for (size_t i = 0; i < container->projections; i++)
        projected[i] = brt_state_project(tape, &container->projection[i], heard);
    brt_tape_round(tape, heard);
    return brt_state_update(tape, container, projected, view->state);
}
