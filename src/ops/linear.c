/* y = x W^T + bias + residual;  dx = dy W,  dW = dy^T x,  d bias = sum of dy,  d residual = dy.
 * On a tape that uses bf16 the products are of x, dy and W rounded to bf16, and summed in f32. */
#include "product.h"

#include "../tensor/bulk.h"

typedef struct linear {
    brt_linear weights;
    size_t rows, out;
} linear;

enum { x_input, weight_input, bias_input, residual_input };

void brt_product(const brt_tape *tape, int threads, const brt_linear *weights, size_t rows, const real *x,
                 const real *added, real *y)
{
    if (!weights->quantized) {
        brt_matrix_forward(weights->matrix, threads, brt_tape_has_bf16(tape), rows, brt_operand_in(x, false), added,
                           y);
        return;
    }
    if (added)
        brt_bulk_copy(threads, rows * weights->weight->shape[0], added, y);
    brt_quantized_forward(weights->quantized, brt_tape_kernels(tape), threads, rows, x, y, added != NULL);
}

static void forward(brt_tape *tape, brt_node *node)
{
    const linear *how = node->attributes;
    const brt_tensor *bias = node->in[bias_input], *residual = node->in[residual_input];
    const real *x = node->in[x_input]->data;
    real *y = node->out[0]->data;
    int threads = brt_tape_threads(tape);
    brt_product(tape, threads, &how->weights, how->rows, x, residual ? residual->data : NULL, y);
    if (bias)
        brt_bulk_add_row(brt_tape_kernels(tape), threads, how->rows, how->out, bias->data, y);
}

static void backward(brt_tape *tape, brt_node *node)
{
    const linear *how = node->attributes;
    brt_tensor *x = node->in[x_input], *bias = node->in[bias_input], *residual = node->in[residual_input];
    int threads = brt_tape_threads(tape);
    bool bf16 = brt_tape_has_bf16(tape);
    const real *dy = node->out[0]->gradient;
    bool dx_accumulates = x->has_gradient;
    real *dx = brt_gradient_reach(tape, x);
    real *dweight = brt_gradient_accumulate(tape, node->in[weight_input]);
    real *dbias = bias ? brt_gradient_accumulate(tape, bias) : NULL;
    brt_tensor *room = brt_scratch(tape, brt_matrix_gradient_room(how->weights.matrix, threads, bf16, how->rows));
    if (brt_tape_running(tape)) {
        if (dx)
            brt_matrix_input_gradient(how->weights.matrix, threads, bf16, how->rows, brt_operand_in(dy, false), dx,
                                      dx_accumulates);
        if (dweight)
            brt_matrix_weight_gradient(how->weights.matrix, threads, bf16, how->rows, dy, x->data, dweight,
                                       room->data);
        if (dbias)
            brt_bulk_sum_rows(brt_tape_kernels(tape), threads, how->rows, how->out, dy, dbias);
    }
    brt_scratch_free(tape, room);
    if (residual)
        brt_gradient_hand_on(tape, node->out[0], residual);
}

static const brt_op op = {.name = "linear", .forward = forward, .backward = backward};

brt_tensor *brt_op_linear(brt_tape *tape, brt_tensor *x, const brt_linear *linear_, brt_tensor *residual)
{
    size_t in = linear_->weight->shape[1], out = linear_->weight->shape[0];
    linear how = {*linear_, x->count / in - x->unused, out};
    brt_tensor *y = x->dims == 2 ? brt_tape_tensor(tape, BRT_SHAPE(x->shape[0], out))
                                 : brt_tape_tensor(tape, BRT_SHAPE(x->shape[0], x->shape[1], out));
    y->unused = x->unused;
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
