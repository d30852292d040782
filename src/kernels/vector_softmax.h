/* Softmax, tile by tile in attention and whole rows in the loss. */
#ifndef BRT_KERNELS_VECTOR_SOFTMAX_H
#define BRT_KERNELS_VECTOR_SOFTMAX_H

#include "kernels.h"
#include "vector.h"
#include "vector_math.h"
#include "vector_pairs.h"
#include "vector_rows.h"

#include <stdbool.h>

static inline size_t seen_keys(const size_t *visible, size_t row, size_t keys)
{
    return visible ? visible[row] : keys;
}

static const float log2_e = 1.44269504f;

/* The largest of each lane. Four maxima in turn, because each waits 4 cycles for the one before. */
static inline __attribute__((always_inline)) vec largest_lanes(size_t n, const float *x)
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
    return vec_max(vec_max(most[0], most[1]), vec_max(most[2], most[3]));
}

/* The exponentials of up to two vectors of x, to be put in p, which may be x, and in bf16 in y, where they are given;
 * the sum of each lane. */
static inline __attribute__((always_inline)) vec two_exponentials(size_t left, float factor, float most, const float *x,
                                                                  float *p, uint16_t *y)
{
    vec two[2] = {{0}};
    for (size_t k = 0; k < 2; k++)
        if (left > k * lanes) {
            size_t here = left - k * lanes;
            vec power = factor * (vec_load_upto(x + k * lanes, here) - most);
            two[k] = vec_zero_beyond(here, y ? vec_exp2_for_bf16(power) : vec_exp2(power));
            if (p)
                vec_store_upto(p + k * lanes, here, two[k]);
        }
    if (y) {
        wide_short_vec rounded = vec_to_bf16(two[0], two[1]);
        memcpy(y, &rounded, left < 2 * lanes ? left * sizeof *y : sizeof rounded);
    }
    return two[0] + two[1];
}

/* exp(factor * (x - most)) of n numbers, to be put as above; the sum of each lane. */
static inline __attribute__((always_inline)) vec exponentials(size_t n, float factor, float most, const float *x,
                                                              float *p, uint16_t *y)
{
    vec sum = {0};
    size_t i = 0;
    factor *= log2_e;
    for (; i + 2 * lanes <= n; i += 2 * lanes)
        sum += two_exponentials(2 * lanes, factor, most, x + i, p ? p + i : NULL, y ? y + i : NULL);
    if (i < n)
        sum += two_exponentials(n - i, factor, most, x + i, p ? p + i : NULL, y ? y + i : NULL);
    return sum;
}

static void exp_sum(size_t n, real factor, real most, real *x, real *sum)
{
    *sum = vec_sum(exponentials(n, factor, most, x, x, NULL));
}

static void exp_below(size_t rows, size_t n, real factor, const real *least, const real *x, size_t x_stride, real *y,
                      size_t y_stride, real *sum)
{
    for (size_t r = 0; r < rows; r++, x += x_stride, y += y_stride) {
        vec total = {0};
        for (size_t i = 0; i < n; i += lanes) {
            vec distance = vec_load_upto(x + i, n - i) - least[r];
            vec p = vec_select(distance < 0, vec_exp2(log2_e * factor * distance), (vec){0});
            p = vec_zero_beyond(n - i, p);
            vec_store_upto(y + i, n - i, p);
            total += p;
        }
        sum[r] += vec_sum(total);
    }
}

/* Raises a row's maximum; its sum and its part of out were made with the lower one. */
static void raise_maximum(float factor, float most, float *maximum, float *sum, size_t dim, float *out)
{
    float change = vec_exp2(vec_splat(log2_e * factor * (*maximum - most)))[0];
    *maximum = most;
    *sum *= change;
    scale(dim, change, out, out);
}

/* The exponentials of a row, and 0 after the keys that it sees; the sum of each lane. */
static inline __attribute__((always_inline)) vec weights(size_t keys, size_t seen, float factor, float most, float *x)
{
    if (seen < keys)
        memset(x + seen, 0, (keys - seen) * sizeof *x);
    return exponentials(seen, factor, most, x, x, NULL);
}

static inline __attribute__((always_inline)) vec rounded_weights(size_t keys, size_t seen, float factor, float most,
                                                                 float *x, uint16_t *y)
{
    size_t even = keys + keys % 2;
    if (seen < even)
        memset(y + seen, 0, (even - seen) * sizeof *y);
    return exponentials(seen, factor, most, x, NULL, y);
}

enum { softmax_group = 4 }; /* rows whose maxima and sums are found together */

