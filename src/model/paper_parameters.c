/* Parameters under the names that they have in Flax: "transformer9/tbase/_kvq/keys_layer/kernel". A kernel is [in, out]
 * in files and [out, in] here. */
#include "paper.h"
#include "routed.h"

#include <stdio.h>
#include <string.h>

static void add_matrix(brt_declaration *d, const char *name, brt_initialisation initialisation, size_t out, size_t in)
{
    brt_parameter *parameter = brt_declare(d, name, initialisation, BRT_SHAPE(out, in));
    parameter->transposed = parameter->is_matrix = parameter->decays = true;
    parameter->panel = BRT_PANEL;
}

static void add_kernel(brt_declaration *d, const char *name, size_t out, size_t in)
{
    add_matrix(d, name, BRT_INIT_KERNEL, out, in);
}

static void add_gate_kernel(brt_declaration *d, const char *name, size_t out, size_t in)
{
    char kernel[96], bias[96];
    snprintf(kernel, sizeof kernel, "%s/kernel", name);
    snprintf(bias, sizeof bias, "%s/bias", name);
    add_matrix(d, kernel, BRT_INIT_GATE_KERNEL, out, in);
    brt_declare(d, bias, BRT_INIT_SMALL_NORMAL, BRT_SHAPE(out));
}

/* Of the gate after a matrix whose input is `in` wide. */
static void add_gate(brt_declaration *d, const brt_config *c, const char *mlp, size_t in)
{
    char name[64];
    size_t dim = (size_t)c->dim;
    const char *const kernels[2] = {c->state_gate == BRT_GATE_FULL ? "gate_layer" : "forget_gate",
                                    c->state_gate == BRT_GATE_LSTM ? "input_gate" : NULL};
    if (c->state_gate == BRT_GATE_RESIDUAL)
        return;
    if (c->state_gate == BRT_GATE_FIXED) {
        snprintf(name, sizeof name, "%s/gate_bias", mlp);
        brt_declare(d, name, BRT_INIT_SMALL_NORMAL, BRT_SHAPE(dim));
        return;
    }
    for (size_t i = 0; i < 2 && kernels[i]; i++) {
        snprintf(name, sizeof name, "%s/%s", mlp, kernels[i]);
        add_gate_kernel(d, name, dim, in);
    }
}

/* Keys, values and queries; `crosses`: with a second set of queries. */
static void add_heads(brt_declaration *d, const brt_config *c, bool crosses)
{
    size_t dim = (size_t)c->dim, dim_head = (size_t)c->dim_head, heads = (size_t)c->heads;
    brt_declare(d, "_kvq/pre_attn_layernorm/scale", BRT_INIT_ONES, BRT_SHAPE(dim));
    add_kernel(d, "_kvq/keys_layer/kernel", (size_t)c->kv_heads * dim_head, dim);
    add_kernel(d, "_kvq/values_layer/kernel", (size_t)c->kv_heads * dim_head, dim);
    add_kernel(d, "_kvq/queries_layer/kernel", heads * dim_head, dim);
    if (crosses)
        add_kernel(d, "_kvq/queries2_layer/kernel", heads * dim_head, dim);
    if (!c->cosine_attention)
        return;
    brt_declare(d, "_kvq/attention_scale", BRT_INIT_ONES, BRT_SHAPE(heads));
    if (crosses)
        brt_declare(d, "attention_scale2", BRT_INIT_ONES, BRT_SHAPE(heads));
}

static void add_state(brt_declaration *d, const brt_config *c)
{
    size_t dim = (size_t)c->dim, heard = 2 * (size_t)c->heads * (size_t)c->dim_head, hidden = brt_config_ff_inner(c);
    bool single = c->state_update == BRT_UPDATE_SINGLE;
    brt_declare(d, "_kvq/position_embeddings", BRT_INIT_NORMAL, BRT_SHAPE((size_t)c->num_state_vectors, dim));
    add_heads(d, c, true);
    if (!single) {
        add_kernel(d, "post_attn_mlp/output_layer/kernel", dim, heard);
        add_gate(d, c, "post_attn_mlp", heard);
    }
    if (c->state_update == BRT_UPDATE_SKIP)
        return;
    if (!single)
        brt_declare(d, "pre_ffn_layernorm/scale", BRT_INIT_ONES, BRT_SHAPE(dim));
    add_kernel(d, "ffn/hidden0/kernel", hidden, single ? heard : dim);
    add_kernel(d, "ffn/output_layer/kernel", dim, hidden);
    add_gate(d, c, "ffn", hidden);
}

