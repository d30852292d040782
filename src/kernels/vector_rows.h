/* Kernels that go along vectors or rows: sums, LayerNorm, GEGLU, heads, the state's average, Adam. plain.c has the same
 * formulas without vectors, kernels.def the contracts. */
#ifndef BRT_KERNELS_VECTOR_ROWS_H
#define BRT_KERNELS_VECTOR_ROWS_H

#include "vector.h"
#include "vector_math.h"

/* ---- sums ------------------------------------------------------------------------------------------- */

static void add(size_t n, const real *x, real *y)
{
    for (size_t i = 0; i < n; i += lanes)
        vec_store_upto(y + i, n - i, vec_load_upto(y + i, n - i) + vec_load_upto(x + i, n - i));
}

static void scale(size_t n, real a, const real *x, real *y)
{
    for (size_t i = 0; i < n; i += lanes)
        vec_store_upto(y + i, n - i, a * vec_load_upto(x + i, n - i));
}

static void scale_add(size_t n, real a, const real *x, real b, real *y)
{
    for (size_t i = 0; i < n; i += lanes)
        vec_store_upto(y + i, n - i, a * vec_load_upto(x + i, n - i) + b * vec_load_upto(y + i, n - i));
}

typedef float half_vec __attribute__((vector_size(BRT_VECTOR_BYTES / 2)));
typedef double wide_vec __attribute__((vector_size(BRT_VECTOR_BYTES)));

static inline wide_vec load_wide(const float *p)
{
    half_vec v;
    memcpy(&v, p, sizeof v);
    return __builtin_convertvector(v, wide_vec);
}

static void sum_squares(size_t n, const real *x, double *sum)
{
    enum { wide = lanes / 2, sums = 4 };
    wide_vec part[sums] = {{0}};
    size_t i = 0;
    for (; i + sums * wide <= n; i += sums * wide)
        for (size_t s = 0; s < sums; s++) {
            wide_vec v = load_wide(x + i + s * wide);
            part[s] += v * v;
        }
    wide_vec all = (part[0] + part[1]) + (part[2] + part[3]);
    double total = 0;
    for (size_t s = 0; s < wide; s++)
        total += all[s];
    for (; i < n; i++)
        total += (double)x[i] * (double)x[i];
    *sum = total;
}

static float dot(size_t n, const float *x, const float *y)
{
    vec sum = {0};
    for (size_t i = 0; i < n; i += lanes)
        sum += vec_load_upto(x + i, n - i) * vec_load_upto(y + i, n - i);
    return vec_sum(sum);
}

/* ---- layer normalisation ------------------------------------------------------------------------------ */

static float sum_of(size_t n, const float *x)
{
    vec sum = {0};
    for (size_t i = 0; i < n; i += lanes)
        sum += vec_load_upto(x + i, n - i);
    return vec_sum(sum);
}

static float sum_of_squares_about(size_t n, const float *x, float mean)
{
    vec sum = {0};
    for (size_t i = 0; i < n; i += lanes) {
        vec distance = vec_zero_beyond(n - i, vec_load_upto(x + i, n - i) - mean);
        sum += distance * distance;
    }
    return vec_sum(sum);
}

static void layer_norm_forward(size_t rows, size_t dim, const real *x, const real *gain, real epsilon, real *y,
                               real *mean, real *rstd)
{
    for (size_t r = 0; r < rows; r++, x += dim, y += dim) {
        mean[r] = sum_of(dim, x) / (float)dim;
        rstd[r] = 1 / sqrtf(sum_of_squares_about(dim, x, mean[r]) / (float)dim + epsilon);
        for (size_t i = 0; i < dim; i += lanes) {
            size_t left = dim - i;
            vec normal = (vec_load_upto(x + i, left) - mean[r]) * rstd[r];
            vec_store_upto(y + i, left, normal * vec_load_upto(gain + i, left));
        }
    }
}

