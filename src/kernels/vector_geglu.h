/* GEGLU with the exact error function, of floats or of bf16 numbers. */
#ifndef BRT_KERNELS_VECTOR_GEGLU_H
#define BRT_KERNELS_VECTOR_GEGLU_H

#include "vector.h"
#include "vector_math.h"
#include "vector_pairs.h"
#include "vector_stored.h"

#include <stdbool.h>

/* Whether results are to be rounded to bf16 is a constant at every call. */

static inline vec normal_cumulative(bool for_bf16, vec g)
{
    vec x = g * 0.70710678f;
    return 0.5f + 0.5f * (for_bf16 ? vec_erf_for_bf16(x) : vec_erf(x));
}

static inline vec normal_density(bool for_bf16, vec g)
{
    vec power = g * g * -0.72134752f; /* of 2: -1/2 log2 e */
    return 0.39894228f * (for_bf16 ? vec_exp2_for_bf16(power) : vec_exp2(power));
}

static inline vec geglu(bool for_bf16, vec a, vec gate)
{
    return a * gate * normal_cumulative(for_bf16, gate);
}

typedef struct geglu_gradients {
    vec y, da, dgate;
} geglu_gradients;

static inline geglu_gradients geglu_gradient(bool for_bf16, vec a, vec gate, vec d)
{
    vec cumulative = normal_cumulative(for_bf16, gate);
    return (geglu_gradients){a * gate * cumulative, d * gate * cumulative,
                             d * a * (cumulative + gate * normal_density(for_bf16, gate))};
}

static void geglu_forward(size_t rows, size_t inner, const real *h, real *y)
{
    for (size_t r = 0; r < rows; r++, h += 2 * inner, y += inner)
        for (size_t i = 0; i < inner; i += lanes) {
            size_t left = inner - i;
            vec_store_upto(y + i, left, geglu(false, vec_load_upto(h + i, left), vec_load_upto(h + inner + i, left)));
        }
}

static void geglu_backward(size_t rows, size_t inner, const real *h, const real *dy, real *dh, real *y)
{
    for (size_t r = 0; r < rows; r++, h += 2 * inner, dh += 2 * inner, dy += inner, y += inner)
        for (size_t i = 0; i < inner; i += lanes) {
            size_t left = inner - i;
            vec a = vec_load_upto(h + i, left), gate = vec_load_upto(h + inner + i, left);
            geglu_gradients g = geglu_gradient(false, a, gate, vec_load_upto(dy + i, left));
            vec_store_upto(dh + i, left, g.da);
            vec_store_upto(dh + inner + i, left, g.dgate);
            vec_store_upto(y + i, left, g.y);
        }
}

/* In bf16 two vectors are stored together; the second has nothing where `left` is at most one. */

static inline vec second_widened(const uint16_t *p, size_t left)
{
    return left > lanes ? vec_widen_bf16_upto(p + lanes, left - lanes) : (vec){0};
}

static void geglu_forward_bf16(size_t rows, size_t inner, const uint16_t *h, uint16_t *y)
{
    for (size_t r = 0; r < rows; r++, h += 2 * inner, y += inner + inner % 2) {
        for (size_t i = 0; i < inner; i += 2 * lanes) {
            size_t left = inner - i;
            const uint16_t *a = h + i, *gate = h + inner + i;
            vec first = geglu(true, vec_widen_bf16_upto(a, left), vec_widen_bf16_upto(gate, left));
            vec_store_bf16_upto(y + i, left, first, geglu(true, second_widened(a, left), second_widened(gate, left)));
        }
        if (inner % 2)
            y[inner] = 0;
    }
}

typedef struct two_vectors {
    vec first, second;
} two_vectors;

/* Of one row, the columns from i on: stores their dh and returns y. */
static inline two_vectors geglu_row_backward(size_t inner, size_t i, const uint16_t *h, const real *dy, uint16_t *dh)
{
    size_t left = inner - i;
    const uint16_t *a = h + i, *gate = h + inner + i;
    vec second_dy = left > lanes ? vec_load_upto(dy + i + lanes, left - lanes) : (vec){0};
    geglu_gradients g = geglu_gradient(true, vec_widen_bf16_upto(a, left), vec_widen_bf16_upto(gate, left),
                                       vec_load_upto(dy + i, left));
    geglu_gradients second = geglu_gradient(true, second_widened(a, left), second_widened(gate, left), second_dy);
    vec_store_bf16_upto(dh + i, left, g.da, second.da);
    vec_store_bf16_upto(dh + inner + i, left, g.dgate, second.dgate);
    return (two_vectors){g.y, second.y};
}

/* dh_pairs may be h: two of its rows have been read when their pairs are written. */
static void geglu_backward_bf16(size_t rows, size_t inner, const uint16_t *h, const real *dy, uint16_t *dh,
                                uint32_t *dh_pairs, uint32_t *y_pairs)
{
    for (size_t r = 0; r < rows; r += 2) {
        bool both = r + 1 < rows;
        for (size_t i = 0; i < inner; i += 2 * lanes) {
            size_t left = inner - i;
            two_vectors below = {0}, y = geglu_row_backward(inner, i, h, dy, dh);
            if (both)
                below = geglu_row_backward(inner, i, h + 2 * inner, dy + inner, dh + 2 * inner);
            vec_store_pairs_upto(y_pairs + i, left, vec_pair(y.first, below.first));
            if (left > lanes)
                vec_store_pairs_upto(y_pairs + i + lanes, left - lanes, vec_pair(y.second, below.second));
        }
        interleave(2 * inner, dh, both ? dh + 2 * inner : NULL, dh_pairs);
        h += 4 * inner, dy += 2 * inner, dh += 4 * inner, dh_pairs += 2 * inner, y_pairs += inner;
    }
}

#endif