/* `rows` rows, a constant at every call: softmax_group or 1. */
static inline __attribute__((always_inline)) void softmax_rows(size_t rows, size_t keys, float factor,
                                                               const size_t *visible, float *scores,
                                                               size_t scores_stride, float *maximum, float *sum,
                                                               size_t dim, float *out, size_t out_stride,
                                                               uint16_t *rounded)
{
    vec most[softmax_group], total[softmax_group];
    float tops[softmax_group];
    for (size_t r = 0; r < rows; r++)
        most[r] = largest_lanes(seen_keys(visible, r, keys), scores + r * scores_stride);
    if (rows == softmax_group)
        store4(tops, vec_largest_four(most));
    else
        tops[0] = vec_largest(most[0]);
    for (size_t r = 0; r < rows; r++)
        if (tops[r] > maximum[r] + logf(BRT_SOFTMAX_LAG) / factor)
            raise_maximum(factor, tops[r], maximum + r, sum + r, dim, out + r * out_stride);
    for (size_t r = 0; r < rows; r++) {
        size_t seen = seen_keys(visible, r, keys), row = r * scores_stride;
        total[r] = rounded ? rounded_weights(keys, seen, factor, maximum[r], scores + row, rounded + row)
                           : weights(keys, seen, factor, maximum[r], scores + row);
    }
    if (rows == softmax_group)
        store4(sum, load4(sum) + vec_sum_four(total));
    else
        sum[0] += vec_sum(total[0]);
}

static void softmax_step(size_t rows, size_t keys, real factor, const size_t *visible, real *scores,
                         size_t scores_stride, real *maximum, real *sum, size_t dim, real *out, size_t out_stride,
                         uint16_t *rounded)
{
    size_t r = 0;
    for (; r + softmax_group <= rows; r += softmax_group)
        softmax_rows(softmax_group, keys, factor, visible ? visible + r : NULL, scores + r * scores_stride,
                     scores_stride, maximum + r, sum + r, dim, out + r * out_stride, out_stride,
                     rounded ? rounded + r * scores_stride : NULL);
    for (; r < rows; r++)
        softmax_rows(1, keys, factor, visible ? visible + r : NULL, scores + r * scores_stride, scores_stride,
                     maximum + r, sum + r, dim, out + r * out_stride, out_stride,
                     rounded ? rounded + r * scores_stride : NULL);
}

/* ---- dropout of weights ---- */

static inline uvec mask_bits(const brt_mask *mask, uvec number)
{
    uvec bits = number + mask->key[0];
    bits = (bits ^ bits >> 17) * 0xed5ad4bb;
    bits = (bits ^ bits >> 11 ^ mask->key[1]) * 0xac4c1b51;
    bits = (bits ^ bits >> 15) * 0x31848bab;
    return bits ^ bits >> 14;
}

static void drop(size_t rows, size_t count, const brt_mask *mask, uint32_t first, uint32_t step, real *x,
                 size_t x_stride)
{
    for (size_t r = 0; r < rows; r++, first += step, x += x_stride)
        for (size_t i = 0; i < count; i += lanes) {
            uvec bits = mask_bits(mask, (uvec)vec_index() + (first + (uint32_t)i));
            vec kept = mask->kept * vec_load_upto(x + i, count - i);
            vec_store_upto(x + i, count - i, vec_select((ivec)(bits < mask->least), (vec){0}, kept));
        }
}

/* p, and ds in the place of dp; whether both are to be rounded is a constant at every call. */
static inline __attribute__((always_inline)) vec softmax_gradient(bool for_bf16, float factor, float maximum,
                                                                  float binary_log_sum, float delta, vec score,
                                                                  vec *dp)
{
    vec power = log2_e * factor * (score - maximum) - binary_log_sum;
    vec p = for_bf16 ? vec_exp2_for_bf16(power) : vec_exp2(power);
    *dp = factor * p * (*dp - delta);
    return p;
}

/* The same of up to a vector's length of a row. */
static inline __attribute__((always_inline)) void softmax_backward(size_t left, float factor, float maximum,
                                                                   float binary_log_sum, float delta, float *scores,
                                                                   float *dp)
{
    vec ds = vec_load_upto(dp, left);
    vec_store_upto(scores, left,
                   softmax_gradient(false, factor, maximum, binary_log_sum, delta, vec_load_upto(scores, left), &ds));
    vec_store_upto(dp, left, ds);
}

static void softmax_tile_backward(size_t rows, size_t keys, real factor, const size_t *visible, real *scores,
                                  size_t scores_stride, const real *maximum, const real *log_sum, const real *delta,
                                  real *dp, size_t dp_stride)
{
    for (size_t r = 0; r < rows; r++, scores += scores_stride, dp += dp_stride) {
        size_t seen = seen_keys(visible, r, keys), j = 0;
        float binary_log_sum = log2_e * log_sum[r];
        for (; j + lanes <= seen; j += lanes)
            softmax_backward(lanes, factor, maximum[r], binary_log_sum, delta[r], scores + j, dp + j);
        if (j < seen)
            softmax_backward(seen - j, factor, maximum[r], binary_log_sum, delta[r], scores + j, dp + j);
        if (seen < keys) {
            memset(scores + seen, 0, (keys - seen) * sizeof *scores);
            memset(dp + seen, 0, (keys - seen) * sizeof *dp);
        }
    }
}

