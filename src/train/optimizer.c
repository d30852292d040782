#include "optimizer.h"

#include "../base/parallel.h"
#include "../base/size.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { part_reals = 1 << 15 }; /* of one task: 128 KiB each of weights, gradients and moments */

const brt_method *brt_method_find(const char *name)
{
    static const struct {
        const char *name;
        const brt_method *method;
    } methods[] = {{"adamw", &brt_adam}, {"adam", &brt_adam}, {"adafactor", &brt_adafactor}};
    for (size_t i = 0; i < sizeof methods / sizeof methods[0]; i++)
        if (strcmp(name, methods[i].name) == 0)
            return methods[i].method;
    return NULL;
}

brt_moment brt_moment_like(const char *kind, const brt_parameter *parameter, real *data)
{
    brt_moment moment = {.kind = kind, .dims = parameter->tensor.dims, .data = data};
    memcpy(moment.shape, parameter->tensor.shape, sizeof moment.shape);
    return moment;
}

static size_t kept_reals(const brt_method *method, const brt_parameters *parameters)
{
    return parameters->total + method->reals(parameters);
}

uint64_t brt_optimizer_bytes(const brt_method *method, const brt_parameters *parameters)
{
    return (uint64_t)kept_reals(method, parameters) * sizeof(real);
}

static size_t parts_of(const brt_parameter *parameter)
{
    return brt_ceil_div(parameter->tensor.count, part_reals);
}

brt_status brt_optimizer_create(brt_optimizer *optimizer, const brt_method *method, const brt_kernels *kernels,
                                brt_parameters *parameters, int threads)
{
    *optimizer =
        (brt_optimizer){.method = method, .kernels = kernels, .parameters = parameters, .threads = threads};
    size_t bytes = brt_ceil_div(kept_reals(method, parameters) * sizeof(real), 64) * 64;
    for (size_t i = 0; i < parameters->count; i++)
        optimizer->parts += parts_of(&parameters->items[i]);
    optimizer->gradient = aligned_alloc(64, bytes);
    optimizer->partial = calloc(optimizer->parts, sizeof *optimizer->partial);
    if (!optimizer->gradient || !optimizer->partial) {
        brt_optimizer_close(optimizer);
        return BRT_FAIL(BRT_ERROR_MEMORY, "out of memory for %zu bytes of gradients and moments", bytes);
    }
    memset(optimizer->gradient, 0, bytes);
    optimizer->kept = optimizer->gradient + parameters->total;
    for (size_t i = 0; i < parameters->count; i++) {
        brt_tensor *tensor = &parameters->items[i].tensor;
        tensor->gradient = optimizer->gradient + brt_optimizer_offset(optimizer, &parameters->items[i]);
        tensor->wants_gradient = tensor->has_gradient = true;
    }
    return BRT_OK;
}

void brt_optimizer_close(brt_optimizer *optimizer)
{
    for (size_t i = 0; optimizer->gradient && i < optimizer->parameters->count; i++) {
        brt_tensor *tensor = &optimizer->parameters->items[i].tensor;
        tensor->gradient = NULL;
        tensor->wants_gradient = tensor->has_gradient = false;
    }
    free(optimizer->gradient);
    free(optimizer->partial);
    *optimizer = (brt_optimizer){0};
}

/* ---- parts: stretches of one parameter -------------------------------------------------------------------- */

size_t brt_optimizer_offset(const brt_optimizer *optimizer, const brt_parameter *parameter)
{
    return (size_t)(parameter->tensor.data - optimizer->parameters->memory);
}

brt_part brt_optimizer_part(const brt_optimizer *optimizer, size_t index)
{
    const brt_parameter *parameter = optimizer->parameters->items;
    while (index >= parts_of(parameter))
        index -= parts_of(parameter++);
    size_t first = index * part_reals;
    return (brt_part){parameter, brt_optimizer_offset(optimizer, parameter) + first,
                      brt_min_size(part_reals, parameter->tensor.count - first)};
}

/* ---- norms -------------------------------------------------------------------------------------------------- */

static void square_task(void *context, size_t task, int thread)
{
    const brt_optimizer *optimizer = context;
    brt_part p = brt_optimizer_part(optimizer, task);
    (void)thread;
    optimizer->kernels->sum_squares(p.count, optimizer->gradient + p.offset, &optimizer->partial[task]);
}

static double sum_partial(const brt_optimizer *optimizer, size_t parts)
{
    double sum = 0;
    for (size_t i = 0; i < parts; i++)
        sum += optimizer->partial[i];
    return sum;
}

double brt_optimizer_norm(brt_optimizer *optimizer)
{
    brt_parallel_for(optimizer->threads, optimizer->parts, square_task, optimizer);
    return sqrt(sum_partial(optimizer, optimizer->parts));
}

typedef struct squaring {
    const brt_optimizer *optimizer;
    const real *x;
    size_t count;
} squaring;

static void square_part_task(void *context, size_t task, int thread)
{
    const squaring *s = context;
    size_t first = task * part_reals;
    (void)thread;
    s->optimizer->kernels->sum_squares(brt_min_size(part_reals, s->count - first), s->x + first,
                                       &s->optimizer->partial[task]);
}

double brt_optimizer_squares(brt_optimizer *optimizer, const real *x, size_t count)
{
    squaring s = {optimizer, x, count};
    brt_parallel_for(optimizer->threads, brt_ceil_div(count, part_reals), square_part_task, &s);
    return sum_partial(optimizer, brt_ceil_div(count, part_reals));
}

/* ---- updates ------------------------------------------------------------------------------------------------ */

void brt_optimizer_update(brt_optimizer *optimizer, float learning_rate, double norm)
{
    optimizer->step++;
    /* PyTorch's clip_grad_norm_. */
    double scale = optimizer->clip > 0 ? fmin(1, (double)optimizer->clip / (norm + 1e-6)) : 1;
    optimizer->method->update(optimizer, (double)learning_rate, scale);
}
