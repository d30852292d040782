/* A gradient against finite differences of its loss, in double. The derivative along a unit vector d is
 *   (8 (f(h) - f(-h)) - (f(2h) - f(-2h))) / 12h = f' + O(h^4),  f(h) = loss(x + h d).
 * With h = 1e-3 the remainder is 3e-14 times a fifth derivative, and rounding adds some 1e-13 |f|: below 1e-11 of the
 * gradient's norm for an operation, 5e-10 for the parameters on which a model's loss hardly depends. The bound is 20
 * times that; an error of one part in a thousand is still 100,000 times the bound. Where that fails a smaller h
 * decides: half of it where the loss is strongly curved, far less where there is a kink (relu, a maximum) within reach,
 * with room for rounding, 1e-16 |f| / h. */
#ifndef BRT_TESTS_GRADIENT_CHECK_H
#define BRT_TESTS_GRADIENT_CHECK_H

#include "base/real.h"
#include "base/rng.h"
#include "base/size.h"
#include "base/status.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double difference_steps[] = {1e-3, 5e-4, 1e-5, 1e-7};
static const double gradient_bound = 1e-8, rounding_bound = 1e-11;

enum {
    most_entries = 16, /* checked one by one: all of a small tensor */
    random_directions = 4,
};

static inline void assert_ok(brt_status status)
{
    if (status != BRT_OK)
        fail_msg("%s: %s", brt_status_name(status), brt_last_error());
}

static inline real *zeros(size_t count)
{
    real *x = calloc(count, sizeof *x);
    assert_non_null(x);
    return x;
}

/* Standard normal values; a stream of its own for every use. */
static inline real *draw(size_t count, uint64_t stream)
{
    real *x = zeros(count);
    for (size_t i = 0; i < count; i++)
        x[i] = brt_rng_normal(1, stream, i);
    return x;
}

static inline double dot(size_t count, const real *x, const real *y)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += x[i] * y[i];
    return sum;
}

typedef double loss_function(void *context);

/* What a loss depends on, and its gradient as computed. */
typedef struct variable {
    const char *name;
    real *x;
    const real *gradient;
    size_t count;
    loss_function *loss;
    void *context;
} variable;

static inline double derivative(const variable *v, const real *origin, const real *direction, double step)
{
    static const double steps[] = {-2, -1, 1, 2};
    double f[4];
    for (size_t i = 0; i < 4; i++) {
        for (size_t j = 0; j < v->count; j++)
            v->x[j] = origin[j] + steps[i] * step * direction[j];
        f[i] = v->loss(v->context);
    }
    memcpy(v->x, origin, v->count * sizeof *origin);
    return (8 * (f[2] - f[1]) - (f[3] - f[0])) / (12 * step);
}

/* Along one entry for each that is checked by itself, then random ones; of length 1. */
static inline void choose_direction(size_t count, size_t index, real *direction)
{
    size_t entries = brt_min_size(count, most_entries);
    for (size_t i = 0; i < count; i++)
        direction[i] = index < entries ? 0 : brt_rng_normal(2, index, i);
    if (index < entries)
        direction[entries == count ? index : brt_rng_below(3, 0, index, count)] = 1;
    double length = sqrt(dot(count, direction, direction));
    for (size_t i = 0; i < count; i++)
        direction[i] /= length;
}

/* Every derivative may differ from the gradient's by the bound times the gradient's norm. Where the loss does not
 * depend on the variable, both are 0, but for rounding where its parts cancel: a number added to every score of a
 * softmax. */
static inline void expect_derivative(const variable *v, const real *origin, const real *direction, size_t index)
{
    double norm = sqrt(dot(v->count, v->gradient, v->gradient)), loss = fabs(v->loss(v->context));
    double found = dot(v->count, v->gradient, direction), expected = 0;
    for (size_t i = 0; i < sizeof difference_steps / sizeof *difference_steps; i++) {
        double step = difference_steps[i], rounding = rounding_bound + 1e-15 * loss / step;
        expected = derivative(v, origin, direction, step);
        if (fabs(found - expected) <= gradient_bound * norm + rounding)
            return;
    }
    fail_msg("%s: the derivative along direction %zu is %.12g by differences, %.12g by the gradient (norm %g)", v->name,
             index, expected, found, norm);
}

static inline void expect_gradient(const variable *v)
{
    size_t directions = brt_min_size(v->count, most_entries) + random_directions;
    real *origin = zeros(v->count), *direction = zeros(v->count);
    memcpy(origin, v->x, v->count * sizeof *origin);
    for (size_t i = 0; i < directions; i++) {
        choose_direction(v->count, i, direction);
        expect_derivative(v, origin, direction, i);
    }
    free(origin);
    free(direction);
}

#endif
