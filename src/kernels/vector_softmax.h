/* Softmax, tile by tile in attention and whole rows in the loss. */
#ifndef BRT_KERNELS_VECTOR_SOFTMAX_H
#define BRT_KERNELS_VECTOR_SOFTMAX_H

#include "vector.h"
#include "vector_math.h"
#include "vector_rows.h"

#include <stdbool.h>

static inline size_t seen_keys(const size_t *visible, size_t row, size_t keys)
{
    return visible ? visible[row] : keys;
}

/* Four maxima in turn, because each waits 4 cycles for the one before. */
static inline __attribute__((always_inline)) float largest(size_t n, const float *x)
{
    enum { turns = 4 };
    vec none = vec_splat(-INFINITY), most[turns];
    for (int t = 0; t < turns; t++)
        most[t] = none;
    size_t i = 0;
    for (; i + turns * lanes <= n; i += turns * lanes)
        for (size_t t = 0; t < turns; t++)
            most[t] = vec_max(vec_load(x + i + t * lanes), most[t]);
    for (; i + lanes <= n; i += lanes)
        most[0] = vec_max(vec_load(x + i), most[0]);
    if (i < n)
        most[1] = vec_max(vec_first(n - i, vec_load_part(x + i, n - i), none), most[1]);
    return vec_largest(vec_max(vec_max(most[0], most[1]), vec_max(most[2], most[3])));
}

/* x becomes exp(factor * (x - most)); the sum of all. */
static inline __attribute__((always_inline)) float exponentials(size_t n, float factor, float most, float *x)
{
    vec sum = {0};
    size_t i = 0;
    for (; i + lanes <= n; i += lanes) {
        vec p = vec_exp(factor * (vec_load(x + i) - most));
        vec_store(x + i, p);
        sum += p;
    }
    if (i < n) {
        vec p = vec_first(n - i, vec_exp(factor * (vec_load_part(x + i, n - i) - most)), (vec){0});
        vec_store_part(x + i, n - i, p);
        sum += p;
    }
    return vec_sum(sum);
}

/* Raises a row's maximum; its sum and its part of out were made with the lower one. */
static void raise_maximum(float factor, float most, float *maximum, float *sum, size_t dim, float *out)
{
    float change = vec_exp(vec_splat(factor * (*maximum - most)))[0];
    *maximum = most;
    *sum *= change;
    scale(dim, change, out, out);
}

/* First the maxima of all rows, then the exponentials: those of a row would wait for its maximum, 50 cycles. */
static void softmax_step(size_t rows, size_t keys, real factor, const size_t *visible, real *scores,
                         size_t scores_stride, real *maximum, real *sum, size_t dim, real *out, size_t out_stride)
{
    for (size_t r = 0; r < rows; r++) {
        float most = largest(seen_keys(visible, r, keys), scores + r * scores_stride);
        if (most > maximum[r])
            raise_maximum(factor, most, maximum + r, sum + r, dim, out + r * out_stride);
    }
    for (size_t r = 0; r < rows; r++, scores += scores_stride) {
        size_t seen = seen_keys(visible, r, keys);
        sum[r] += exponentials(seen, factor, maximum[r], scores);
        if (seen < keys)
            memset(scores + seen, 0, (keys - seen) * sizeof *scores);
    }
}

static void exp_sum(size_t n, real factor, real most, real *x, real *sum)
{
    *sum = exponentials(n, factor, most, x);
}

static void softmax_tile_backward(size_t rows, size_t keys, real factor, const size_t *visible, real *scores,
                                  size_t scores_stride, const real *maximum, const real *log_sum, const real *delta,
                                  real *dp, size_t dp_stride)
{
    for (size_t r = 0; r < rows; r++, scores += scores_stride, dp += dp_stride) {
        size_t seen = seen_keys(visible, r, keys);
        for (size_t j = 0; j < seen; j += lanes) {
            size_t left = seen - j;
            vec p = vec_exp(factor * (vec_load_upto(scores + j, left) - maximum[r]) - log_sum[r]);
            vec_store_upto(scores + j, left, p);
            vec_store_upto(dp + j, left, factor * p * (vec_load_upto(dp + j, left) - delta[r]));
        }
        if (seen < keys) {
            memset(scores + seen, 0, (keys - seen) * sizeof *scores);
            memset(dp + seen, 0, (keys - seen) * sizeof *dp);
        }
    }
}

/* ---- cross entropy ----------------------------------------------------------------------------------------------- */

static float sum_of_exponentials(size_t n, float most, const float *x)
{
    vec sum = {0};
    size_t i = 0;
    for (; i + lanes <= n; i += lanes)
        sum += vec_exp(vec_load(x + i) - most);
    if (i < n)
        sum += vec_first(n - i, vec_exp(vec_load_part(x + i, n - i) - most), (vec){0});
    return vec_sum(sum);
}

static float cross_entropy_row(size_t classes, size_t target, bool gradient, float weight, float *logits)
{
    float most = largest(classes, logits), at_target = logits[target];
    float sum = gradient ? exponentials(classes, 1, most, logits) : sum_of_exponentials(classes, most, logits);
    if (gradient) {
        scale(classes, weight / sum, logits, logits);
        logits[target] -= weight;
    }
    return logf(sum) + (most - at_target);
}

static void cross_entropy(size_t rows, size_t classes, const int32_t *targets, int32_t ignore, bool gradient,
                          real weight, real *logits, real *loss)
{
    for (size_t r = 0; r < rows; r++, logits += classes) {
        loss[r] = 0;
        if (targets[r] != ignore)
            loss[r] = cross_entropy_row(classes, (size_t)targets[r], gradient, weight, logits);
        else if (gradient)
            memset(logits, 0, classes * sizeof *logits);
    }
}

#endif
