/* Optimisers in plain C; a part of plain.c. */
#ifndef BRT_KERNELS_PLAIN_OPTIMIZER_H
#define BRT_KERNELS_PLAIN_OPTIMIZER_H

#include "kernels.h"

#include <tgmath.h>

static void adam(size_t n, real *weight, real *gradient, real *first, real *second, const brt_adam_step *step)
{
    for (size_t i = 0; i < n; i++) {
        real g = gradient[i] * step->gradient_scale;
        first[i] = step->beta1 * first[i] + (1 - step->beta1) * g;
        second[i] = step->beta2 * second[i] + (1 - step->beta2) * g * g;
        weight[i] -= step->learning_rate * step->weight_decay * weight[i];
        weight[i] -= step->learning_rate * (first[i] / step->correction1) /
                     (sqrt(second[i] / step->correction2) + step->epsilon);
        gradient[i] = 0;
    }
}

static void add_squares(size_t n, const real *x, real *y)
{
    for (size_t i = 0; i < n; i++)
        y[i] += x[i] * x[i];
}

static void multiply(size_t n, real a, const real *x, real *y)
{
    for (size_t i = 0; i < n; i++)
        y[i] = a * x[i] * y[i];
}

static void adafactor_scale(size_t n, real decay, real *gradient, real *second)
{
    for (size_t i = 0; i < n; i++) {
        second[i] = decay * second[i] + (1 - decay) * (gradient[i] * gradient[i] + (real)1e-30);
        gradient[i] /= sqrt(second[i]);
    }
}

static void momentum_step(size_t n, real momentum, real rate, real *weight, real *gradient, real *first)
{
    for (size_t i = 0; i < n; i++) {
        first[i] = momentum * first[i] + (1 - momentum) * rate * gradient[i];
        weight[i] -= first[i];
        gradient[i] = 0;
    }
}

#endif
