#include "optimizer.h"

#include "../base/parallel.h"
#include "../base/size.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { part_reals = 1 << 15 }; /* of one task: 128 KiB each of weights, gradients and moments */

size_t brt_optimizer_bytes(const brt_parameters *parameters)
{
    return 3 * parameters->total * sizeof(real);
}

static size_t parts_of(const brt_parameter *parameter)
{
    return brt_ceil_div(parameter->tensor.count, part_reals);
}

brt_status brt_optimizer_create(brt_optimizer *optimizer, const brt_kernels *kernels, brt_parameters *parameters,
                                int threads)
{
    *optimizer = (brt_optimizer){.kernels = kernels, .parameters = parameters, .threads = threads};
    size_t total = parameters->total;
    for (size_t i = 0; i < parameters->count; i++)
        optimizer->parts += parts_of(&parameters->items[i]);
    optimizer->gradient = aligned_alloc(64, 3 * total * sizeof(real));
    optimizer->partial = calloc(optimizer->parts, sizeof *optimizer->partial);
    if (!optimizer->gradient || !optimizer->partial) {
        brt_optimizer_close(optimizer);
        return BRT_FAIL(BRT_ERROR_MEMORY, "out of memory for %zu bytes of gradients and moments",
                        brt_optimizer_bytes(parameters));
    }
    memset(optimizer->gradient, 0, 3 * total * sizeof(real));
    optimizer->first = optimizer->gradient + total;
    optimizer->second = optimizer->first + total;
    for (size_t i = 0; i < parameters->count; i++) {
        brt_tensor *tensor = &parameters->items[i].tensor;
        tensor->gradient = optimizer->gradient + (tensor->data - parameters->memory);
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

typedef struct part {
    const brt_parameter *parameter;
    size_t offset, count; /* offset in the parameters' memory */
} part;

static part find_part(const brt_optimizer *optimizer, size_t index)
{
    const brt_parameter *parameter = optimizer->parameters->items;
    while (index >= parts_of(parameter))
        index -= parts_of(parameter++);
    size_t first = index * part_reals;
    return (part){parameter, (size_t)(parameter->tensor.data - optimizer->parameters->memory) + first,
                  brt_min_size(part_reals, parameter->tensor.count - first)};
}

static void square_task(void *context, size_t task, int thread)
{
    const brt_optimizer *optimizer = context;
    part p = find_part(optimizer, task);
    (void)thread;
    optimizer->kernels->sum_squares(p.count, optimizer->gradient + p.offset, &optimizer->partial[task]);
}

double brt_optimizer_norm(brt_optimizer *optimizer)
{
    brt_parallel_for(optimizer->threads, optimizer->parts, square_task, optimizer);
    double sum = 0;
    for (size_t i = 0; i < optimizer->parts; i++)
        sum += optimizer->partial[i];
    return sqrt(sum);
}

typedef struct updating {
    const brt_optimizer *optimizer;
    brt_adam_step step;
} updating;

static void update_task(void *context, size_t task, int thread)
{
    const updating *u = context;
    const brt_optimizer *o = u->optimizer;
    part p = find_part(o, task);
    brt_adam_step step = u->step;
    (void)thread;
    if (!p.parameter->decays)
        step.weight_decay = 0;
    o->kernels->adam(p.count, o->parameters->memory + p.offset, o->gradient + p.offset, o->first + p.offset,
                     o->second + p.offset, &step);
}

void brt_optimizer_update(brt_optimizer *optimizer, float learning_rate, double norm)
{
    optimizer->step++;
    /* PyTorch's clip_grad_norm_. */
    double scale = optimizer->clip > 0 ? fmin(1, (double)optimizer->clip / (norm + 1e-6)) : 1;
    updating u = {optimizer,
                  {.gradient_scale = (real)scale,
                   .learning_rate = learning_rate,
                   .beta1 = optimizer->beta1,
                   .beta2 = optimizer->beta2,
                   .epsilon = optimizer->epsilon,
                   .weight_decay = optimizer->weight_decay,
                   .correction1 = (real)(1 - pow((double)optimizer->beta1, (double)optimizer->step)),
                   .correction2 = (real)(1 - pow((double)optimizer->beta2, (double)optimizer->step))}};
    brt_parallel_for(optimizer->threads, optimizer->parts, update_task, &u);
}