static void add_tokens(brt_declaration *d, const brt_config *c, bool crosses)
{
    size_t dim = (size_t)c->dim, inner = (size_t)c->heads * (size_t)c->dim_head, hidden = brt_config_ff_inner(c);
    add_heads(d, c, crosses);
    add_kernel(d, "post_attn_mlp/output_layer/kernel", dim, crosses ? 2 * inner : inner);
    brt_declare(d, "pre_ffn_layernorm/scale", BRT_INIT_ONES, BRT_SHAPE(dim));
    add_kernel(d, "ffn/hidden0/kernel", hidden, dim);
    add_kernel(d, "ffn/output_layer/kernel", dim, hidden);
}

static void add_positions(brt_declaration *d, const brt_config *c)
{
    size_t heads = (size_t)c->heads, terms = (size_t)c->position_terms;
    if (c->position_encoding == BRT_POSITION_T5)
        brt_declare(d, "relative_positions/rel_embedding", BRT_INIT_TABLE, BRT_SHAPE(heads, BRT_T5_BUCKETS));
    if (c->position_encoding == BRT_POSITION_FOURIER)
        brt_declare(d, "relative_positions/rotation_matrix", BRT_INIT_WAVES, BRT_SHAPE(heads, BRT_FOURIER_WIDTH));
    if (c->position_encoding == BRT_POSITION_ALIBI)
        brt_declare(d, "relative_positions/_wrapped_module/scale", BRT_INIT_ONES, BRT_SHAPE(1));
    if (c->position_encoding == BRT_POSITION_ALIBI && c->alibi_bound == 0)
        brt_declare(d, "relative_positions/_wrapped_module/bound", BRT_INIT_ONES, BRT_SHAPE(1));
    if (c->position_encoding == BRT_POSITION_NN) {
        brt_declare(d, "relative_positions/dense_1_kernel", BRT_INIT_ONES, BRT_SHAPE(BRT_NN_WIDTH));
        brt_declare(d, "relative_positions/bias", BRT_INIT_WIDE_NORMAL, BRT_SHAPE(BRT_NN_WIDTH));
        brt_declare(d, "relative_positions/dense_2_kernel", BRT_INIT_KERNEL, BRT_SHAPE(heads, BRT_NN_WIDTH))->fan_in =
            heads; /* as the original has it */
    }
    if (c->position_encoding == BRT_POSITION_ORTHOGONAL)
        brt_declare(d, "relative_positions/orthogonal_basis_coeffs", BRT_INIT_ZEROS, BRT_SHAPE(heads, terms))
            ->transposed = true;
}

static void add_layer(brt_declaration *d, const brt_config *c, size_t layer)
{
    size_t read;
    bool recurrent = brt_config_writes_state(c, layer, &read);
    snprintf(d->prefix, sizeof d->prefix, "transformer%zu/", layer);
    add_positions(d, c);
    if (recurrent) {
        brt_declare(d, "recurrent_initial_state", BRT_INIT_SMALL_NORMAL,
                    BRT_SHAPE((size_t)c->num_state_vectors, (size_t)c->dim));
        snprintf(d->prefix, sizeof d->prefix, "transformer%zu/recurrent_tbase/", layer);
        d->skipped = 1;
        add_state(d, c);
        d->skipped = 0;
    }
    snprintf(d->prefix, sizeof d->prefix, "transformer%zu/tbase/", layer);
    add_tokens(d, c, recurrent || c->feedback);
    if (brt_config_is_routed(c, layer))
        brt_router_declare(d, c, layer);
    d->prefix[0] = '\0';
}

void brt_paper_declare(brt_declaration *d, const brt_config *c)
{
    /* Table and output matrix in one. */
    brt_parameter *embedding =
        brt_declare(d, "embed/embedding", BRT_INIT_NORMAL, BRT_SHAPE((size_t)c->num_tokens, (size_t)c->dim));
    embedding->is_matrix = true;
    embedding->panel = BRT_PANEL;
    for (size_t layer = 0; layer < (size_t)c->depth; layer++)
        add_layer(d, c, layer);
    brt_declare(d, "final_layernorm/scale", BRT_INIT_ONES, BRT_SHAPE((size_t)c->dim));
}
