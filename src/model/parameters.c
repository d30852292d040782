#include "parameters.h"

#include "../base/memory.h"
#include "../base/parallel.h"
#include "../base/rng.h"
#include "../base/size.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { alignment_reals = 16 };

static const char too_many[] = "the configuration describes more parameters than a machine can address";

/* ---- declaration: called twice, first to count, then to fill ------------------------------------------- */

typedef struct declaration {
    brt_parameters *parameters;
    char prefix[64];
    bool overflow;
} declaration;

static void add(declaration *d, const char *name, brt_initialisation initialisation, size_t dims, const size_t *shape)
{
    brt_parameters *p = d->parameters;
    bool matrix = initialisation == BRT_INIT_LINEAR && dims == 2;
    size_t count = 1;
    for (size_t i = 0; i < dims; i++)
        d->overflow |= !brt_mul_ok(count, shape[i], &count);
    if (p->items) {
        brt_parameter *item = &p->items[p->count];
        snprintf(item->name, sizeof item->name, "%s%s", d->prefix, name);
        item->initialisation = initialisation;
        item->fan_in = dims > 1 ? count / shape[0] : count;
        item->tensor = (brt_tensor){.dims = dims,
                                    .count = count,
                                    .data_offset = BRT_WORKSPACE_NONE,
                                    .gradient_offset = BRT_WORKSPACE_NONE};
        memcpy(item->tensor.shape, shape, dims * sizeof *shape);
        item->decays = matrix;
        item->panel = matrix ? BRT_PANEL : p->count == 0 ? 1 : 0; /* the first one is the table of embeddings */
    }
    p->count++;
}

static void add_linear(declaration *d, const char *name, size_t out, size_t in)
{
    add(d, name, BRT_INIT_LINEAR, BRT_SHAPE(out, in));
}

/* PyTorch draws a bias from its weight's fan-in. */
static void add_linear_bias(declaration *d, const char *name, size_t out, size_t in)
{
    add(d, name, BRT_INIT_LINEAR, BRT_SHAPE(out));
    if (d->parameters->items)
        d->parameters->items[d->parameters->count - 1].fan_in = in;
}

/* A gate's N(mean, 0.1). */
static void add_gate(declaration *d, const char *name, size_t dim, double mean)
{
    add(d, name, BRT_INIT_SMALL_NORMAL, BRT_SHAPE(dim));
    if (d->parameters->items)
        d->parameters->items[d->parameters->count - 1].mean = mean;
}

static void add_scales(declaration *d, const char *attention, size_t dim_head)
{
    static const char *const scales[] = {"q_scale", "k_scale"};
    for (size_t i = 0; i < 2; i++) {
        char name[48];
        snprintf(name, sizeof name, "%s.%s", attention, scales[i]);
        add(d, name, BRT_INIT_ONES, BRT_SHAPE(dim_head));
    }
}

static void add_state_container(declaration *d, const brt_config *c)
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
    d->prefix[outside] = '\0';
}

/* Linear layers with biases: 1 -> hidden -> hidden -> heads, numbered as the reference's Sequential. */
static void add_position_mlp(declaration *d, const brt_config *c)
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

/* The router of a layer: see brt_router. */
static void add_router(declaration *d, const brt_config *c)
{
    size_t dim = (size_t)c->dim, dim_head = (size_t)c->dim_head, routes = (size_t)c->routes;
    size_t states = c->recurrent_layers.count * dim, outside = strlen(d->prefix);
    snprintf(d->prefix + outside, sizeof d->prefix - outside, "routed.");
    add(d, "route", BRT_INIT_NORMAL, BRT_SHAPE(routes, dim_head));
    if (states) {
        add(d, "state_norm.gamma", BRT_INIT_ONES, BRT_SHAPE(states));
        add_linear(d, "from_states.weight", routes * dim_head, states);
    }
    if (c->route_every) {
        add(d, "input_norm.gamma", BRT_INIT_ONES, BRT_SHAPE(dim));
        add_linear(d, "from_input.weight", routes * dim_head, dim);
    }
    add(d, "temperature", BRT_INIT_ONES, BRT_SHAPE(routes));
    add(d, "null_key", BRT_INIT_SMALL_NORMAL, BRT_SHAPE(routes, dim_head));
    add(d, "null_value", BRT_INIT_SMALL_NORMAL, BRT_SHAPE(routes, dim_head));
    add(d, "q_scale", BRT_INIT_ONES, BRT_SHAPE(dim_head));
    add(d, "gate", BRT_INIT_ONES, BRT_SHAPE((size_t)c->heads));
    d->prefix[outside] = '\0';
}

static size_t reads_at(const brt_config *c, size_t layer)
{
    size_t reads = 0;
    for (size_t i = 0; i < c->read_recurrent_layers.count; i++)
        reads += (size_t)c->read_recurrent_layers.layer[i] == layer + 1;
    return reads;
}

