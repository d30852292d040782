/* Every kernel in plain C, one element after the other, each one reading as its formula: the table for processors
 * without one of their own, the oracle of the tests, and the only one of the double build. */
#include "kernels.h"
#include "packed.h"
#include "peak.h"
#include "plain_bf16.h"
#include "plain_gates.h"
#include "plain_geglu.h"
#include "plain_optimizer.h"
#include "tables.h"

#include <string.h>
#include <tgmath.h>

/* ---- matrix products ------------------------------------------------------------------------------- */

static void matmul(size_t m, size_t n, size_t k, const real *a, size_t a_row, size_t a_column, const real *b,
                   size_t b_row, real *c, size_t c_row, bool accumulate)
{
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++) {
            real sum = accumulate ? c[i * c_row + j] : 0;
            for (size_t p = 0; p < k; p++)
                sum += a[i * a_row + p * a_column] * b[p * b_row + j];
            c[i * c_row + j] = sum;
        }
}

static real add_pair_products(real sum, uint32_t a, uint32_t b)
{
    sum += value_of_bf16(a & 0xffff) * value_of_bf16(b & 0xffff);
    return sum + value_of_bf16(a >> 16) * value_of_bf16(b >> 16);
}

static void matmul_bf16(size_t m, size_t n, size_t k, const uint32_t *a, size_t a_row, size_t a_column,
                        const uint32_t *b, size_t b_row, real *c, size_t c_row, bool accumulate)
{
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++) {
            real sum = accumulate ? c[i * c_row + j] : 0;
            for (size_t p = 0; p < k; p++)
                sum = add_pair_products(sum, a[i * a_row + p * a_column], b[p * b_row + j]);
            c[i * c_row + j] = sum;
        }
}

enum { plain_lanes = 1, plain_panel = 4 };

/* Where element (p, j) of a matrix [k, n] in panels is. */
static size_t panel_index(size_t k, size_t n, size_t p, size_t j)
{
    size_t first = j - j % plain_panel;
    return first * k + p * brt_panel_width(plain_panel, plain_lanes, n - first) + (j - first);
}

static void pack(size_t k, size_t n, const real *b, size_t b_row, size_t b_column, real *panels)
{
    for (size_t p = 0; p < k; p++)
        for (size_t j = 0; j < n; j++)
            panels[panel_index(k, n, p, j)] = b[p * b_row + j * b_column];
}

static void matmul_packed(size_t m, size_t n, size_t k, const real *a, size_t a_row, size_t a_column,
                          const real *panels, const real *added, real *c, size_t c_row, const brt_ahead *ahead)
{
    (void)ahead;
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++) {
            real sum = added ? added[i * c_row + j] : 0;
            for (size_t p = 0; p < k; p++)
                sum += a[i * a_row + p * a_column] * panels[panel_index(k, n, p, j)];
            c[i * c_row + j] = sum;
        }
}

static real dot(size_t n, const real *x, const real *y)
{
    real sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += x[i] * y[i];
    return sum;
}

static void matvec(size_t m, size_t n, size_t k, const real *x, size_t x_stride, const real *w, size_t w_stride,
                   real *y, size_t y_stride, bool accumulate)
{
    for (size_t j = 0; j < n; j++)
        for (size_t i = 0; i < m; i++) {
            real sum = dot(k, x + i * x_stride, w + j * w_stride);
            y[i * y_stride + j] = accumulate ? y[i * y_stride + j] + sum : sum;
        }
}

static void widen_bf16(size_t n, const uint16_t *x, real *y)
{
    for (size_t i = 0; i < n; i++)
        y[i] = value_of_bf16(x[i]);
}

static void widen_int8(size_t n, const int8_t *x, real *y)
{
    for (size_t i = 0; i < n; i++)
        y[i] = x[i];
}

