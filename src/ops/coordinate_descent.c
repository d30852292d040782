#include "coordinate_descent.h"

#include "../base/size.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- the solver -------------------------------------------------------------------------------------------- */

/* log of a sum of exponentials that grows by ever larger terms. */
static double log_add(double log_sum, double term)
{
    return term + log1p(exp(log_sum - term));
}

static int descending(const void *a, const void *b)
{
    real x = *(const real *)a, y = *(const real *)b;
    return (x < y) - (x > y);
}

void brt_sort_descending(size_t count, real *scores)
{
    qsort(scores, count, sizeof *scores, descending);
}

double brt_coordinate_descent(size_t count, const real *largest, double log_rest, double k, double epsilon,
                              size_t *saturated)
{
    double log_sum = log_rest, a = (double)INFINITY;
    /* From the most weights at 1 that k allows down to those that deserve it: with one too many, a is too small for the
     * last of them. */
    size_t m = brt_min_size(count, (size_t)ceil(k) - 1);
    for (size_t i = count; i-- > m;)
        log_sum = log_add(log_sum, (double)largest[i] / epsilon);
    for (;; m--) {
        if (log_sum > -(double)INFINITY)
            a = epsilon * (log(k - (double)m) - log_sum);
        if (m == 0 || (double)largest[m - 1] + a >= 0)
            break;
        log_sum = log_add(log_sum, (double)largest[m - 1] / epsilon);
    }
    *saturated = m;
    return a;
}

/* ---- the price of being chosen ------------------------------------------------------------------------------- */

typedef struct pricing {
    size_t batch, n, k;
    double epsilon;
    brt_tensor *sorted; /* [batch, n], of forward alone */
} pricing;

static void price_row(const pricing *how, const real *scores, real *sorted, real *out)
{
    size_t n = how->n, k = how->k, saturated;
    out[BRT_PRICE_THRESHOLD] = out[BRT_PRICE_A] = 0;
    if (k >= n)
        return;
    double soft_k = fmin((double)k * 9 / 8, (double)(k + n) / 2);
    memcpy(sorted, scores, n * sizeof *sorted);
    brt_sort_descending(n, sorted);
    out[BRT_PRICE_THRESHOLD] = (sorted[k - 1] + sorted[k]) / 2;
    out[BRT_PRICE_A] = (real)brt_coordinate_descent(n, sorted, -(double)INFINITY, soft_k, how->epsilon, &saturated);
}

static void price_forward(brt_tape *tape, brt_node *node)
{
    const pricing *how = node->attributes;
    (void)tape;
    for (size_t b = 0; b < how->batch; b++)
        price_row(how, node->in[0]->data + b * how->n, how->sorted->data + b * how->n,
                  node->out[0]->data + b * BRT_PRICE_NUMBERS);
}

/* exp((s + a) / epsilon), or 0 where the weight is 1: what moves with a. */
static double moving_weight(const pricing *how, real score, real a)
{
    double excess = (double)score + (double)a;
    return excess < 0 ? exp(excess / how->epsilon) : 0;
}

static void price_row_backward(const pricing *how, const real *scores, real a, real da, real *dscores)
{
    double mass = 0;
    for (size_t i = 0; i < how->n; i++)
        mass += moving_weight(how, scores[i], a);
    for (size_t i = 0; i < how->n; i++)
        dscores[i] = how->k < how->n ? (real)(-(double)da * moving_weight(how, scores[i], a) / mass) : 0;
}

static void price_backward(brt_tape *tape, brt_node *node)
{
    const pricing *how = node->attributes;
    const brt_tensor *out = node->out[0];
    brt_gradient dscores = brt_gradient_open(tape, node->in[0]);
    for (size_t b = 0; dscores.data && brt_tape_running(tape) && b < how->batch; b++)
        price_row_backward(how, node->in[0]->data + b * how->n, out->data[b * BRT_PRICE_NUMBERS + BRT_PRICE_A],
                           out->gradient[b * BRT_PRICE_NUMBERS + BRT_PRICE_A], dscores.data + b * how->n);
    brt_gradient_close(tape, node->in[0], dscores);
}

static const brt_op price_op = {.name = "price", .forward = price_forward, .backward = price_backward};

brt_tensor *brt_op_price(brt_tape *tape, brt_tensor *scores, size_t k, double epsilon)
{
    size_t batch = scores->shape[0], n = scores->count / batch;
    pricing how = {batch, n, k, epsilon, brt_scratch(tape, scores->count)};
    brt_tensor *out = brt_tape_tensor(tape, BRT_SHAPE(batch, 1, BRT_PRICE_NUMBERS));
    brt_tape_push(tape, &(brt_node){.op = &price_op, .in = {scores}, .out = {out}, .attributes = &how}, sizeof how);
    brt_scratch_free(tape, how.sorted);
    return out;
}
