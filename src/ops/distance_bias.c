/* A bias of attention by distance, linear in its parameters: bias[h, d] = sum over t of table[h, t] * basis[t, d]. The
 * basis is fixed and says which encoding it is: for T5's buckets (Raffel et al. 2020) basis[t, d] is 1 where d falls
 * into bucket t, for Fourier's the cosines and sines of d.
 * d table[h, t] = sum over d of d bias[h, d] * basis[t, d]. */
#include "ops.h"

typedef struct attributes {
    const real *basis;
    size_t heads, terms, span;
} attributes;

static void forward(brt_tape *tape, brt_node *node)
{
    const attributes *a = node->attributes;
    brt_tape_kernels(tape)->matmul(a->heads, a->span, a->terms, node->in[0]->data, a->terms, 1, a->basis, a->span,
                                   node->out[0]->data, a->span, false);
}

static void backward(brt_tape *tape, brt_node *node)
{
    const attributes *a = node->attributes;
    real *dtable = brt_gradient_accumulate(tape, node->in[0]);
    if (dtable && brt_tape_running(tape))
        brt_tape_kernels(tape)->matvec(a->heads, a->terms, a->span, node->out[0]->gradient, a->span, a->basis, a->span,
                                       dtable, a->terms, true);
}

static const brt_op op = {.name = "distance_bias", .forward = forward, .backward = backward};

brt_tensor *brt_op_distance_bias(brt_tape *tape, brt_tensor *table, const real *basis, size_t span)
{
    attributes a = {basis, table->shape[0], table->shape[1], span};
    brt_tensor *bias = brt_tape_tensor(tape, BRT_SHAPE(a.heads, span));
    brt_tape_push(tape, &(brt_node){.op = &op, .in = {table}, .out = {bias}, .attributes = &a}, sizeof a);
    return bias;
}
