/* Kernels that go along vectors or rows: sums, LayerNorm, heads. plain.c has the same formulas without vectors,
 * kernels.def the contracts. */
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

/* ---- LayerNorm and RMSNorm ------------------------------------------------------------------------------ */

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

static void norm_forward(size_t rows, size_t dim, const real *x, const real *gain, bool centred, real epsilon, real *y,
                         real *mean, real *rstd)
{
    for (size_t r = 0; r < rows; r++, x += dim, y += dim) {
        mean[r] = centred ? sum_of(dim, x) / (float)dim : 0;
        rstd[r] = 1 / sqrtf(sum_of_squares_about(dim, x, mean[r]) / (float)dim + epsilon);
        for (size_t i = 0; i < dim; i += lanes) {
            size_t left = dim - i;
            vec normal = (vec_load_upto(x + i, left) - mean[r]) * rstd[r];
            vec_store_upto(y + i, left, normal * vec_load_upto(gain + i, left));
        }
    }
}

/* With n = (x - mean) * rstd and g = gain * dy:  dx = rstd * (g - mean(g) - n * mean(g * n)),  dgain = n * dy; without
 * mean(g) where x was not centred. */
static void norm_backward_row(size_t dim, const real *x, const real *gain, bool centred, real mean, real rstd,
                              const real *dy, real *dx, real *dgain)
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
    float mean_g = centred ? vec_sum(sum) / (float)dim : 0, mean_gn = vec_sum(along) / (float)dim;
    for (size_t i = 0; dx && i < dim; i += lanes) {
        size_t left = dim - i;
        vec n = (vec_load_upto(x + i, left) - mean) * rstd;
        vec g = vec_load_upto(gain + i, left) * vec_load_upto(dy + i, left);
        vec_store_upto(dx + i, left, vec_load_upto(dx + i, left) + rstd * (g - mean_g - n * mean_gn));
    }
}

static void norm_backward(size_t rows, size_t dim, const real *x, const real *gain, bool centred, const real *mean,
                          const real *rstd, const real *dy, real *dx, real *dgain)
{
    for (size_t r = 0; r < rows; r++)
        norm_backward_row(dim, x + r * dim, gain, centred, mean[r], rstd[r], dy + r * dim, dx ? dx + r * dim : NULL,
                          dgain);
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

static void unit_forward(size_t rows, size_t heads, size_t dim, const real *x, const real *scale, real epsilon, real *y)
{
    for (size_t r = 0; r < rows * heads; r++, x += dim, y += dim) {
        float factor = (scale ? scale[r % heads] : 1) / sqrtf(dot(dim, x, x) + epsilon);
        for (size_t i = 0; i < dim; i += lanes)
            vec_store_upto(y + i, dim - i, factor * vec_load_upto(x + i, dim - i));
    }
}

/* With u = x / |x| (epsilon within the length): dx = scale * (dy - u (u . dy)) / |x|,  dscale = u . dy */
static void unit_backward(size_t rows, size_t heads, size_t dim, const real *x, const real *scale, real epsilon,
                          const real *dy, real *dx, real *dscale)
{
    for (size_t r = 0; r < rows * heads; r++, x += dim, dy += dim, dx += dim) {
        float inverse = 1 / sqrtf(dot(dim, x, x) + epsilon), along = dot(dim, x, dy) * inverse;
        float factor = (scale ? scale[r % heads] : 1) * inverse;
        if (dscale)
            dscale[r % heads] += along;
        for (size_t i = 0; i < dim; i += lanes) {
            size_t left = dim - i;
            vec u = vec_load_upto(x + i, left) * inverse;
            vec_store_upto(dx + i, left, factor * (vec_load_upto(dy + i, left) - u * along));
        }
    }
}

#endif
