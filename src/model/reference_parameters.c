/* Parameters under the names and in the shapes of the reference's state_dict(). */
#include "routed.h"

#include "../base/size.h"

#include <stdio.h>
#include <string.h>

/* Linear layers are matrices, and the only ones that decay. */
static void add(brt_declaration *d, const char *name, brt_initialisation initialisation, size_t dims,
                const size_t *shape)
{
    brt_parameter *parameter = brt_declare(d, name, initialisation, dims, shape);
    parameter->is_matrix = parameter->decays = initialisation == BRT_INIT_LINEAR && dims == 2;
    parameter->panel = parameter->is_matrix ? BRT_PANEL : 0;
}

static void add_linear(brt_declaration *d, const char *name, size_t out, size_t in)
{
    add(d, name, BRT_INIT_LINEAR, BRT_SHAPE(out, in));
}

/* PyTorch draws a bias from its weight's fan-in. */
static void add_linear_bias(brt_declaration *d, const char *name, size_t out, size_t in)
{
    brt_declare(d, name, BRT_INIT_LINEAR, BRT_SHAPE(out))->fan_in = in;
}

/* A gate's N(mean, 0.1). */
static void add_gate(brt_declaration *d, const char *name, size_t dim, double mean)
{
    brt_declare(d, name, BRT_INIT_SMALL_NORMAL, BRT_SHAPE(dim))->mean = mean;
}

static void add_scales(brt_declaration *d, const char *attention, size_t dim_head)
{
    static const char *const scales[] = {"q_scale", "k_scale"};
    for (size_t i = 0; i < 2; i++) {
        char name[48];
        snprintf(name, sizeof name, "%s.%s", attention, scales[i]);
        add(d, name, BRT_INIT_ONES, BRT_SHAPE(dim_head));
    }
}

static void add_state_container(brt_declaration *d, const brt_config *c)
{
    size_t dim = (size_t)c->dim, dim_head = (size_t)c->dim_head, inner = (size_t)c->heads * dim_head;
    size_t vectors = (size_t)c->num_state_vectors, outside = strlen(d->prefix);
    bool memformer = c->state_cell == BRT_CELL_MEMFORMER;
    snprintf(d->prefix + outside, sizeof d->prefix - outside, "state_container.");
    if (memformer)
        add(d, "forget_bias", BRT_INIT_NORMAL, BRT_SHAPE(vectors, dim));
    add(d, "init_state", BRT_INIT_SMALL_NORMAL, BRT_SHAPE(vectors, dim));
    add(d, "state_pos_ids", BRT_INIT_NORMAL, BRT_SHAPE(vectors, dim));
    add_gate(d, "learned_ema_beta", dim, c->state_gate_bias);
    add(d, "state_norm.gamma", BRT_INIT_ONES, BRT_SHAPE(dim));
    add_linear(d, "q_to_state.weight", inner, dim);
    d->skipped = 1;
    add_linear(d, "q_from_state.weight", inner, dim);
    if (!memformer)
        add_linear(d, "state_to_q.weight", inner, dim);
    add_linear(d, "state_to_kv.weight", 2 * (size_t)c->kv_heads * dim_head, dim);
    add_linear(d, "to_state_out.weight", dim, memformer ? inner : 2 * inner);
    add_scales(d, "to_state_cross_attn", dim_head);
    if (!memformer)
        add_scales(d, "state_self_attn", dim_head);
    add_scales(d, "from_state_cross_attn", dim_head);
    add_linear(d, "state_out_to_gate.weight", dim, dim);
    add_linear_bias(d, "state_out_to_gate.bias", dim, dim);
    d->skipped = 0;
    d->prefix[outside] = '\0';
}

/* Linear layers with biases: 1 -> hidden -> hidden -> heads, numbered as the reference's Sequential. */
static void add_position_mlp(brt_declaration *d, const brt_config *c)
{
    size_t hidden = brt_max_size(1, (size_t)c->dim / 4), heads = (size_t)c->heads;
    snprintf(d->prefix, sizeof d->prefix, "dynamic_pos_bias_mlp.");
    add_linear(d, "0.weight", hidden, 1);
    add_linear_bias(d, "0.bias", hidden, 1);
    add_linear(d, "2.weight", hidden, hidden);
    add_linear_bias(d, "2.bias", hidden, hidden);
    add_linear(d, "4.weight", heads, hidden);
    add_linear_bias(d, "4.bias", heads, hidden);
    d->prefix[0] = '\0';
}

