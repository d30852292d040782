/* A part of plain.c: GEGLU with the exact error function. */
#ifndef BRT_KERNELS_PLAIN_GEGLU_H
#define BRT_KERNELS_PLAIN_GEGLU_H

#include "plain_bf16.h"

#include <tgmath.h>

static real normal_cumulative(real g)
{
    return (1 + erf(g * (real)0.70710678118654752440)) / 2;
}

static real normal_density(real g)
{
    return (real)0.39894228040143267794 * exp(-g * g / 2);
}

static void geglu_forward(size_t rows, size_t inner, const real *h, real *y)
{
    for (size_t r = 0; r < rows; r++) {
        const real *a = h + r * 2 * inner, *gate = a + inner;
        for (size_t i = 0; i < inner; i++)
            y[r * inner + i] = a[i] * gate[i] * normal_cumulative(gate[i]);
    }
}

static void geglu_backward(size_t rows, size_t inner, const real *h, const real *dy, real *dh, real *y)
{
    for (size_t r = 0; r < rows; r++) {
        const real *a = h + r * 2 * inner, *gate = a + inner;
        real *da = dh + r * 2 * inner, *dgate = da + inner;
        for (size_t i = 0; i < inner; i++) {
            real value = a[i], g = gate[i], cumulative = normal_cumulative(g), d = dy[r * inner + i];
            da[i] = d * g * cumulative;
            dgate[i] = d * value * (cumulative + g * normal_density(g));
            y[r * inner + i] = value * g * cumulative;
        }
    }
}

static void geglu_forward_bf16(size_t rows, size_t inner, const uint16_t *h, uint16_t *y)
{
    for (size_t r = 0; r < rows; r++, h += 2 * inner, y += inner + inner % 2) {
        for (size_t i = 0; i < inner; i++) {
            real both[] = {value_of_bf16(h[i]), value_of_bf16(h[inner + i])}, product;
            geglu_forward(1, 1, both, &product);
            y[i] = (uint16_t)bf16_of(product);
        }
        if (inner % 2)
            y[inner] = 0;
    }
}

static void geglu_backward_bf16(size_t rows, size_t inner, const uint16_t *h, const real *dy, uint16_t *dh,
                                uint32_t *dh_pairs, uint32_t *y_pairs)
{
    for (size_t r = 0; r < rows; r += 2) {
        size_t count = r + 1 < rows ? 2 : 1;
        for (size_t i = 0; i < inner; i++) {
            y_pairs[i] = 0;
            for (size_t n = 0; n < count; n++) {
                const uint16_t *row = h + n * 2 * inner;
                real both[] = {value_of_bf16(row[i]), value_of_bf16(row[inner + i])}, product;
                geglu_backward(1, 1, both, dy + n * inner + i, both, &product);
                dh[n * 2 * inner + i] = (uint16_t)bf16_of(both[0]);
                dh[n * 2 * inner + inner + i] = (uint16_t)bf16_of(both[1]);
                y_pairs[i] |= bf16_of(product) << 16 * n;
            }
        }
        for (size_t i = 0; i < 2 * inner; i++)
            dh_pairs[i] = dh[i] | (count > 1 ? (uint32_t)dh[2 * inner + i] << 16 : 0);
        h += 4 * inner, dy += 2 * inner, dh += 4 * inner, dh_pairs += 2 * inner, y_pairs += inner;
    }
}

#endif