static void to_int8(size_t rows, size_t dim, const real *x, size_t x_stride, int8_t *y, real *scale)
{
    for (size_t r = 0; r < rows; r++, x += x_stride, y += dim) {
        real most = 0;
        for (size_t i = 0; i < dim; i++)
            most = fmax(most, fabs(x[i]));
        real inverse = most > (real)1e-30 ? 127 / most : 0;
        scale[r] = most / 127;
        for (size_t i = 0; i < dim; i++)
            y[i] = (int8_t)rint(x[i] * inverse);
    }
}

static void panel_bf16(size_t m, size_t k, const real *x, size_t x_stride, const uint16_t *w, real *y)
{
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < BRT_PANEL; j++) {
            real sum = 0;
            for (size_t p = 0; p < k; p++)
                sum += x[i * x_stride + p] * value_of_bf16(w[p * BRT_PANEL + j]);
            y[i * BRT_PANEL + j] = sum;
        }
}

static void panel_int8(size_t m, size_t k, const real *x, size_t x_stride, const int8_t *w, real *y)
{
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < BRT_PANEL; j++) {
            real sum = 0;
            for (size_t p = 0; p < k; p++)
                sum += x[i * x_stride + p] * (real)w[p * BRT_PANEL + j];
            y[i * BRT_PANEL + j] = sum;
        }
}

static void scale_columns(size_t m, size_t n, const real *factor, const real *x, size_t x_stride, real *y,
                          size_t y_stride, bool accumulate)
{
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++) {
            real product = x[i * x_stride + j] * factor[j];
            y[i * y_stride + j] = accumulate ? y[i * y_stride + j] + product : product;
        }
}

static void transpose(size_t rows, size_t columns, const real *x, size_t x_stride, real *y, size_t y_stride)
{
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < columns; j++)
            y[j * y_stride + i] = x[i * x_stride + j];
}

/* ---- sums ------------------------------------------------------------------------------------------- */

static void add(size_t n, const real *x, real *y)
{
    for (size_t i = 0; i < n; i++)
        y[i] += x[i];
}

static void scale(size_t n, real a, const real *x, real *y)
{
    for (size_t i = 0; i < n; i++)
        y[i] = a * x[i];
}

static void scale_add(size_t n, real a, const real *x, real b, real *y)
{
    for (size_t i = 0; i < n; i++)
        y[i] = a * x[i] + b * y[i];
}

static void to_bf16(size_t n, const real *x, uint16_t *y)
{
    for (size_t i = 0; i < n; i++)
        y[i] = (uint16_t)bf16_of(x[i]);
}

static void pair_rows(size_t rows, size_t columns, const real *x, size_t x_stride, uint32_t *y, size_t y_stride)
{
    for (size_t r = 0; r < rows; r += 2)
        for (size_t i = 0; i < columns; i++) {
            uint32_t second = r + 1 < rows ? bf16_of(x[(r + 1) * x_stride + i]) : 0;
            y[r / 2 * y_stride + i] = bf16_of(x[r * x_stride + i]) | second << 16;
        }
}

static void pair_rounded_rows(size_t rows, size_t columns, const uint16_t *x, size_t x_stride, uint32_t *y,
                              size_t y_stride)
{
    for (size_t r = 0; r < rows; r += 2)
        for (size_t i = 0; i < columns; i++) {
            uint32_t second = r + 1 < rows ? x[(r + 1) * x_stride + i] : 0;
            y[r / 2 * y_stride + i] = x[r * x_stride + i] | second << 16;
        }
}

static void pack_bf16(size_t k, size_t n, const real *b, size_t b_row, size_t b_column, uint32_t *panels)
{
    for (size_t p = 0; p < k; p += 2)
        for (size_t j = 0; j < n; j++) {
            uint32_t second = p + 1 < k ? bf16_of(b[(p + 1) * b_row + j * b_column]) : 0;
            panels[panel_index((k + 1) / 2, n, p / 2, j)] = bf16_of(b[p * b_row + j * b_column]) | second << 16;
        }
}

