/* The states' direction of a recurrent layer in the paper's arithmetic. A state c attends to itself and to the tokens
 * of two blocks, memory and block, without positions and mask; with u = what it heard, of all heads from itself, then
 * of all heads from the tokens:
 *   skip    c' = gate(c, W u; u)
 *   dual    c1 = gate(c, W u; u),  h = relu(W1 norm(c1)),  c' = gate(c1, W2 h; h)
 *   single  h = relu(W1 u),  c' = gate(c, tanh(W2 h); h)
 * Gates of c, z and the vector v before z's matrix:
 *   fixed     g c + (1 - g) z,  g = sigmoid(b)
 *   full      the same,  g = sigmoid(W v + b + 1)
 *   lstm      sigmoid(Wf v + bf + 1) c + sigmoid(Wi v + bi - 1) z
 *   residual  c + z */
#include "state_container.h"

#include <stdio.h>

static brt_paper_gate find_gate(const brt_parameters *parameters, const char *prefix, const char *matrix,
                                const brt_config *config)
{
    char inner[80];
    snprintf(inner, sizeof inner, "%s%s/", prefix, matrix);
    brt_paper_gate gate = {.kind = (brt_gate_kind)config->state_gate,
                           .bias = brt_paper_find(parameters, inner, "gate_bias")};
    static const char *const names[] = {"gate_layer", "forget_gate", "input_gate"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        brt_linear kernel = brt_paper_find_linear(parameters, inner, names[i]);
        if (kernel.weight)
            gate.kernel[gate.kernels++] = kernel;
    }
    return gate;
}

static void add_projection(brt_state_container *container, brt_linear matrix)
{
    container->projection[container->projections++] = (brt_state_projection){.first = matrix};
}

static void bind(brt_state_container *container, const brt_parameters *parameters, const brt_config *config)
{
    char layer[32], prefix[64];
    snprintf(layer, sizeof layer, "transformer%zu/", container->write_layer);
    snprintf(prefix, sizeof prefix, "%srecurrent_tbase/", layer);
    container->initial = brt_paper_find(parameters, layer, "recurrent_initial_state");
    container->ids = brt_paper_find(parameters, prefix, "_kvq/position_embeddings");
    container->norm_gain = brt_paper_find(parameters, prefix, "_kvq/pre_attn_layernorm/scale");
    container->vectors = brt_paper_find_heads(parameters, prefix, config);
    container->scale = brt_paper_logit_scale(&container->vectors);
    container->hears_memory = true;
    container->heard_head = container->dim_head; /* all heads from the state, then all from the tokens */
    container->heard_tokens = container->vectors.count * container->dim_head;
    container->to_itself = brt_paper_find_queries(parameters, prefix, config, false);
    container->to_tokens = brt_paper_find_queries(parameters, prefix, config, true);
    container->update = (brt_update_kind)config->state_update;
    container->gate = find_gate(parameters, prefix, "post_attn_mlp", config);
    container->ff_gain = brt_paper_find(parameters, prefix, "pre_ffn_layernorm/scale");
    container->ff_in = brt_paper_find_linear(parameters, prefix, "ffn/hidden0");
    container->ff_out = brt_paper_find_linear(parameters, prefix, "ffn/output_layer");
    container->ff_gate = find_gate(parameters, prefix, "ffn", config);
    if (container->update == BRT_UPDATE_SINGLE) {
        add_projection(container, container->ff_in);
        return;
    }
    add_projection(container, brt_paper_find_linear(parameters, prefix, "post_attn_mlp/output_layer"));
    for (size_t i = 0; i < container->gate.kernels; i++)
        add_projection(container, container->gate.kernel[i]);
}

static brt_tensor *raw_keys(brt_tape *tape, const brt_state_container *container, brt_tensor *normalised)
{
    return brt_paper_raw_keys(tape, &container->vectors, normalised);
}

/* z as above; kernel: what the gate's kernels made of v */
static brt_tensor *pass_gate(brt_tape *tape, const brt_paper_gate *gate, brt_tensor *z, brt_tensor *const *kernel,
                             brt_tensor *state)
{
    switch (gate->kind) {
    case BRT_GATE_FIXED:
        return brt_op_ema(tape, gate->bias, state, z); /* the average towards the state */
    case BRT_GATE_FULL:
        return brt_op_gate_full(tape, kernel[0], z, state);
    case BRT_GATE_LSTM:
        return brt_op_gate_lstm(tape, kernel[0], kernel[1], z, state);
    case BRT_GATE_RESIDUAL:
        return brt_op_add_rows(tape, z, state);
    }
    return NULL;
}

static brt_tensor *queries(brt_tape *tape, const brt_state_container *c, brt_tensor *normalised, bool to_tokens)
{
    const brt_paper_queries *set = to_tokens ? &c->to_tokens : &c->to_itself;
    return brt_paper_make_queries(tape, &c->vectors, set, brt_op_linear(tape, normalised, &set->to_queries, NULL), NULL,
                                  0);
}

/* projected: what is made of u by z's matrix, or W1 of `single`, then by the gate's kernels */
static brt_tensor *update(brt_tape *tape, const brt_state_container *c, brt_tensor *const *projected, brt_tensor *state)
{
    brt_tensor *hidden = projected[0], *kernel[2];
    if (c->update != BRT_UPDATE_SINGLE) {
        state = pass_gate(tape, &c->gate, projected[0], projected + 1, state);
        if (c->update == BRT_UPDATE_SKIP)
            return state;
        hidden = brt_op_linear(tape, brt_op_rms_norm(tape, state, c->ff_gain), &c->ff_in, NULL);
    }
    hidden = brt_op_relu(tape, hidden);
    brt_tensor *z = brt_op_linear(tape, hidden, &c->ff_out, NULL);
    if (c->update == BRT_UPDATE_SINGLE)
        z = brt_op_tanh(tape, z);
    for (size_t i = 0; i < c->ff_gate.kernels; i++)
        kernel[i] = brt_op_linear(tape, hidden, &c->ff_gate.kernel[i], NULL);
    return pass_gate(tape, &c->ff_gate, z, kernel, state);
}

const brt_state_arithmetic brt_paper_state = {bind, raw_keys, queries, update};