static void add_layer(declaration *d, const brt_config *c, size_t layer)
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
        add_router(d, c);
    snprintf(d->prefix, sizeof d->prefix, "layers.%zu.1.", layer);
    add(d, "0.gamma", BRT_INIT_ONES, BRT_SHAPE(dim));
    add_linear(d, "1.weight", 2 * ff_inner, dim);
    add_linear(d, "3.weight", dim, ff_inner);
    if (c->residual_gates)
        add_gate(d, "residual_gate", dim, 0);
}

/* The grouped convolution that compresses a layer's memory, as torch.nn.Conv1d has it: keys and values of each head by
 * themselves. */
static void add_compressor(declaration *d, const brt_config *c, size_t layer)
{
    size_t dim_head = (size_t)c->dim_head, width = 2 * (size_t)c->kv_heads * dim_head;
    size_t factor = (size_t)c->compressed_mem_factor;
    snprintf(d->prefix, sizeof d->prefix, "mem_manager.layers.%zu.1.1.", layer);
    add(d, "weight", BRT_INIT_LINEAR, BRT_SHAPE(width, dim_head, factor));
    add_linear_bias(d, "bias", width, dim_head * factor);
}

static brt_status declare(brt_parameters *parameters, const brt_config *c)
{
    size_t dim = (size_t)c->dim, num_tokens = (size_t)c->num_tokens, inner;
    declaration d = {.parameters = parameters};
    parameters->count = 0;
    /* Products of two arguments below this stay far from overflow. */
    d.overflow = !brt_mul_ok((size_t)c->heads, (size_t)c->dim_head, &inner) || inner > INT32_MAX;
    if (!d.overflow) {
        add(&d, "token_emb.weight", BRT_INIT_NORMAL, BRT_SHAPE(num_tokens, dim));
        if (c->position_encoding == BRT_POSITION_DYNAMIC)
            add_position_mlp(&d, c);
        for (size_t layer = 0; layer < (size_t)c->depth; layer++)
            add_layer(&d, c, layer);
        for (size_t layer = 0; brt_config_learns_compression(c) && layer < (size_t)c->depth; layer++)
            add_compressor(&d, c, layer);
        d.prefix[0] = '\0';
        add(&d, "to_logits.0.gamma", BRT_INIT_ONES, BRT_SHAPE(dim));
        add_linear(&d, "to_logits.1.weight", num_tokens, dim);
    }
    return d.overflow ? BRT_FAIL(BRT_ERROR_CONFIG, too_many) : BRT_OK;
}

/* ---- memory --------------------------------------------------------------------------------------------- */

/* Counts the reals of those in F32, and where there is memory gives each its place. */
static brt_status place(brt_parameters *parameters)
{
    bool overflow = false;
    parameters->total = 0;
    for (size_t i = 0; i < parameters->count; i++) {
        brt_parameter *item = &parameters->items[i];
        if (item->precision != BRT_F32)
            continue;
        item->tensor.data = parameters->memory ? parameters->memory + parameters->total : NULL;
        size_t padded = brt_ceil_div(item->tensor.count, alignment_reals) * alignment_reals;
        overflow |= padded < item->tensor.count || !brt_add_ok(parameters->total, padded, &parameters->total);
    }
    overflow |= parameters->total > (SIZE_MAX >> 8) / sizeof(real);
    return overflow ? BRT_FAIL(BRT_ERROR_CONFIG, too_many) : BRT_OK;
}

static brt_status allocate_quantized(brt_parameters *parameters)
{
    for (size_t i = 0; i < parameters->count; i++) {
        brt_parameter *item = &parameters->items[i];
        if (item->precision != BRT_F32)
            BRT_TRY(brt_quantized_create(&item->quantized, item->precision, item->tensor.shape[0],
                                         item->tensor.shape[1], item->panel));
    }
    return BRT_OK;
}

static brt_status allocate(brt_parameters *parameters)
{
    BRT_TRY(place(parameters));
    size_t bytes = parameters->total * sizeof(real);
    BRT_TRY(brt_memory_check(2 * (uint64_t)bytes, "parameters and their packed copies"));
    parameters->memory = aligned_alloc(64, brt_ceil_div(bytes, 64) * 64);
    if (!parameters->memory)
        return BRT_FAIL(BRT_ERROR_MEMORY, "out of memory for %zu bytes of parameters", bytes);
    BRT_TRY(place(parameters));
    return allocate_quantized(parameters);
}

static brt_status create(brt_parameters *parameters, const brt_config *config, brt_choose_precision *choose,
                         const void *context)
{
    BRT_TRY(declare(parameters, config));
    parameters->items = calloc(parameters->count, sizeof *parameters->items);
    if (!parameters->items)
        return BRT_FAIL(BRT_ERROR_MEMORY, "out of memory for %zu parameters", parameters->count);
    BRT_TRY(declare(parameters, config));
    for (size_t i = 0; i < parameters->count; i++) {
        brt_parameter *item = &parameters->items[i];
        if (choose && item->panel)
            item->precision = choose(context, item);
    }
    return allocate(parameters);
}

