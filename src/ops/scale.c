/* y[r] = factor * scale[r] * x[r] by rows, scale optional;  dx[r] = factor * scale[r] * dy[r],
 * d scale[r] = factor * x[r] . dy[r]. For what is small: gains, biases by distance. */
#include "ops.h"

typedef struct scaling {
    size_t rows, dim;
    real factor;
} scaling;

static real factor_of(const brt_node *node, size_t row)
{
    const scaling *how = node->attributes;
    return how->factor * (node->in[1] ? node->in[1]->data[row] : 1);
}

static void forward(brt_tape *tape, brt_node *node)
{
    const scaling *how = node->attributes;
    for (size_t r = 0; r < how->rows; r++)
        brt_tape_kernels(tape)->scale(how->dim, factor_of(node, r), node->in[0]->data + r * how->dim,
                                      node->out[0]->data + r * how->dim);
}

static void backward(brt_tape *tape, brt_node *node)
{
    const scaling *how = node->attributes;
    const brt_kernels *kernels = brt_tape_kernels(tape);
    brt_gradient dx = brt_gradient_open(tape, node->in[0]);
    real *dscale = node->in[1] ? brt_gradient_accumulate(tape, node->in[1]) : NULL;
    for (size_t r = 0; brt_tape_running(tape) && r < how->rows; r++) {
        const real *x = node->in[0]->data + r * how->dim, *dy = node->out[0]->gradient + r * how->dim;
        real along;
        if (dx.data)
            kernels->scale(how->dim, factor_of(node, r), dy, dx.data + r * how->dim);
        if (!dscale)
            continue;
        kernels->matvec(1, 1, how->dim, x, how->dim, dy, how->dim, &along, 1, false);
        dscale[r] += how->factor * along;
    }
    brt_gradient_close(tape, node->in[0], dx);
}

static const brt_op op = {.name = "scale", .forward = forward, .backward = backward};

brt_tensor *brt_op_scale(brt_tape *tape, brt_tensor *x, brt_tensor *scale, real factor)
{
    size_t rows = scale ? scale->count : 1;
    scaling how = {rows, x->count / rows, factor};
    brt_tensor *y = brt_tape_tensor(tape, x->dims, x->shape);
    brt_tape_push(tape, &(brt_node){.op = &op, .in = {x, scale}, .out = {y}, .attributes = &how}, sizeof how);
    return y;
}