static void matmul_packed_bf16(size_t m, size_t n, size_t k, const uint32_t *a, size_t a_row, size_t a_column,
                               const uint32_t *panels, const real *added, real *c, size_t c_row,
                               const brt_ahead *ahead)
{
    (void)ahead;
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++) {
            real sum = added ? added[i * c_row + j] : 0;
            for (size_t p = 0; p < k; p++)
                sum = add_pair_products(sum, a[i * a_row + p * a_column], panels[panel_index(k, n, p, j)]);
            c[i * c_row + j] = sum;
        }
}

static void pack_matmul(size_t m, size_t n, size_t k, const real *a, size_t a_row, size_t a_column, const real *b,
                        size_t b_row, real *panel, const real *added, real *c, size_t c_row, const brt_ahead *ahead)
{
    pack(k, n, b, b_row, 1, panel);
    matmul_packed(m, n, k, a, a_row, a_column, panel, added, c, c_row, ahead);
}

static void pack_matmul_bf16(size_t m, size_t n, size_t k, const uint32_t *a, size_t a_row, size_t a_column,
                             const uint32_t *b, size_t b_row, uint32_t *panel, const real *added, real *c,
                             size_t c_row, const brt_ahead *ahead)
{
    for (size_t p = 0; p < k; p++)
        for (size_t j = 0; j < n; j++)
            panel[panel_index(k, n, p, j)] = b[p * b_row + j];
    matmul_packed_bf16(m, n, k, a, a_row, a_column, panel, added, c, c_row, ahead);
}

static void sum_squares(size_t n, const real *x, double *sum)
{
    *sum = 0;
    for (size_t i = 0; i < n; i++)
        *sum += (double)x[i] * (double)x[i];
}

/* ---- LayerNorm and RMSNorm ------------------------------------------------------------------------------ */

static void norm_row(size_t dim, const real *x, const real *gain, bool centred, real epsilon, real *y, real *mean,
                     real *rstd)
{
    real sum = 0, squares = 0;
    for (size_t i = 0; centred && i < dim; i++)
        sum += x[i];
    *mean = sum / (real)dim;
    for (size_t i = 0; i < dim; i++)
        squares += (x[i] - *mean) * (x[i] - *mean);
    *rstd = 1 / sqrt(squares / (real)dim + epsilon);
    for (size_t i = 0; i < dim; i++)
        y[i] = (x[i] - *mean) * *rstd * gain[i];
}

static void norm_forward(size_t rows, size_t dim, const real *x, const real *gain, bool centred, real epsilon, real *y,
                         real *mean, real *rstd)
{
    for (size_t r = 0; r < rows; r++)
        norm_row(dim, x + r * dim, gain, centred, epsilon, y + r * dim, mean + r, rstd + r);
}

/* With n = (x - mean) * rstd and g = gain * dy:  dx = rstd * (g - mean(g) - n * mean(g * n)),  dgain = n * dy; without
 * mean(g) where x was not centred. */
static void norm_backward_row(size_t dim, const real *x, const real *gain, bool centred, real mean, real rstd,
                              const real *dy, real *dx, real *dgain)
{
    real sum = 0, along = 0;
    for (size_t i = 0; i < dim; i++) {
        real n = (x[i] - mean) * rstd;
        dgain[i] += n * dy[i];
        sum += centred ? gain[i] * dy[i] : 0;
        along += gain[i] * dy[i] * n;
    }
    for (size_t i = 0; dx && i < dim; i++)
        dx[i] += rstd * (gain[i] * dy[i] - sum / (real)dim - (x[i] - mean) * rstd * along / (real)dim);
}

static void norm_backward(size_t rows, size_t dim, const real *x, const real *gain, bool centred, const real *mean,
                          const real *rstd, const real *dy, real *dx, real *dgain)
{
    for (size_t r = 0; r < rows; r++)
        norm_backward_row(dim, x + r * dim, gain, centred, mean[r], rstd[r], dy + r * dim, dx ? dx + r * dim : NULL,
                          dgain);
}

