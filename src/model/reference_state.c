/* A state as the reference computes it: LayerNorm, a projection of what was heard, the fixed gate. It hears itself and
 * the block, not the memory. Memformer's cell is a variant of it. */
#include "state_container.h"

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

static void bind(brt_state_container *container, const brt_parameters *parameters, const brt_config *config)
{
    char prefix[64];
    container->scale = (real)brt_config_logit_scale(config, true);
    snprintf(prefix, sizeof prefix, "layers.%zu.0.state_container.", container->write_layer);
    container->initial = find(parameters, prefix, "init_state");
    container->ids = find(parameters, prefix, "state_pos_ids");
    container->beta = find(parameters, prefix, "learned_ema_beta");
    container->norm_gain = find(parameters, prefix, "state_norm.gamma");
    container->q_to_state = find_linear(parameters, prefix, "q_to_state");
    container->q_from_state = find_linear(parameters, prefix, "q_from_state");
    container->state_to_kv = find_linear(parameters, prefix, "state_to_kv");
    container->projections = 1;
    container->projection[0] = (brt_state_projection){find_linear(parameters, prefix, "to_state_out"),
                                                      find_linear(parameters, prefix, "state_out_to_gate")};
    container->to_state_q_scale = find(parameters, prefix, "to_state_cross_attn.q_scale");
    container->to_state_k_scale = find(parameters, prefix, "to_state_cross_attn.k_scale");
    container->from_state_q_scale = find(parameters, prefix, "from_state_cross_attn.q_scale");
    container->from_state_k_scale = find(parameters, prefix, "from_state_cross_attn.k_scale");
    container->forget_bias = find(parameters, prefix, "forget_bias");
    if (container->forget_bias) {
        container->heard_head = container->dim_head;
        /* One softmax over a vector itself and the block: their keys have one scale. */
        container->self_k_scale = container->from_state_k_scale;
    } else {
        container->heard_head = 2 * container->dim_head; /* both within each head */
        container->heard_tokens = container->dim_head;
        container->state_to_q = find_linear(parameters, prefix, "state_to_q");
        container->self_q_scale = find(parameters, prefix, "state_self_attn.q_scale");
        container->self_k_scale = find(parameters, prefix, "state_self_attn.k_scale");
    }
}

static brt_tensor *raw_keys(brt_tape *tape, const brt_state_container *container, brt_tensor *normalised)
{
    return brt_op_linear(tape, normalised, &container->state_to_kv, NULL);
}

static brt_tensor *queries(brt_tape *tape, const brt_state_container *container, brt_tensor *normalised, bool to_tokens)
{
    const brt_linear *to_query = to_tokens ? &container->q_from_state : &container->state_to_q;
    brt_tensor *scale = to_tokens ? container->from_state_q_scale : container->self_q_scale;
    brt_tensor *projected = brt_op_linear(tape, normalised, to_query, NULL);
    return brt_op_queries(tape, projected, container->key_heads, container->heads, scale, NULL, 0);
}

static brt_tensor *update(brt_tape *tape, const brt_state_container *container, brt_tensor *const *projected,
                          brt_tensor *state)
{
    return brt_op_ema(tape, container->beta, projected[0], state);
}

const brt_state_arithmetic brt_reference_state = {bind, raw_keys, queries, update};
