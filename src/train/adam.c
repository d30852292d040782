/* Adam (Kingma & Ba 2015), with decoupled decay AdamW (Loshchilov & Hutter 2019). */
#include "optimizer.h"

#include "../base/parallel.h"

#include <math.h>

static size_t kept_reals(const brt_parameters *parameters)
{
    return 2 * parameters->total;
}

static real *second_moments(const brt_optimizer *optimizer)
{
    return optimizer->kept + optimizer->parameters->total;
}

static size_t list_moments(const brt_optimizer *optimizer, const brt_parameter *parameter,
                           brt_moment moments[BRT_MOST_MOMENTS])
{
    size_t offset = brt_optimizer_offset(optimizer, parameter);
    moments[0] = brt_moment_like("first_moment", parameter, optimizer->kept + offset);
    moments[1] = brt_moment_like("second_moment", parameter, second_moments(optimizer) + offset);
    return 2;
}

typedef struct updating {
    const brt_optimizer *optimizer;
    brt_adam_step step;
} updating;

static void update_task(void *context, size_t task, int thread)
{
    const updating *u = context;
    const brt_optimizer *o = u->optimizer;
    brt_part p = brt_optimizer_part(o, task);
    brt_adam_step step = u->step;
    (void)thread;
    if (!p.parameter->decays)
        step.weight_decay = 0;
    o->kernels->adam(p.count, o->parameters->memory + p.offset, o->gradient + p.offset, o->kept + p.offset,
                     second_moments(o) + p.offset, &step);
}

static void update(brt_optimizer *optimizer, double learning_rate, double gradient_scale)
{
    updating u = {optimizer,
                  {.gradient_scale = (real)gradient_scale,
                   .learning_rate = (real)learning_rate,
                   .beta1 = optimizer->beta1,
                   .beta2 = optimizer->beta2,
                   .epsilon = optimizer->epsilon,
                   .weight_decay = optimizer->weight_decay,
                   .correction1 = (real)(1 - pow((double)optimizer->beta1, (double)optimizer->step)),
                   .correction2 = (real)(1 - pow((double)optimizer->beta2, (double)optimizer->step))}};
    brt_parallel_for(optimizer->threads, optimizer->parts, update_task, &u);
}

const brt_method brt_adam = {kept_reals, list_moments, update};