/* ---- normalised and turned heads --------------------------------------------------------------------------- */

static real inverse_length(size_t dim, const real *x)
{
    return 1 / fmax(sqrt(dot(dim, x, x)), (real)1e-12);
}

/* y = v * cosine + half_turn(v) * sine; y may be v */
static void turn(size_t dim, const real *v, const real *cosine, const real *sine, real *y)
{
    size_t half = dim / 2;
    for (size_t i = 0; i < half; i++) {
        real v1 = v[i], v2 = v[i + half];
        y[i] = v1 * cosine[i] - v2 * sine[i];
        y[i + half] = v2 * cosine[i + half] + v1 * sine[i + half];
    }
}

static void turn_backward(size_t dim, const real *dy, const real *cosine, const real *sine, real *dv)
{
    size_t half = dim / 2;
    for (size_t i = 0; i < half; i++) {
        real dy1 = dy[i], dy2 = dy[i + half];
        dv[i] = dy1 * cosine[i] + dy2 * sine[i + half];
        dv[i + half] = dy2 * cosine[i + half] - dy1 * sine[i];
    }
}

static void rotary_forward(size_t rows, size_t dim, const real *x, size_t x_stride, const real *scale,
                           const real *cosine, const real *sine, real *y, size_t y_stride)
{
    for (size_t r = 0; r < rows; r++, x += x_stride, y += y_stride) {
        real inverse = scale ? inverse_length(dim, x) : 1;
        for (size_t i = 0; i < dim; i++)
            y[i] = scale ? x[i] * inverse * scale[i] : x[i];
        if (cosine)
            turn(dim, y, cosine, sine, y);
    }
}

/* v = u * scale, u = x / |x|; dv becomes dx = (w - u * (w . u)) / |x| with w = dv * scale. Below the least length, u is
 * linear in x. */
static void normalise_backward(size_t dim, const real *x, const real *scale, real *dv, real *dscale)
{
    real inverse = inverse_length(dim, x), along = 0;
    for (size_t i = 0; i < dim; i++) {
        if (dscale)
            dscale[i] += dv[i] * x[i] * inverse;
        dv[i] *= scale[i];
        along += dv[i] * x[i] * inverse;
    }
    if (inverse >= (real)1e12)
        along = 0;
    for (size_t i = 0; i < dim; i++)
        dv[i] = inverse * (dv[i] - x[i] * inverse * along);
}

static void rotary_backward(size_t rows, size_t dim, const real *x, size_t x_stride, const real *scale,
                            const real *cosine, const real *sine, const real *dy, size_t dy_stride, real *dx,
                            size_t dx_stride, real *dscale)
{
    for (size_t r = 0; r < rows; r++, dy += dy_stride, dx += dx_stride) {
        for (size_t i = 0; i < dim; i++)
            dx[i] = dy[i];
        if (cosine)
            turn_backward(dim, dx, cosine, sine, dx);
        if (scale)
            normalise_backward(dim, x + r * x_stride, scale, dx, dscale);
    }
}

static void unit_forward(size_t rows, size_t heads, size_t dim, const real *x, const real *scale, real epsilon, real *y)
{
    for (size_t r = 0; r < rows * heads; r++, x += dim, y += dim) {
        real factor = (scale ? scale[r % heads] : 1) / sqrt(dot(dim, x, x) + epsilon);
        for (size_t i = 0; i < dim; i++)
            y[i] = factor * x[i];
    }
}