/* The same for a pair of rows with results in bf16. */
typedef struct softmax_pair {
    float factor;
    const float *scores, *dp;                   /* of two rows */
    float maximum[2], binary_log_sum[2], delta[2];
    size_t stride;
    uint32_t *p_pairs, *ds_pairs;
    uint16_t *ds;
} softmax_pair;

/* p and ds of a vector of one of the rows, of which `left` keys are seen; 0 beyond them. */
static inline __attribute__((always_inline)) void softmax_vector(const softmax_pair *s, size_t row, size_t j,
                                                                 size_t left, vec *p, vec *ds)
{
    size_t at = row * s->stride + j;
    *ds = vec_load_upto(s->dp + at, left);
    *p = softmax_gradient(true, s->factor, s->maximum[row], s->binary_log_sum[row], s->delta[row],
                          vec_load_upto(s->scores + at, left), ds);
    *p = vec_zero_beyond(left, *p);
    *ds = vec_zero_beyond(left, *ds);
}

/* Two vectors from key j on, to be stored up to `count`; the rows see left[0] and left[1] keys from there on. */
static inline __attribute__((always_inline)) void softmax_pair_step(const softmax_pair *s, size_t j, size_t count,
                                                                    const size_t *left)
{
    vec p[2][2], ds[2][2];
#pragma GCC unroll 2
    for (size_t r = 0; r < 2; r++)
#pragma GCC unroll 2
        for (size_t v = 0; v < 2; v++) {
            p[r][v] = ds[r][v] = (vec){0};
            if (left[r] > v * lanes)
                softmax_vector(s, r, j + v * lanes, left[r] - v * lanes, &p[r][v], &ds[r][v]);
        }
#pragma GCC unroll 2
    for (size_t v = 0; v < 2; v++)
        if (count > v * lanes) {
            size_t at = j + v * lanes, here = count - v * lanes;
            vec_store_pairs_upto(s->p_pairs + at, here, vec_pair(p[0][v], p[1][v]));
            vec_store_pairs_upto(s->ds_pairs + at, here, vec_pair(ds[0][v], ds[1][v]));
        }
    vec_store_bf16_upto(s->ds + j, count, ds[0][0], ds[0][1]);
    vec_store_bf16_upto(s->ds + s->stride + j, count, ds[1][0], ds[1][1]);
}

static void softmax_pair_backward(const softmax_pair *s, size_t count, const size_t *seen)
{
    static const size_t whole[] = {2 * lanes, 2 * lanes};
    size_t j = 0, least = seen[0] < seen[1] ? seen[0] : seen[1];
    for (; j + 2 * lanes <= least; j += 2 * lanes)
        softmax_pair_step(s, j, 2 * lanes, whole);
    for (; j < count; j += 2 * lanes) {
        size_t left[] = {seen[0] > j ? seen[0] - j : 0, seen[1] > j ? seen[1] - j : 0};
        softmax_pair_step(s, j, count - j, left);
    }
}

static void softmax_tile_backward_bf16(size_t rows, size_t keys, real factor, const size_t *visible, const real *scores,
                                       const real *maximum, const real *log_sum, const real *delta, const real *dp,
                                       size_t stride, uint32_t *p_pairs, uint32_t *ds_pairs, uint16_t *ds)
{
    for (size_t r = 0; r < rows; r += 2) {
        size_t second = r + 1 < rows ? r + 1 : r;
        size_t seen[] = {seen_keys(visible, r, keys), second > r ? seen_keys(visible, second, keys) : 0};
        softmax_pair s = {.factor = factor,
                          .scores = scores + r * stride,
                          .dp = dp + r * stride,
                          .maximum = {maximum[r], maximum[second]},
                          .binary_log_sum = {log2_e * log_sum[r], log2_e * log_sum[second]},
                          .delta = {delta[r], delta[second]},
                          .stride = stride,
                          .p_pairs = p_pairs + r / 2 * stride,
                          .ds_pairs = ds_pairs + r / 2 * stride,
                          .ds = ds + r * stride};
        softmax_pair_backward(&s, keys + keys % 2, seen);
    }
}

/* ---- cross entropy ----------------------------------------------------------------------------------------------- */

static float cross_entropy_row(size_t classes, size_t target, bool gradient, float weight, float *logits)
{
    float most = vec_largest(largest_lanes(classes, logits)), at_target = logits[target];
    float sum;
    if (gradient) {
        sum = vec_sum(exponentials(classes, 1, most, logits, logits, NULL));
        scale(classes, weight / sum, logits, logits);
        logits[target] -= weight;
    } else
        sum = vec_sum(exponentials(classes, 1, most, logits, NULL, NULL));
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
