/* The gradients of compressions of memory, and of the queue that keeps them. */
#include "operation_check.h"

#include "ops/compression.h"

static void convolve(check *k, brt_tensor *const *in, const void *options)
{
    weigh(k, brt_op_convolve(k->tape, in[0], in[1], in[2], *(const size_t *)options));
}

/* With a usage that is no input, all numbers of it different. */
static void most_used(check *k, brt_tensor *const *in, const void *options)
{
    static const real used[] = {3, 7, 1, 5, 6, 2, 4, 2, 8, 7, 9, 1, 4, 3};
    brt_tensor *usage = brt_tape_external(k->tape, (real *)used, NULL, BRT_SHAPE(in[0]->shape[0], in[0]->shape[1]));
    weigh(k, brt_op_most_used(k->tape, in[0], usage, *(const size_t *)options));
}

typedef struct pool_options {
    brt_pooling pooling;
    size_t factor;
} pool_options;

static void pool(check *k, brt_tensor *const *in, const void *options)
{
    const pool_options *o = options;
    weigh(k, brt_op_pool(k->tape, in[0], o->pooling, o->factor));
}

static void push(check *k, brt_tensor *const *in, const void *options)
{
    (void)options;
    weigh(k, brt_op_push(k->tape, in[0], in[1]));
}

/* The loss gives its own gradient. */
static void squared_error(check *k, brt_tensor *const *in, const void *options)
{
    const double weight = *(const double *)options;
    push_weighing(k, brt_op_squared_error(k->tape, in[0], in[1], weight), weight);
}

/* ---- the cases ------------------------------------------------------------------------------------------- */

static const operation_case cases[] = {
    {"convolve", convolve, {INPUT("x", 2, 8, 6), INPUT("weight", 6, 3, 4), INPUT("bias", 6)}, OPTIONS(size_t, 1)},
    {"convolve, rows left out", convolve, {INPUT("x", 2, 8, 6), INPUT("weight", 6, 3, 3), INPUT("bias", 6)},
     OPTIONS(size_t, 1)},
    {"convolve, dilated", convolve, {INPUT("x", 2, 9, 4), INPUT("weight", 4, 2, 4), INPUT("bias", 4)},
     OPTIONS(size_t, 2)},
    {"convolve, four groups and many columns", convolve,
     {INPUT("x", 1, 6, 76), INPUT("weight", 76, 19, 2), INPUT("bias", 76)}, OPTIONS(size_t, 1)},
    {"convolve, carried memory", convolve, {DETACHED("x", 2, 8, 6), INPUT("weight", 6, 3, 4), INPUT("bias", 6)},
     OPTIONS(size_t, 1)},

    {"most_used", most_used, {INPUT("x", 2, 7, 3)}, OPTIONS(size_t, 2)},
    {"most_used, one of them", most_used, {INPUT("x", 2, 7, 3)}, OPTIONS(size_t, 7)},

    {"pool, mean", pool, {INPUT("x", 2, 8, 3)}, OPTIONS(pool_options, BRT_POOL_MEAN, 4)},
    {"pool, mean, rows left out", pool, {INPUT("x", 2, 8, 3)}, OPTIONS(pool_options, BRT_POOL_MEAN, 3)},
    {"pool, max", pool, {INPUT("x", 2, 8, 3)}, OPTIONS(pool_options, BRT_POOL_MAX, 4)},
    {"pool, max, rows left out", pool, {INPUT("x", 2, 8, 3)}, OPTIONS(pool_options, BRT_POOL_MAX, 3)},

    {"push", push, {INPUT("queue", 2, 5, 3), INPUT("entries", 2, 2, 3)}, NULL},
    {"push, as many as there is room", push, {INPUT("queue", 2, 3, 3), INPUT("entries", 2, 3, 3)}, NULL},
    {"push, more than there is room", push, {INPUT("queue", 2, 3, 3), INPUT("entries", 2, 5, 3)}, NULL},
    {"push, carried queue", push, {DETACHED("queue", 2, 5, 3), INPUT("entries", 2, 2, 3)}, NULL},
    {"push, carried entries", push, {INPUT("queue", 2, 5, 3), DETACHED("entries", 2, 2, 3)}, NULL},

    {"squared_error", squared_error, {INPUT("x", 2, 3, 5), DETACHED("target", 2, 3, 5)}, OPTIONS(double, 0.3)},
};

int main(void)
{
    return check_operations("double compression", cases, sizeof cases / sizeof cases[0]);
}