/* With u = x / |x| (epsilon within the length): dx = scale * (dy - u (u . dy)) / |x|,  dscale = u . dy */
static void unit_backward(size_t rows, size_t heads, size_t dim, const real *x, const real *scale, real epsilon,
                          const real *dy, real *dx, real *dscale)
{
    for (size_t r = 0; r < rows * heads; r++, x += dim, dy += dim, dx += dim) {
        real inverse = 1 / sqrt(dot(dim, x, x) + epsilon), along = dot(dim, x, dy) * inverse;
        real factor = (scale ? scale[r % heads] : 1) * inverse;
        if (dscale)
            dscale[r % heads] += along;
        for (size_t i = 0; i < dim; i++)
            dx[i] = factor * (dy[i] - x[i] * inverse * along);
    }
}

/* ---- softmax -------------------------------------------------------------------------------------------------- */

static size_t seen_keys(const size_t *visible, size_t row, size_t keys)
{
    return visible ? visible[row] : keys;
}

static real largest(size_t n, const real *x)
{
    real most = -(real)INFINITY;
    for (size_t i = 0; i < n; i++)
        most = fmax(most, x[i]);
    return most;
}

static void softmax_step(size_t rows, size_t keys, real scale, const size_t *visible, real *scores,
                         size_t scores_stride, real *maximum, real *sum, size_t dim, real *out, size_t out_stride,
                         uint16_t *rounded)
{
    for (size_t r = 0; r < rows; r++, scores += scores_stride, out += out_stride) {
        size_t seen = seen_keys(visible, r, keys);
        for (size_t j = seen; j < keys; j++)
            scores[j] = 0;
        real most = largest(seen, scores), change = 1;
        if (most > maximum[r] + log((real)BRT_SOFTMAX_LAG) / scale) {
            change = exp(scale * (maximum[r] - most));
            maximum[r] = most;
        }
        sum[r] *= change;
        for (size_t j = 0; j < seen; j++) {
            scores[j] = exp(scale * (scores[j] - maximum[r]));
            sum[r] += scores[j];
        }
        for (size_t i = 0; i < dim; i++)
            out[i] *= change;
        for (size_t j = 0; rounded && j < keys + keys % 2; j++)
            rounded[r * scores_stride + j] = (uint16_t)(j < keys ? bf16_of(scores[j]) : 0);
    }
}

static void exp_sum(size_t n, real scale, real most, real *x, real *sum)
{
    *sum = 0;
    for (size_t i = 0; i < n; i++) {
        x[i] = exp(scale * (x[i] - most));
        *sum += x[i];
    }
}

static void exp_below(size_t rows, size_t n, real scale, const real *least, const real *x, size_t x_stride, real *y,
                      size_t y_stride, real *sum)
{
    for (size_t r = 0; r < rows; r++, x += x_stride, y += y_stride)
        for (size_t i = 0; i < n; i++) {
            y[i] = x[i] < least[r] ? exp(scale * (x[i] - least[r])) : 0;
            sum[r] += y[i];
        }
}

static void collect_least(size_t n, real least, const real *x, uint32_t *list, size_t *count)
{
    *count = 0;
    for (size_t i = 0; i < n; i++)
        if (!(x[i] < least))
            list[(*count)++] = (uint32_t)i;
}

static uint32_t mask_bits(const brt_mask *mask, uint32_t number)
{
    uint32_t bits = number + mask->key[0];
    bits = (bits ^ bits >> 17) * 0xed5ad4bb;
    bits = (bits ^ bits >> 11 ^ mask->key[1]) * 0xac4c1b51;
    bits = (bits ^ bits >> 15) * 0x31848bab;
    return bits ^ bits >> 14;
}

static void drop(size_t rows, size_t count, const brt_mask *mask, uint32_t first, uint32_t step, real *x,
                 size_t x_stride)
{
    for (size_t r = 0; r < rows; r++)
        for (size_t i = 0; i < count; i++) {
            uint32_t number = first + (uint32_t)r * step + (uint32_t)i;
            real *element = x + r * x_stride + i;
            *element = mask_bits(mask, number) < mask->least ? 0 : *element * mask->kept;
        }
}

