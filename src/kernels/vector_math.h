/* Exponential, error function, sigmoid and hyperbolic tangent of a vector. The polynomials were fitted by Remez
 * exchange; the errors stated are those of the whole function in float, measured over its range. */
#ifndef BRT_KERNELS_VECTOR_MATH_H
#define BRT_KERNELS_VECTOR_MATH_H

#include "vector.h"

/* Coefficients from the highest power down. */
static inline vec vec_polynomial(int count, const float *coefficients, vec x)
{
    vec sum = vec_splat(coefficients[0]);
    for (int i = 1; i < count; i++)
        sum = sum * x + coefficients[i];
    return sum;
}

/* e^x = 2^n e^r with n = round(x / ln 2), |r| <= ln 2 / 2; relative error 1.1e-7. Results below 2^-125.5 are 0, beyond
 * the largest float infinity; not-a-number stays so. */
static inline vec vec_exp(vec x)
{
    /* Adding 1.5 * 2^23 rounds to an integer, which then stands in the low bits; 126 more makes it the exponent
     * field of 2^(n - 1). The polynomial is that of 2 e^r: so n = 128 (x near its upper end) needs no care. */
    const float rounder = 12582912.0f + 126.0f;
    static const float doubled[] = {2.767362554e-3f, 1.674971404e-2f, 8.33364567e-2f, 3.333283936e-1f,
                                    9.999998412e-1f, 2.0f,           2.0f};
    x = vec_max(vec_splat(-126 * 0.69314718f), vec_min(vec_splat(88.73f), x));
    vec shifted = x * 1.44269504f + rounder;
    vec n = shifted - rounder;
    /* ln 2 in two parts, the first of 9 bits: n times it is exact without fused multiply-add, too. */
    vec r = (x - n * 0.693359375f) - n * -2.12194440e-4f;
    vec power = (vec)(vec_bits(shifted) << 23);
    return vec_polynomial(7, doubled, r) * power;
}

/* 2^x for x < 128 by a polynomial of 2 * 2^r, |r| <= 1/2. Results below 2^-126 are 0; not-a-number stays so. */
static inline vec vec_exp2_by(int count, const float *doubled, vec x)
{
    const float rounder = 12582912.0f + 126.0f; /* as above, and so is the polynomial's factor 2 */
    x = vec_max(vec_splat(-126), x);
    vec shifted = x + rounder;
    vec r = x - (shifted - rounder);
    return vec_polynomial(count, doubled, r) * (vec)(vec_bits(shifted) << 23);
}

/* In half the operations of vec_exp: relative error 2.2e-7. */
static inline vec vec_exp2(vec x)
{
    static const float doubled[] = {2.655293296e-3f, 1.935108239e-2f, 1.110142658e-1f,
                                    4.804423945e-1f, 1.386293934f,    2.0f};
    return vec_exp2_by(6, doubled, x);
}

/* x P(x^2), saturated at |x| = end, where it is 1 exactly (so that gelu(-1e4) is 0). A polynomial in one piece: with an
 * exponential it takes no fewer operations, a rational one waits for the division. */
static inline vec vec_erf_by(int count, const float *coefficients, float end, vec x)
{
    x = vec_max(vec_splat(-end), vec_min(vec_splat(end), x));
    return x * vec_polynomial(count, coefficients, x * x * (2 / (end * end)) - 1);
}

/* Absolute error 2.9e-7. */
static inline vec vec_erf(vec x)
{
    static const float coefficients[] = {-1.244991872e-4f, 1.447741175e-3f,  -3.230925417e-3f, 2.782698022e-3f,
                                         -4.059961066e-3f, 1.163975894e-2f,  -2.072345279e-2f, 2.918750793e-2f,
                                         -4.127899557e-2f, 5.701372772e-2f,  -7.363477349e-2f, 9.078201652e-2f,
                                         -1.099541560e-1f, 1.354487389e-1f,  -1.821503639e-1f, 3.649194539e-1f};
    return vec_erf_by(16, coefficients, 3.875f, x);
}

/* Both for results that are rounded to bf16, which errs by up to 4e-3. The relative error of the first is 1.1e-4, and
 * 2^0 is 1; the absolute one of the second is 2.3e-5. In bf16 a step takes 1 % less with them. */
static inline vec vec_exp2_for_bf16(vec x)
{
    static const float doubled[] = {1.100178510e-1f, 4.844219089e-1f, 1.386565804f, 2.0f};
    return vec_exp2_by(4, doubled, x);
}

static inline vec vec_erf_for_bf16(vec x)
{
    static const float coefficients[] = {6.990490016e-3f, -1.797348075e-2f, 2.394089848e-2f,
                                         -3.954602405e-2f, 7.208348811e-2f, -1.112222970e-1f,
                                         1.576499045e-1f, -2.287162393e-1f, 4.701265991e-1f};
    return vec_erf_by(9, coefficients, 3, x);
}

static inline vec vec_sigmoid(vec x)
{
    return 1 / (1 + vec_exp(-x));
}

/* Absolute error 1.2e-7. */
static inline vec vec_tanh(vec x)
{
    return 1 - 2 / (1 + vec_exp(2 * x));
}

#endif
