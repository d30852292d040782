/* y = x W^T + bias + residual;  dx = dy W,  dW = dy^T x,  d bias = sum of dy,  d residual = dy.
 * On a tape that uses bf16 the products are of x, dy and W rounded to bf16, and summed in f32. */
#include "ops.h"

#include "../base/size.h"
#include "../tensor/bulk.h"

typedef struct linear {
    const brt_matrix *matrix;
    const brt_quantized *quantized; /* NULL: the product is the matrix's */
    size_t rows, in, out;
    brt_tensor *rounded; /* room for x in bf16, of forward alone */
} linear;

enum { x_input, weight_input, bias_input, residual_input };

/* ---- operands in bf16 ------------------------------------------------------------------------------------ */

/* Room for so many numbers in bf16, in reals; NULL on a tape without bf16. */
static brt_tensor *take_room(brt_tape *tape, size_t count)
{
    return brt_tape_has_bf16(tape) ? brt_scratch(tape, brt_ceil_div(count * sizeof(uint16_t), sizeof(real))) : NULL;
}

static void free_room(brt_tape *tape, brt_tensor *room)
{
    if (room)
        brt_scratch_free(tape, room);
}

/* The data, and with room its copy in bf16. */
static brt_operand make_operand(brt_tape *tape, size_t count, const real *data, const brt_tensor *room)
{
    if (!room)
        return (brt_operand){data, NULL};
    uint16_t *rounded = (uint16_t *)(void *)room->data;
    brt_bulk_round(brt_tape_kernels(tape), brt_tape_threads(tape), count, data, rounded);
    return (brt_operand){data, rounded};
}

/* ---- the operation ----------------------------------------------------------------------------------------- */

/* y (+)= x W^T */
static void multiply(brt_tape *tape, const linear *how, const real *x, real *y, bool accumulate)
{
    int threads = brt_tape_threads(tape);
    if (how->quantized) {
        brt_quantized_forward(how->quantized, brt_tape_kernels(tape), threads, how->rows, x, y, accumulate);
        return;
    }
    brt_operand operand = make_operand(tape, how->rows * how->in, x, how->rounded);
    brt_status status = brt_matrix_forward(how->matrix, threads, how->rows, operand, y, accumulate);
    if (status != BRT_OK)
        brt_tape_fail(tape, status);
}

static void forward(brt_tape *tape, brt_node *node)
{
    const linear *how = node->attributes;
    const brt_tensor *bias = node->in[bias_input], *residual = node->in[residual_input];
    real *y = node->out[0]->data;
    if (residual)
        brt_bulk_copy(brt_tape_threads(tape), residual->count, residual->data, y);
    multiply(tape, how, node->in[x_input]->data, y, residual != NULL);
    if (bias)
        brt_bulk_add_row(brt_tape_kernels(tape), brt_tape_threads(tape), how->rows, how->out, bias->data, y);
}

/* Both products of the backward pass; dx or dweight NULL: not wanted. */
static void multiply_back(brt_tape *tape, const linear *how, brt_operand dy, brt_operand x, real *dx,
                          bool dx_accumulates, real *dweight)
{
    int threads = brt_tape_threads(tape);
    brt_status status = BRT_OK;
    if (dx)
        status = brt_matrix_input_gradient(how->matrix, threads, how->rows, dy, dx, dx_accumulates);
    if (dweight && status == BRT_OK)
        status = brt_matrix_weight_gradient(how->matrix, threads, how->rows, dy, x, dweight);
    if (status != BRT_OK)
        brt_tape_fail(tape, status);
}

static void backward(brt_tape *tape, brt_node *node)
{
    const linear *how = node->attributes;
    brt_tensor *x = node->in[x_input], *bias = node->in[bias_input], *residual = node->in[residual_input];
    size_t x_count = how->rows * how->in, dy_count = how->rows * how->out;
    const real *dy = node->out[0]->gradient;
    bool dx_accumulates = x->has_gradient;
    real *dx = brt_gradient_reach(tape, x);
    real *dweight = brt_gradient_accumulate(tape, node->in[weight_input]);
    real *dbias = bias ? brt_gradient_accumulate(tape, bias) : NULL;
    brt_gradient dresidual = {0};
    if (residual)
        dresidual = brt_gradient_open(tape, residual);
    brt_tensor *x_room = take_room(tape, x_count), *dy_room = take_room(tape, dy_count);
    if (brt_tape_running(tape)) {
        if (dresidual.data)
            brt_bulk_copy(brt_tape_threads(tape), residual->count, dy, dresidual.data);
        multiply_back(tape, how, make_operand(tape, dy_count, dy, dy_room),
                      make_operand(tape, x_count, x->data, x_room), dx, dx_accumulates, dweight);
        if (dbias)
            brt_bulk_sum_rows(brt_tape_kernels(tape), brt_tape_threads(tape), how->rows, how->out, dy, dbias);
    }
    free_room(tape, dy_room);
    free_room(tape, x_room);
    if (residual)
        brt_gradient_close(tape, residual, dresidual);
}

static const brt_op op = {.name = "linear", .forward = forward, .backward = backward};

brt_tensor *brt_op_linear(brt_tape *tape, brt_tensor *x, const brt_linear *linear_, brt_tensor *residual)
{
    size_t in = linear_->weight->shape[1], out = linear_->weight->shape[0];
    linear how = {linear_->matrix, linear_->quantized, x->count / in, in, out, take_room(tape, x->count)};
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
    free_room(tape, how.rounded);
    return y;
}
