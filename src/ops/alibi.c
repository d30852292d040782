/* ALiBi (Press et al. 2022) with a learned slope and a bound: bias[h, d] = max(-|scale| * slope_h * d, -|bound|), with
 * slope_h = 2^(-8 (h + 1) / heads); scale and bound are one number each, the bound may be fixed instead.
 * d scale = -sign(scale) * sum of slope_h * d * d bias over what is above the bound, d bound = -sign(bound) * sum of d
 * bias over the rest. */
#include "ops.h"

#include <math.h>

typedef struct attributes {
    size_t heads, span;
    real fixed_bound;
} attributes;

static real magnitude(real x)
{
    return x < 0 ? -x : x;
}

static real sign(real x)
{
    return (real)(x > 0) - (real)(x < 0);
}

/* Of distance d, with scale 1. */
static real slope_at(const attributes *a, size_t h, size_t d)
{
    return (real)(pow(2, -8 * (double)(h + 1) / (double)a->heads) * (double)d);
}

static real bound_of(const brt_node *node)
{
    const attributes *a = node->attributes;
    return magnitude(node->in[1] ? node->in[1]->data[0] : a->fixed_bound);
}

static void forward(brt_tape *tape, brt_node *node)
{
    const attributes *a = node->attributes;
    real scale = magnitude(node->in[0]->data[0]), bound = bound_of(node), *bias = node->out[0]->data;
    (void)tape;
    for (size_t h = 0; h < a->heads; h++)
        for (size_t d = 0; d < a->span; d++) {
            real fall = scale * slope_at(a, h, d);
            *bias++ = fall < bound ? -fall : -bound;
        }
}

static void backward(brt_tape *tape, brt_node *node)
{
    const attributes *a = node->attributes;
    real *dscale = brt_gradient_accumulate(tape, node->in[0]);
    real *dbound = node->in[1] ? brt_gradient_accumulate(tape, node->in[1]) : NULL;
    if (!brt_tape_running(tape))
        return;
    const real *dbias = node->out[0]->gradient;
    real scale = node->in[0]->data[0], bound = bound_of(node);
    for (size_t h = 0; h < a->heads; h++)
        for (size_t d = 0; d < a->span; d++, dbias++) {
            real slope = slope_at(a, h, d);
            bool bounded = !(magnitude(scale) * slope < bound);
            if (dscale && !bounded)
                *dscale -= sign(scale) * slope * *dbias;
            if (dbound && bounded)
                *dbound -= sign(node->in[1]->data[0]) * *dbias;
        }
}

static const brt_op op = {.name = "alibi", .forward = forward, .backward = backward};

brt_tensor *brt_op_alibi(brt_tape *tape, brt_tensor *scale, brt_tensor *bound, real fixed_bound, size_t heads,
                         size_t span)
{
    attributes a = {heads, span, fixed_bound};
    brt_tensor *bias = brt_tape_tensor(tape, BRT_SHAPE(heads, span));
    brt_tape_push(tape, &(brt_node){.op = &op, .in = {scale, bound}, .out = {bias}, .attributes = &a}, sizeof a);
    return bias;
}
