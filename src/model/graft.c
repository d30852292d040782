/* A trained model with recurrent layers and routed memories added. Where a state is read, to_out gets columns for what
 * is heard from it, and these are 0; so are the gates of a routed memory. At first nothing of either reaches the
 * residual stream, while the gradient does reach them. */
#include "model.h"

#include <string.h>

static bool same_list(const brt_layer_list *a, const brt_layer_list *b)
{
    return a->count == b->count && memcmp(a->layer, b->layer, a->count * sizeof a->layer[0]) == 0;
}

/* What may be chosen anew: everything about states and routed memories that the source does not have, and what only
 * training uses. */
static brt_config with_the_memories_of(const brt_config *source, const brt_config *wanted)
{
    brt_config config = *source;
    if (source->recurrent_layers.count == 0) {
        config.recurrent_layers = wanted->recurrent_layers;
        config.read_recurrent_layers = wanted->read_recurrent_layers;
        config.num_state_vectors = wanted->num_state_vectors;
        config.state_cell = wanted->state_cell;
        config.state_gate_bias = wanted->state_gate_bias;
        config.recurrent_qk_rmsnorm = wanted->recurrent_qk_rmsnorm;
        config.qk_logit_scale = wanted->qk_logit_scale;
    }
    if (source->routed_layers.count == 0) {
        config.routed_layers = wanted->routed_layers;
        config.routed_capacity = wanted->routed_capacity;
        config.routed_dtype = wanted->routed_dtype;
        config.routes = wanted->routes;
        config.routed_tokens = wanted->routed_tokens;
        config.route_every = wanted->route_every;
        config.random_routes = wanted->random_routes;
    }
    config.max_seq_len = wanted->max_seq_len;
    config.ignore_index = wanted->ignore_index;
    return config;
}

static bool same_json(const brt_config *a, const brt_config *b)
{
    json_t *left = brt_config_to_json(a), *right = brt_config_to_json(b);
    bool same = left && right && json_equal(left, right);
    json_decref(left);
    json_decref(right);
    return same;
}

/* Every layer must compute at first what it did. */
static brt_status check(const brt_config *source, const brt_config *wanted)
{
    if (source->arithmetic == BRT_ARITHMETIC_PAPER)
        return BRT_FAIL(BRT_ERROR_UNSUPPORTED, "memories are grafted on models of the reference's arithmetic only");
    if (source->recurrent_layers.count && !same_list(&source->recurrent_layers, &wanted->recurrent_layers))
        return BRT_FAIL(BRT_ERROR_MISMATCH, "the model has recurrent layers already; they cannot be changed");
    brt_config allowed = with_the_memories_of(source, wanted);
    if (!same_json(&allowed, wanted))
        return BRT_FAIL(BRT_ERROR_MISMATCH, "a graft changes recurrent layers, their states and routed memories only; "
                                            "another argument of the model differs");
    if (source->routed_layers.count && source->recurrent_layers.count != wanted->recurrent_layers.count)
        return BRT_FAIL(BRT_ERROR_MISMATCH, "the model has routed memories, whose routes would be made from the "
                                            "states; recurrent layers can be added before them or with them");
    for (size_t layer = 0; layer < (size_t)source->depth; layer++) {
        bool before = brt_config_normalises(source, layer), after = brt_config_normalises(wanted, layer);
        if (before != after)
            return BRT_FAIL(BRT_ERROR_MISMATCH,
                            "layer %zu would begin to normalise queries and keys, and compute something else; set "
                            "\"recurrent_qk_rmsnorm\" to false",
                            layer + 1);
        if (before && source->qk_logit_scale != wanted->qk_logit_scale)
            return BRT_FAIL(BRT_ERROR_MISMATCH, "layer %zu would have another scale of its logits, and compute "
                                                "something else; keep \"qk_logit_scale\"",
                            layer + 1);
    }
    return BRT_OK;
}

/* The source's columns, then zeros. */
static void widen(const brt_tensor *from, brt_tensor *to)
{
    size_t columns = from->shape[1], wide = to->shape[1];
    memset(to->data, 0, to->count * sizeof(real));
    for (size_t row = 0; row < from->shape[0]; row++)
        memcpy(to->data + row * wide, from->data + row * columns, columns * sizeof(real));
}

static brt_status take_parameter(brt_model *model, const brt_parameter *from)
{
    brt_parameter *to = brt_parameters_find(&model->parameters, "%s", from->name);
    bool same_rows = to && to->tensor.dims == from->tensor.dims && to->tensor.shape[0] == from->tensor.shape[0];
    if (to && to->tensor.count == from->tensor.count)
        memcpy(to->tensor.data, from->tensor.data, from->tensor.count * sizeof(real));
    else if (same_rows && from->tensor.dims == 2 && strstr(from->name, ".to_out.weight"))
        widen(&from->tensor, &to->tensor);
    else
        return BRT_FAIL(BRT_ERROR_MISMATCH, "the grafted model has no place for \"%s\"", from->name);
    return BRT_OK;
}

/* Of a router that the source does not have. */
static void close_new_gates(brt_model *model, const brt_model *source)
{
    for (size_t i = 0; i < model->parameters.count; i++) {
        const brt_parameter *parameter = &model->parameters.items[i];
        if (strstr(parameter->name, ".routed.gate") && !brt_parameters_find(&source->parameters, "%s", parameter->name))
            memset(parameter->tensor.data, 0, parameter->tensor.count * sizeof(real));
    }
}

brt_status brt_model_graft(brt_model **out, const brt_model *source, const brt_config *config, uint64_t seed)
{
    brt_model *model;
    const brt_parameter *quantized = brt_parameters_quantized(&source->parameters);
    if (quantized)
        return BRT_FAIL(BRT_ERROR_UNSUPPORTED, "this model is not for grafting: \"%s\" is held in %s; take the f32 "
                                               "model it was made from, or quantize it to f32 first",
                        quantized->name, brt_precision_name(quantized->precision));
    BRT_TRY(brt_model_create(&model, config, seed));
    brt_status status = check(&source->config, &model->config);
    for (size_t i = 0; i < source->parameters.count && status == BRT_OK; i++)
        status = take_parameter(model, &source->parameters.items[i]);
    close_new_gates(model, source);
    if (status != BRT_OK) {
        brt_model_close(model);
        return status;
    }
    *out = model;
    return BRT_OK;
}
