/* y = x W^T + bias + residual;  dx = dy W,  dW = dy^T x,  d bias = sum of dy,  d residual = dy. */
#include "ops.h"

#include <string.h>

typedef struct linear {
    const brt_matrix *matrix;
    size_t rows, in, out;
} linear;

enum { x_input, weight_input, bias_input, residual_input };

static void forward(brt_tape *tape, brt_node *node)
{
    const linear *how = node->attributes;
    const brt_tensor *bias = node->in[bias_input], *residual = node->in[residual_input];
    real *y = node->out[0]->data;
    if (residual)
        memcpy(y, residual->data, residual->count * sizeof(real));
    brt_status status = brt_matrix_forward(how->matrix, brt_tape_threads(tape), how->rows, node->in[x_input]->data, y,
                                           residual != NULL);
    if (status != BRT_OK)
        brt_tape_fail(tape, status);
    for (size_t row = 0; bias && row < how->rows; row++)
        brt_tape_kernels(tape)->add(how->out, bias->data, y + row * how->out);
}

static void backward(brt_tape *tape, brt_node *node)
{
    const linear *how = node->attributes;
    brt_tensor *x = node->in[x_input], *bias = node->in[bias_input], *residual = node->in[residual_input];
    const real *dy = node->out[0]->gradient;
    bool dx_accumulates = x->has_gradient;
    real *dx = brt_gradient_reach(tape, x);
    real *dweight = brt_gradient_accumulate(tape, node->in[weight_input]);
    real *dbias = bias ? brt_gradient_accumulate(tape, bias) : NULL;
    brt_gradient dresidual = {0};
    if (residual)
        dresidual = brt_gradient_open(tape, residual);
    if (brt_tape_running(tape)) {
        int threads = brt_tape_threads(tape);
        brt_status status = BRT_OK;
        if (dresidual.data)
            memcpy(dresidual.data, dy, residual->count * sizeof(real));
        if (dx)
            status = brt_matrix_input_gradient(how->matrix, threads, how->rows, dy, dx, dx_accumulates);
        if (dweight && status == BRT_OK)
            status = brt_matrix_weight_gradient(how->matrix, threads, how->rows, dy, x->data, dweight);
        for (size_t row = 0; dbias && row < how->rows; row++)
            brt_tape_kernels(tape)->add(how->out, dy + row * how->out, dbias);
        if (status != BRT_OK)
            brt_tape_fail(tape, status);
    }
    if (residual)
        brt_gradient_close(tape, residual, dresidual);
}

static const brt_op op = {.name = "linear", .forward = forward, .backward = backward};

brt_tensor *brt_op_linear(brt_tape *tape, brt_tensor *x, const brt_linear *linear_, brt_tensor *residual)
{
    size_t in = linear_->weight->shape[1], out = linear_->weight->shape[0];
    linear how = {linear_->matrix, x->count / in, in, out};
    brt_tensor *y = x->dims == 2 ? brt_tape_tensor(tape, BRT_SHAPE(x->shape[0], out))
                                 : brt_tape_tensor(tape, BRT_SHAPE(x->shape[0], x->shape[1], out));
    brt_tape_push(tape,
                  &(brt_node){.op = &op,
                              .in = {x, linear_->weight, linear_->bias, residual},
                              .out = {y},
                              .attributes = &how,
                              .flops = 2 * how.rows * in * out,
                              .backward_flops = (x->wants_gradient ? 4 : 2) * how.rows * in * out},
                  sizeof how);
    return y;
}