/* With n = (x - mean) * rstd and g = gain * dy:  dx = rstd * (g - mean(g) - n * mean(g * n)),  dgain = n * dy */
static void layer_norm_backward_row(size_t dim, const real *x, const real *gain, real mean, real rstd, const real *dy,
                                    real *dx, real *dgain)
{
    vec sum = {0}, along = {0};
    for (size_t i = 0; i < dim; i += lanes) {
        size_t left = dim - i;
        vec n = (vec_load_upto(x + i, left) - mean) * rstd, d = vec_load_upto(dy + i, left);
        vec g = vec_load_upto(gain + i, left) * d;
        vec_store_upto(dgain + i, left, vec_load_upto(dgain + i, left) + n * d);
        sum += g;
        along += g * n;
    }
    float mean_g = vec_sum(sum) / (float)dim, mean_gn = vec_sum(along) / (float)dim;
    for (size_t i = 0; dx && i < dim; i += lanes) {
        size_t left = dim - i;
        vec n = (vec_load_upto(x + i, left) - mean) * rstd;
        vec g = vec_load_upto(gain + i, left) * vec_load_upto(dy + i, left);
        vec_store_upto(dx + i, left, vec_load_upto(dx + i, left) + rstd * (g - mean_g - n * mean_gn));
    }
}

static void layer_norm_backward(size_t rows, size_t dim, const real *x, const real *gain, const real *mean,
                                const real *rstd, const real *dy, real *dx, real *dgain)
{
    for (size_t r = 0; r < rows; r++)
        layer_norm_backward_row(dim, x + r * dim, gain, mean[r], rstd[r], dy + r * dim, dx ? dx + r * dim : NULL,
                                dgain);
}

/* ---- GEGLU ---------------------------------------------------------------------------------------------- */

static inline vec normal_cumulative(vec g)
{
    return 0.5f + 0.5f * vec_erf(g * 0.70710678f);
}

static inline vec normal_density(vec g)
{
    return 0.39894228f * vec_exp(g * g * -0.5f);
}

static void geglu_forward(size_t rows, size_t inner, const real *h, real *y)
{
    for (size_t r = 0; r < rows; r++, h += 2 * inner, y += inner)
        for (size_t i = 0; i < inner; i += lanes) {
            size_t left = inner - i;
            vec a = vec_load_upto(h + i, left), gate = vec_load_upto(h + inner + i, left);
            vec_store_upto(y + i, left, a * gate * normal_cumulative(gate));
        }
}

static void geglu_backward(size_t rows, size_t inner, const real *h, const real *dy, real *dh)
{
    for (size_t r = 0; r < rows; r++, h += 2 * inner, dh += 2 * inner, dy += inner)
        for (size_t i = 0; i < inner; i += lanes) {
            size_t left = inner - i;
            vec a = vec_load_upto(h + i, left), gate = vec_load_upto(h + inner + i, left);
            vec d = vec_load_upto(dy + i, left), cumulative = normal_cumulative(gate);
            vec_store_upto(dh + i, left, d * gate * cumulative);
            vec_store_upto(dh + inner + i, left, d * a * (cumulative + gate * normal_density(gate)));
        }
}

/* ---- normalised and turned heads --------------------------------------------------------------------------- */

static float inverse_length(size_t dim, const real *x)
{
    return 1 / fmaxf(sqrtf(dot(dim, x, x)), 1e-12f);
}

/* y = x / |x| * scale, or a copy without scale; y may be x */
static void normalise(size_t dim, const real *x, const real *scale, real *y)
{
    float inverse = scale ? inverse_length(dim, x) : 1;
    for (size_t i = 0; i < dim; i += lanes) {
        size_t left = dim - i;
        vec v = vec_load_upto(x + i, left);
        vec_store_upto(y + i, left, scale ? v * inverse * vec_load_upto(scale + i, left) : v);
    }
}

/* y = v * cosine + half_turn(v) * sine; y may be v */
static void turn(size_t dim, const real *v, const real *cosine, const real *sine, real *y)
{
    size_t half = dim / 2;
    for (size_t i = 0; i < half; i += lanes) {
        size_t left = half - i, j = i + half;
        vec v1 = vec_load_upto(v + i, left), v2 = vec_load_upto(v + j, left);
        vec_store_upto(y + i, left, v1 * vec_load_upto(cosine + i, left) - v2 * vec_load_upto(sine + i, left));
        vec_store_upto(y + j, left, v2 * vec_load_upto(cosine + j, left) + v1 * vec_load_upto(sine + j, left));
    }
}