static void softmax_tile_backward(size_t rows, size_t keys, real scale, const size_t *visible, real *scores,
                                  size_t scores_stride, const real *maximum, const real *log_sum, const real *delta,
                                  real *dp, size_t dp_stride)
{
    for (size_t r = 0; r < rows; r++, scores += scores_stride, dp += dp_stride) {
        size_t seen = seen_keys(visible, r, keys);
        for (size_t j = 0; j < keys; j++) {
            scores[j] = j < seen ? exp(scale * (scores[j] - maximum[r]) - log_sum[r]) : 0;
            dp[j] = j < seen ? scale * scores[j] * (dp[j] - delta[r]) : 0;
        }
    }
}

static void softmax_tile_backward_bf16(size_t rows, size_t keys, real scale, const size_t *visible, const real *scores,
                                       const real *maximum, const real *log_sum, const real *delta, const real *dp,
                                       size_t stride, uint32_t *p_pairs, uint32_t *ds_pairs, uint16_t *ds)
{
    for (size_t r = 0; r < rows; r++)
        for (size_t j = 0; j < keys + keys % 2; j++) {
            size_t at = r * stride + j, pair = r / 2 * stride + j, half = r % 2 * 16;
            real p = j < keys ? scores[at] : 0, gradient = j < keys ? dp[at] : 0;
            size_t seen = j < seen_keys(visible, r, keys);
            softmax_tile_backward(1, 1, scale, &seen, &p, 1, maximum + r, log_sum + r, delta + r, &gradient, 1);
            ds[at] = (uint16_t)bf16_of(gradient);
            p_pairs[pair] = (half ? p_pairs[pair] : 0) | bf16_of(p) << half;
            ds_pairs[pair] = (half ? ds_pairs[pair] : 0) | bf16_of(gradient) << half;
        }
}

/* ---- cross entropy ----------------------------------------------------------------------------------------------- */

static real cross_entropy_row(size_t classes, size_t target, bool gradient, real weight, real *logits)
{
    real most = largest(classes, logits), loss;
    double sum = 0; /* in float, the many small terms of a large vocabulary would be lost */
    for (size_t j = 0; j < classes; j++)
        sum += (double)exp(logits[j] - most);
    loss = (real)log(sum) + (most - logits[target]);
    if (!gradient)
        return loss;
    for (size_t j = 0; j < classes; j++)
        logits[j] = weight * exp(logits[j] - most) / (real)sum;
    logits[target] -= weight;
    return loss;
}

static void cross_entropy(size_t rows, size_t classes, const int32_t *targets, int32_t ignore, bool gradient,
                          real weight, real *logits, real *loss)
{
    for (size_t r = 0; r < rows; r++, logits += classes) {
        loss[r] = 0;
        if (targets[r] != ignore)
            loss[r] = cross_entropy_row(classes, (size_t)targets[r], gradient, weight, logits);
        else
            for (size_t j = 0; gradient && j < classes; j++)
                logits[j] = 0;
    }
}

/* ---- measuring --------------------------------------------------------------------------------------------------- */

static void peak(size_t rounds, real *result)
{
    real chain[BRT_PEAK_CHAINS];
    for (size_t i = 0; i < BRT_PEAK_CHAINS; i++)
        chain[i] = brt_peak_start + (real)i;
    for (size_t r = 0; r < rounds; r++)
        for (size_t i = 0; i < BRT_PEAK_CHAINS; i++)
            chain[i] = chain[i] * brt_peak_factor + brt_peak_term;
    *result = 0;
    for (size_t i = 0; i < BRT_PEAK_CHAINS; i++)
        *result += chain[i];
}

const brt_kernels brt_kernels_generic = {
    .isa = "generic",
    .lanes = plain_lanes,
    .panel_columns = plain_panel,
#define BRT_KERNEL(name, arguments) .name = name,
#include "kernels.def"
#undef BRT_KERNEL
};