brt_status brt_parameters_create(brt_parameters *parameters, const brt_config *config, brt_choose_precision *choose,
                                 const void *context)
{
    *parameters = (brt_parameters){0};
    brt_status status = create(parameters, config, choose, context);
    if (status != BRT_OK)
        brt_parameters_close(parameters);
    return status;
}

void brt_parameters_close(brt_parameters *parameters)
{
    for (size_t i = 0; parameters->items && i < parameters->count; i++) {
        brt_matrix_close(parameters->items[i].matrix);
        brt_quantized_close(&parameters->items[i].quantized);
    }
    free(parameters->items);
    free(parameters->memory);
    *parameters = (brt_parameters){0};
}

const brt_parameter *brt_parameters_quantized(const brt_parameters *parameters)
{
    for (size_t i = 0; i < parameters->count; i++)
        if (parameters->items[i].precision != BRT_F32)
            return &parameters->items[i];
    return NULL;
}

size_t brt_parameter_bytes(const brt_parameter *parameter)
{
    return parameter->precision == BRT_F32 ? parameter->tensor.count * sizeof(real)
                                           : brt_quantized_bytes(&parameter->quantized);
}

static const brt_quantized *quantized_form(const brt_parameter *parameter)
{
    return parameter->precision == BRT_F32 ? NULL : &parameter->quantized;
}

brt_linear brt_parameter_linear(brt_parameter *weight, brt_parameter *bias)
{
    return (brt_linear){.weight = &weight->tensor,
                        .bias = bias ? &bias->tensor : NULL,
                        .matrix = weight->matrix,
                        .quantized = quantized_form(weight)};
}

brt_table brt_parameter_table(brt_parameter *rows)
{
    return (brt_table){&rows->tensor, quantized_form(rows)};
}

/* ---- packed forms --------------------------------------------------------------------------------------- */

brt_status brt_parameters_pack(brt_parameters *parameters, brt_gemm *gemm)
{
    for (size_t i = 0; i < parameters->count; i++) {
        brt_parameter *item = &parameters->items[i];
        if (item->decays && item->precision == BRT_F32)
            BRT_TRY(brt_matrix_create(&item->matrix, gemm, item->tensor.shape[0], item->tensor.shape[1],
                                      item->tensor.data));
    }
    return BRT_OK;
}

typedef struct refreshing {
    const brt_parameters *parameters;
    brt_status *status; /* [count] */
} refreshing;

static void refresh_task(void *context, size_t task, int thread)
{
    refreshing *r = context;
    brt_matrix *matrix = r->parameters->items[task].matrix;
    (void)thread;
    r->status[task] = matrix ? brt_matrix_refresh(matrix) : BRT_OK;
}

brt_status brt_parameters_refresh(const brt_parameters *parameters, int threads)
{
    brt_status *status = calloc(parameters->count, sizeof *status);
    if (!status)
        return BRT_FAIL(BRT_ERROR_MEMORY, "out of memory for packing the weights");
    refreshing r = {parameters, status};
    brt_parallel_for(threads, parameters->count, refresh_task, &r);
    brt_status first = BRT_OK;
    for (size_t i = 0; i < parameters->count && first == BRT_OK; i++)
        first = status[i];
    free(status);
    return first == BRT_OK ? BRT_OK : BRT_FAIL(first, "packing the weights failed");
}

brt_parameter *brt_parameters_find(const brt_parameters *parameters, const char *format, ...)
{
    char name[sizeof parameters->items[0].name];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(name, sizeof name, format, arguments);
    va_end(arguments);
    for (size_t i = 0; i < parameters->count; i++)
        if (strcmp(parameters->items[i].name, name) == 0)
            return &parameters->items[i];
    return NULL;
}

/* ---- initial values -------------------------------------------------------------------------------------- */

enum { initialisation_streams = 1 << 16 }; /* random streams from here on, one a parameter */

static double draw(const brt_parameter *parameter, uint64_t seed, uint64_t stream, uint64_t index)
{
    switch (parameter->initialisation) {
    case BRT_INIT_ONES:
        return 1;
    case BRT_INIT_NORMAL:
        return brt_rng_normal(seed, stream, index);
    case BRT_INIT_SMALL_NORMAL:
        return parameter->mean + 0.1 * brt_rng_normal(seed, stream, index);
    case BRT_INIT_LINEAR:
        return (2 * brt_rng_uniform(seed, stream, index) - 1) / sqrt((double)parameter->fan_in);
    }
    return 0;
}

typedef struct drawing {
    brt_parameters *parameters;
    uint64_t seed;
} drawing;

static void draw_task(void *context, size_t task, int thread)
{
    const drawing *d = context;
    const brt_parameter *parameter = &d->parameters->items[task];
    (void)thread;
    for (size_t i = 0; i < parameter->tensor.count; i++)
        parameter->tensor.data[i] = (real)draw(parameter, d->seed, initialisation_streams + task, i);
}

void brt_parameters_initialise(brt_parameters *parameters, uint64_t seed)
{
    drawing d = {parameters, seed};
    brt_parallel_for(brt_processor_count(), parameters->count, draw_task, &d);
}
