/* Optimisers over vectors of any length. plain_optimizer.h has the same formulas without vectors. */
#ifndef BRT_KERNELS_VECTOR_OPTIMIZER_H
#define BRT_KERNELS_VECTOR_OPTIMIZER_H

#include "vector.h"

static void adam(size_t n, real *weight, real *gradient, real *first, real *second, const brt_adam_step *step)
{
    float keep = 1 - step->learning_rate * step->weight_decay, rate = step->learning_rate / step->correction1;
    float inverse2 = 1 / step->correction2;
    for (size_t i = 0; i < n; i += lanes) {
        size_t left = n - i;
        vec g = vec_load_upto(gradient + i, left) * step->gradient_scale;
        vec m = step->beta1 * vec_load_upto(first + i, left) + (1 - step->beta1) * g;
        vec v = step->beta2 * vec_load_upto(second + i, left) + (1 - step->beta2) * g * g;
        vec change = rate * m / (vec_sqrt(v * inverse2) + step->epsilon);
        vec_store_upto(weight + i, left, vec_load_upto(weight + i, left) * keep - change);
        vec_store_upto(first + i, left, m);
        vec_store_upto(second + i, left, v);
        vec_store_upto(gradient + i, left, (vec){0});
    }
}

static void add_squares(size_t n, const real *x, real *y)
{
    for (size_t i = 0; i < n; i += lanes) {
        vec v = vec_load_upto(x + i, n - i);
        vec_store_upto(y + i, n - i, vec_load_upto(y + i, n - i) + v * v);
    }
}

static void multiply(size_t n, real a, const real *x, real *y)
{
    for (size_t i = 0; i < n; i += lanes)
        vec_store_upto(y + i, n - i, a * vec_load_upto(x + i, n - i) * vec_load_upto(y + i, n - i));
}

static void adafactor_scale(size_t n, real decay, real *gradient, real *second)
{
    for (size_t i = 0; i < n; i += lanes) {
        size_t left = n - i;
        vec g = vec_load_upto(gradient + i, left);
        vec v = decay * vec_load_upto(second + i, left) + (1 - decay) * (g * g + 1e-30f);
        vec_store_upto(second + i, left, v);
        vec_store_upto(gradient + i, left, g / vec_sqrt(v));
    }
}

static void momentum_step(size_t n, real momentum, real rate, real *weight, real *gradient, real *first)
{
    float take = (1 - momentum) * rate;
    for (size_t i = 0; i < n; i += lanes) {
        size_t left = n - i;
        vec m = momentum * vec_load_upto(first + i, left) + take * vec_load_upto(gradient + i, left);
        vec_store_upto(first + i, left, m);
        vec_store_upto(weight + i, left, vec_load_upto(weight + i, left) - m);
        vec_store_upto(gradient + i, left, (vec){0});
    }
}

#endif