static void turn_backward(size_t dim, const real *dy, const real *cosine, const real *sine, real *dv)
{
    size_t half = dim / 2;
    for (size_t i = 0; i < half; i += lanes) {
        size_t left = half - i, j = i + half;
        vec dy1 = vec_load_upto(dy + i, left), dy2 = vec_load_upto(dy + j, left);
        vec_store_upto(dv + i, left, dy1 * vec_load_upto(cosine + i, left) + dy2 * vec_load_upto(sine + j, left));
        vec_store_upto(dv + j, left, dy2 * vec_load_upto(cosine + j, left) - dy1 * vec_load_upto(sine + i, left));
    }
}

static void rotary_forward(size_t rows, size_t dim, const real *x, size_t x_stride, const real *scale,
                           const real *cosine, const real *sine, real *y, size_t y_stride)
{
    for (size_t r = 0; r < rows; r++, x += x_stride, y += y_stride) {
        normalise(dim, x, scale, y);
        if (cosine)
            turn(dim, y, cosine, sine, y);
    }
}

/* v = u * scale, u = x / |x|; dv becomes dx = (w - u * (w . u)) / |x| with w = dv * scale. Below the least length, u is
 * linear in x. */
static void normalise_backward(size_t dim, const real *x, const real *scale, real *dv, real *dscale)
{
    float inverse = inverse_length(dim, x);
    vec sum = {0};
    for (size_t i = 0; i < dim; i += lanes) {
        size_t left = dim - i;
        vec u = vec_load_upto(x + i, left) * inverse, d = vec_load_upto(dv + i, left);
        vec w = d * vec_load_upto(scale + i, left);
        if (dscale)
            vec_store_upto(dscale + i, left, vec_load_upto(dscale + i, left) + d * u);
        vec_store_upto(dv + i, left, w);
        sum += w * u;
    }
    float along = inverse < 1e12f ? vec_sum(sum) : 0;
    for (size_t i = 0; i < dim; i += lanes) {
        size_t left = dim - i;
        vec u = vec_load_upto(x + i, left) * inverse;
        vec_store_upto(dv + i, left, inverse * (vec_load_upto(dv + i, left) - u * along));
    }
}

static void rotary_backward(size_t rows, size_t dim, const real *x, size_t x_stride, const real *scale,
                            const real *cosine, const real *sine, const real *dy, size_t dy_stride, real *dx,
                            size_t dx_stride, real *dscale)
{
    for (size_t r = 0; r < rows; r++, dy += dy_stride, dx += dx_stride) {
        if (cosine)
            turn_backward(dim, dy, cosine, sine, dx);
        else
            memcpy(dx, dy, dim * sizeof *dx);
        if (scale)
            normalise_backward(dim, x + r * x_stride, scale, dx, dscale);
    }
}

/* ---- the state's moving average --------------------------------------------------------------------------------------- */

/* Column by column of vectors: the gate of a column is computed once for all rows. */
static void ema_forward(size_t rows, size_t dim, const real *beta, const real *z, const real *state, real *next)
{
    for (size_t i = 0; i < dim; i += lanes) {
        size_t left = dim - i;
        vec gate = vec_sigmoid(vec_load_upto(beta + i, left));
        for (size_t at = i; at < rows * dim; at += dim) {
            vec new = vec_load_upto(z + at, left), old = vec_load_upto(state + at, left);
            vec_store_upto(next + at, left, gate * new + (1 - gate) * old);
        }
    }
}

static void ema_backward(size_t rows, size_t dim, const real *beta, const real *z, const real *state,
                         const real *dnext, real *dz, real *dstate, real *dbeta)
{
    for (size_t i = 0; i < dim; i += lanes) {
        size_t left = dim - i;
        vec gate = vec_sigmoid(vec_load_upto(beta + i, left)), sum = {0};
        for (size_t at = i; at < rows * dim; at += dim) {
            vec d = vec_load_upto(dnext + at, left);
            sum += (vec_load_upto(z + at, left) - vec_load_upto(state + at, left)) * d;
            vec_store_upto(dz + at, left, gate * d);
            vec_store_upto(dstate + at, left, (1 - gate) * d);
        }
        vec_store_upto(dbeta + i, left, vec_load_upto(dbeta + i, left) + gate * (1 - gate) * sum);
    }
}

/* ---- optimiser ------------------------------------------------------------------------------------------------------------ */

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

#endif