static size_t reads_at(const brt_config *c, size_t layer)
{
    size_t reads = 0;
    for (size_t i = 0; i < c->read_recurrent_layers.count; i++)
        reads += (size_t)c->read_recurrent_layers.layer[i] == layer + 1;
    return reads;
}

/* The light feed-forward, and what finds tokens worth the other; the router's scores are never rounded to fewer
 * bits. */
static void add_conditional_ff(brt_declaration *d, const brt_config *c)
{
    size_t dim = (size_t)c->dim, inner = brt_config_light_ff_inner(c);
    add_linear(d, "light.1.weight", 2 * inner, dim);
    add_linear(d, "light.3.weight", dim, inner);
    brt_parameter *router = brt_declare(d, "router.weight", BRT_INIT_LINEAR, BRT_SHAPE(1, dim));
    router->is_matrix = router->decays = true;
}

static void add_layer(brt_declaration *d, const brt_config *c, size_t layer)
{
    size_t dim = (size_t)c->dim, dim_head = (size_t)c->dim_head, heads = (size_t)c->heads;
    size_t inner = heads * dim_head, ff_inner = brt_config_ff_inner(c), read;
    bool recurrent = brt_config_writes_state(c, layer, &read);
    snprintf(d->prefix, sizeof d->prefix, "layers.%zu.0.", layer);
    add(d, "norm.gamma", BRT_INIT_ONES, BRT_SHAPE(dim));
    add_linear(d, "to_q.weight", inner, dim);
    add_linear(d, "to_kv.weight", 2 * (size_t)c->kv_heads * dim_head, dim);
    if (c->position_encoding == BRT_POSITION_T5)
        add(d, "rel_pos_bias.weight", BRT_INIT_SMALL_NORMAL, BRT_SHAPE(heads, BRT_T5_BUCKETS));
    if (brt_config_normalises(c, layer))
        add_scales(d, "attn", dim_head);
    add_linear(d, "to_out.weight", dim, inner * (1 + reads_at(c, layer)));
    if (c->residual_gates)
        add_gate(d, "residual_gate", dim, 0);
    if (recurrent)
        add_state_container(d, c);
    if (brt_config_is_routed(c, layer))
        brt_router_declare(d, c, layer);
    snprintf(d->prefix, sizeof d->prefix, "layers.%zu.1.", layer);
    add(d, "0.gamma", BRT_INIT_ONES, BRT_SHAPE(dim));
    if (brt_config_is_conditional(c, layer))
        d->skipped = 1 - (double)c->conditional_ff_tokens / (double)c->block_width;
    add_linear(d, "1.weight", 2 * ff_inner, dim);
    add_linear(d, "3.weight", dim, ff_inner);
    d->skipped = 0;
    if (brt_config_is_conditional(c, layer))
        add_conditional_ff(d, c);
    if (c->residual_gates)
        add_gate(d, "residual_gate", dim, 0);
}

/* The grouped convolution that compresses a layer's memory, as torch.nn.Conv1d has it: keys and values of each head by
 * themselves. */
static void add_compressor(brt_declaration *d, const brt_config *c, size_t layer)
{
    size_t dim_head = (size_t)c->dim_head, width = 2 * (size_t)c->kv_heads * dim_head;
    size_t factor = (size_t)c->compressed_mem_factor;
    snprintf(d->prefix, sizeof d->prefix, "mem_manager.layers.%zu.1.1.", layer);
    add(d, "weight", BRT_INIT_LINEAR, BRT_SHAPE(width, dim_head, factor));
    add_linear_bias(d, "bias", width, dim_head * factor);
}

void brt_reference_declare(brt_declaration *d, const brt_config *c)
{
    size_t dim = (size_t)c->dim, num_tokens = (size_t)c->num_tokens;
    brt_declare(d, "token_emb.weight", BRT_INIT_NORMAL, BRT_SHAPE(num_tokens, dim))->panel = 1;
    if (c->position_encoding == BRT_POSITION_DYNAMIC)
        add_position_mlp(d, c);
    for (size_t layer = 0; layer < (size_t)c->depth; layer++)
        add_layer(d, c, layer);
    for (size_t layer = 0; brt_config_learns_compression(c) && layer < (size_t)c->depth; layer++)
        add_compressor(d, c, layer);
    d->prefix[0] = '\0';
    add(d, "to_logits.0.gamma", BRT_INIT_ONES, BRT_SHAPE(dim));
    add_linear(d, "to_logits.1.weight", num_tokens, dim);
}
