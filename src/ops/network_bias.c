/* A bias of attention by distance from a hidden layer that all heads share, as the code of Hutchins et al. 2022 has it:
 * bias[h, d] = sum over i of 3 sin(table[h, i] / 3) * asinh(shift[i] - weight[i] * d), whose factors stay within 3.
 * With a = asinh(z) and da[i, d] = sum over h of 3 sin(table[h, i] / 3) * dbias[h, d]:  dz = da / sqrt(1 + z^2),
 * dshift = sum of dz over d,  dweight = -sum of d * dz,  dtable[h, i] = cos(table[h, i] / 3) * sum over d of
 * dbias[h, d] * a[i, d]. */
#include "ops.h"

#include <string.h>
#include <tgmath.h>

static const real largest = 3;

typedef struct attributes {
    size_t heads, hidden, span;
    brt_tensor *unit; /* room of forward: a hidden unit's a, [span] */
} attributes;

/* z of unit i at distance d */
static real before_asinh(const brt_node *node, size_t i, size_t d)
{
    return node->in[1]->data[i] - node->in[0]->data[i] * (real)d;
}

static void fill_unit(const brt_node *node, size_t i, size_t span, real *unit)
{
    for (size_t d = 0; d < span; d++)
        unit[d] = asinh(before_asinh(node, i, d));
}

static real factor_of(const brt_node *node, size_t h, size_t i, size_t hidden)
{
    return largest * sin(node->in[2]->data[h * hidden + i] / largest);
}

static void forward(brt_tape *tape, brt_node *node)
{
    const attributes *a = node->attributes;
    real *bias = node->out[0]->data, *unit = a->unit->data;
    memset(bias, 0, a->heads * a->span * sizeof *bias);
    for (size_t i = 0; i < a->hidden; i++) {
        fill_unit(node, i, a->span, unit);
        for (size_t h = 0; h < a->heads; h++)
            brt_tape_kernels(tape)->scale_add(a->span, factor_of(node, h, i, a->hidden), unit, 1, bias + h * a->span);
    }
}

/* Of the i-th hidden unit: room [2, span]. dtable may be NULL. */
static void unit_backward(const brt_kernels *kernels, const brt_node *node, size_t i, real *room, real *dtable,
                          real *dweight, real *dshift)
{
    const attributes *a = node->attributes;
    real *unit = room, *dunit = room + a->span;
    fill_unit(node, i, a->span, unit);
    memset(dunit, 0, a->span * sizeof *dunit);
    for (size_t h = 0; h < a->heads; h++) {
        const real *dbias = node->out[0]->gradient + h * a->span;
        real along;
        kernels->matvec(1, 1, a->span, dbias, a->span, unit, a->span, &along, 1, false);
        if (dtable)
            dtable[h * a->hidden + i] += cos(node->in[2]->data[h * a->hidden + i] / largest) * along;
        kernels->scale_add(a->span, factor_of(node, h, i, a->hidden), dbias, 1, dunit);
    }
    for (size_t d = 0; d < a->span; d++) {
        real z = before_asinh(node, i, d), dz = dunit[d] / sqrt(1 + z * z);
        if (dweight)
            dweight[i] -= dz * (real)d;
        if (dshift)
            dshift[i] += dz;
    }
}

static void backward(brt_tape *tape, brt_node *node)
{
    const attributes *a = node->attributes;
    real *dweight = brt_gradient_accumulate(tape, node->in[0]), *dshift = brt_gradient_accumulate(tape, node->in[1]);
    real *dtable = brt_gradient_accumulate(tape, node->in[2]);
    brt_tensor *room = brt_scratch(tape, 2 * a->span);
    for (size_t i = 0; i < a->hidden && brt_tape_running(tape); i++)
        unit_backward(brt_tape_kernels(tape), node, i, room->data, dtable, dweight, dshift);
    brt_scratch_free(tape, room);
}

static const brt_op op = {.name = "network_bias", .forward = forward, .backward = backward};

brt_tensor *brt_op_network_bias(brt_tape *tape, brt_tensor *weight, brt_tensor *shift, brt_tensor *table, size_t span)
{
    attributes a = {table->shape[0], table->shape[1], span, brt_scratch(tape, span)};
    brt_tensor *bias = brt_tape_tensor(tape, BRT_SHAPE(a.heads, span));
    brt_tape_push(tape, &(brt_node){.op = &op, .in = {weight, shift, table}, .out = {bias}, .attributes = &a},
                  sizeof a);
    brt_scratch_free(tape, a.unit);
    return bias;
}
