#include "arithmetic.h"

#include "../base/memory.h"
#include "../base/parallel.h"
#include "../base/rng.h"
#include "../base/size.h"

#include <math.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { alignment_reals = 16 };

static const char too_many[] = "the configuration describes more parameters than a machine can address";

/* ---- declaration: called twice, first to count, then to fill ------------------------------------------- */

brt_parameter *brt_declare(brt_declaration *d, const char *name, brt_initialisation initialisation, size_t dims,
                           const size_t *shape)
{
    brt_parameters *p = d->parameters;
    brt_parameter *item = p->items ? &p->items[p->count] : &d->uncounted;
    size_t count = 1;
    for (size_t i = 0; i < dims; i++)
        d->overflow |= !brt_mul_ok(count, shape[i], &count);
    snprintf(item->name, sizeof item->name, "%s%s", d->prefix, name);
    item->initialisation = initialisation;
    item->fan_in = dims > 1 ? count / shape[0] : count;
    item->tensor = (brt_tensor){
        .dims = dims, .count = count, .data_offset = BRT_WORKSPACE_NONE, .gradient_offset = BRT_WORKSPACE_NONE};
    memcpy(item->tensor.shape, shape, dims * sizeof *shape);
    item->skipped = d->skipped;
    p->count++;
    return item;
}

static brt_status declare(brt_parameters *parameters, const brt_config *config)
{
    size_t inner;
    brt_declaration d = {.parameters = parameters};
    parameters->count = 0;
    /* Products of two arguments below this stay far from overflow. */
    d.overflow = !brt_mul_ok((size_t)config->heads, (size_t)config->dim_head, &inner) || inner > INT32_MAX;
    if (!d.overflow)
        brt_arithmetic_of(config)->declare(&d, config);
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
    BRT_TRY(brt_memory_check(bytes, "parameters"));
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
    for (size_t i = 0; parameters->packed && i < parameters->packed->count; i++)
        brt_pages_give(parameters->packed->stretch[i].pages, parameters->packed->stretch[i].bytes);
    free(parameters->packed);
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

brt_status brt_parameters_create_matrices(brt_parameters *parameters, const brt_kernels *kernels)
{
    parameters->packed = calloc(1, sizeof *parameters->packed);
    if (!parameters->packed)
        return BRT_FAIL(BRT_ERROR_MEMORY, "out of memory for packed weights");
    for (size_t i = 0; i < parameters->count; i++) {
        brt_parameter *item = &parameters->items[i];
        if (item->is_matrix && item->precision == BRT_F32)
            BRT_TRY(brt_matrix_create(&item->matrix, kernels, item->tensor.shape[0], item->tensor.shape[1],
                                      item->tensor.data));
    }
    return BRT_OK;
}

static pthread_mutex_t enabling = PTHREAD_MUTEX_INITIALIZER;

static size_t enabling_bytes(const brt_parameters *parameters, bool bf16, bool gradients)
{
    size_t bytes = 0;
    for (size_t i = 0; i < parameters->count; i++)
        if (parameters->items[i].matrix)
            bytes += brt_matrix_enabling_bytes(parameters->items[i].matrix, bf16, gradients);
    return bytes;
}

/* What cannot be packed fails before any is. */
static brt_status pack_all(const brt_parameters *parameters, bool bf16, bool gradients, real *room)
{
    for (size_t i = 0; i < parameters->count; i++) {
        brt_matrix *matrix = parameters->items[i].matrix;
        if (!matrix)
            continue;
        size_t bytes = brt_matrix_enabling_bytes(matrix, bf16, gradients);
        BRT_TRY(brt_matrix_enable(matrix, bf16, gradients, room));
        room += bytes / sizeof *room;
    }
    return BRT_OK;
}

static brt_status enable(const brt_parameters *parameters, bool bf16, bool gradients)
{
    brt_packed_memory *packed = parameters->packed;
    size_t bytes = enabling_bytes(parameters, bf16, gradients);
    if (bytes == 0)
        return BRT_OK;
    real *room = brt_pages_take(bytes);
    if (!room)
        return BRT_FAIL(BRT_ERROR_MEMORY, "out of memory for %zu bytes of packed weights", bytes);
    brt_status status = pack_all(parameters, bf16, gradients, room);
    if (status != BRT_OK) {
        brt_pages_give(room, bytes);
        return status;
    }
    packed->stretch[packed->count].pages = room;
    packed->stretch[packed->count++].bytes = bytes;
    return BRT_OK;
}

brt_status brt_parameters_enable(const brt_parameters *parameters, bool bf16, bool gradients)
{
    pthread_mutex_lock(&enabling);
    brt_status status = enable(parameters, bf16, gradients);
    pthread_mutex_unlock(&enabling);
    return status;
}

uint64_t brt_parameters_enabling_bytes(const brt_parameters *parameters, bool bf16, bool gradients)
{
    pthread_mutex_lock(&enabling);
    size_t bytes = enabling_bytes(parameters, bf16, gradients);
    pthread_mutex_unlock(&enabling);
    return bytes;
}

static void refresh_task(void *context, size_t task, int thread)
{
    const brt_parameters *parameters = context;
    (void)thread;
    if (parameters->items[task].matrix)
        brt_matrix_refresh(parameters->items[task].matrix);
}

void brt_parameters_refresh(const brt_parameters *parameters, int threads)
{
    brt_parallel_for(threads, parameters->count, refresh_task, (void *)parameters);
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

/* Standard normal within two deviations, scaled to variance 1 (its own is 0.7737). */
static double draw_truncated(uint64_t seed, uint64_t stream, uint64_t index)
{
    double drawn;
    for (uint64_t trial = 0;; trial++) {
        drawn = brt_rng_normal(seed, stream, index + (trial << 40));
        if (fabs(drawn) <= 2)
            return drawn / 0.87962566103423978;
    }
}

static double draw(const brt_parameter *parameter, uint64_t seed, uint64_t stream, uint64_t index)
{
    double in = (double)parameter->fan_in;
    switch (parameter->initialisation) {
    case BRT_INIT_ONES:
        return 1;
    case BRT_INIT_ZEROS:
        return 0;
    case BRT_INIT_NORMAL:
        return brt_rng_normal(seed, stream, index);
    case BRT_INIT_WIDE_NORMAL:
        return 10 * brt_rng_normal(seed, stream, index);
    case BRT_INIT_SMALL_NORMAL:
        return parameter->mean + 0.1 * brt_rng_normal(seed, stream, index);
    case BRT_INIT_LINEAR:
        return (2 * brt_rng_uniform(seed, stream, index) - 1) / sqrt(in);
    case BRT_INIT_KERNEL:
        return draw_truncated(seed, stream, index) / sqrt(in);
    case BRT_INIT_GATE_KERNEL:
        return draw_truncated(seed, stream, index) * sqrt(0.1 / in);
    case BRT_INIT_TABLE:
        return brt_rng_normal(seed, stream, index) / sqrt(in);
    case BRT_INIT_WAVES:
        return index % parameter->fan_in < parameter->fan_in / 2 ? 2 / in : 0;
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
