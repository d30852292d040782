#include "conditional.h"

#include "../tensor/bulk.h"
#include "coordinate_descent.h"

#include <math.h>
#include <string.h>

typedef struct conditional {
    size_t batch, time, dim;
    double epsilon;
    bool everything;
} conditional;

enum { main_input, scores_input, price_input, rows_input };

/* Whether token i, of all rows of the batch, is chosen. */
static bool is_chosen(const conditional *how, const brt_node *node, size_t i)
{
    const real *row = node->in[price_input]->data + i / how->time * BRT_PRICE_NUMBERS;
    return how->everything || node->in[scores_input]->data[i] >= row[BRT_PRICE_THRESHOLD];
}

static conditional describe(const brt_tensor *x, const brt_selection *selection)
{
    return (conditional){x->shape[0], x->shape[1], x->shape[2], selection->epsilon, selection->everything};
}

/* ---- taking -------------------------------------------------------------------------------------------------- */

static void take(brt_tape *tape, brt_node *node)
{
    const conditional *how = node->attributes;
    size_t tokens = how->batch * how->time, taken = 0;
    (void)tape;
    for (size_t i = 0; i < tokens; i++)
        if (is_chosen(how, node, i))
            memcpy(node->out[0]->data + taken++ * how->dim, node->in[main_input]->data + i * how->dim,
                   how->dim * sizeof(real));
    node->out[0]->unused = tokens - taken;
}

static void take_backward(brt_tape *tape, brt_node *node)
{
    const conditional *how = node->attributes;
    real *dx = brt_gradient_accumulate(tape, node->in[main_input]);
    const real *dtaken = node->out[0]->gradient;
    for (size_t i = 0; brt_tape_running(tape) && dx && i < how->batch * how->time; i++)
        if (is_chosen(how, node, i)) {
            brt_tape_kernels(tape)->add(how->dim, dtaken, dx + i * how->dim);
            dtaken += how->dim;
        }
}

static const brt_op take_op = {
    .name = "take_chosen", .repeatable = true, .forward = take, .backward = take_backward};

brt_tensor *brt_op_take_chosen(brt_tape *tape, brt_tensor *x, const brt_selection *selection)
{
    conditional how = describe(x, selection);
    brt_tensor *taken = brt_tape_tensor(tape, 3, x->shape);
    brt_tape_push(tape,
                  &(brt_node){.op = &take_op,
                              .in = {x, selection->scores, selection->price},
                              .out = {taken},
                              .attributes = &how},
                  sizeof how);
    return taken;
}

/* ---- adding -------------------------------------------------------------------------------------------------- */

static void add(brt_tape *tape, brt_node *node)
{
    const conditional *how = node->attributes;
    const brt_tensor *x = node->in[main_input];
    const real *row = node->in[rows_input]->data;
    real *sum = node->out[0]->data;
    brt_bulk_copy(brt_tape_threads(tape), x->count, x->data, sum);
    for (size_t i = 0; i < how->batch * how->time; i++)
        if (is_chosen(how, node, i)) {
            brt_tape_kernels(tape)->add(how->dim, row, sum + i * how->dim);
            row += how->dim;
        }
}

/* d p_i / d s_i = d p_i / d a */
static double slope(const conditional *how, const brt_node *node, size_t i)
{
    double a = (double)node->in[price_input]->data[i / how->time * BRT_PRICE_NUMBERS + BRT_PRICE_A];
    double excess = (double)node->in[scores_input]->data[i] + a;
    return how->everything || excess >= 0 ? 0 : exp(excess / how->epsilon) / how->epsilon;
}

/* Of the rows and of their weights. */
static void add_backward_chosen(brt_tape *tape, const brt_node *node, real *drows, real *dscores, real *dprice)
{
    const conditional *how = node->attributes;
    const real *dsum = node->out[0]->gradient, *rows = node->in[rows_input]->data;
    size_t dim = how->dim, taken = 0;
    for (size_t i = 0; i < how->batch * how->time; i++) {
        if (dscores)
            dscores[i] = 0;
        if (!is_chosen(how, node, i))
            continue;
        const real *dy = dsum + i * dim, *y = rows + taken * dim;
        real gain;
        if (drows)
            memcpy(drows + taken * dim, dy, dim * sizeof *dy);
        brt_tape_kernels(tape)->matvec(1, 1, dim, y, dim, dy, dim, &gain, 1, false);
        gain = (real)((double)gain * slope(how, node, i));
        if (dscores)
            dscores[i] = gain;
        if (dprice)
            dprice[i / how->time * BRT_PRICE_NUMBERS + BRT_PRICE_A] += gain;
        taken++;
    }
}

static void add_backward(brt_tape *tape, brt_node *node)
{
    real *dprice = brt_gradient_accumulate(tape, node->in[price_input]);
    brt_gradient drows = brt_gradient_open(tape, node->in[rows_input]);
    brt_gradient dscores = brt_gradient_open(tape, node->in[scores_input]);
    if (brt_tape_running(tape))
        add_backward_chosen(tape, node, drows.data, dscores.data, dprice);
    brt_gradient_close(tape, node->in[scores_input], dscores);
    brt_gradient_close(tape, node->in[rows_input], drows);
    brt_gradient_hand_on(tape, node->out[0], node->in[main_input]);
}

static const brt_op add_op = {.name = "add_chosen", .forward = add, .backward = add_backward};

brt_tensor *brt_op_add_chosen(brt_tape *tape, brt_tensor *x, brt_tensor *y, const brt_selection *selection)
{
    conditional how = describe(x, selection);
    brt_tensor *sum = brt_tape_tensor(tape, 3, x->shape);
    brt_tape_push(tape,
                  &(brt_node){.op = &add_op,
                              .in = {x, selection->scores, selection->price, y},
                              .out = {sum},
                              .attributes = &how},
                  sizeof how);
    return sum;
}
