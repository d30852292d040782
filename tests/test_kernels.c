/* Every table of kernels that this processor can run against the plain C one, over sizes with and without tails, on
 * unaligned buffers that end where their allocation ends. */
#include "buffers.h"
#include "kernels/kernels.h"

#include <math.h>
#include <stdio.h>

/* The sets under test in the running check. */
static const brt_kernels *fast, *plain;

/* |got - want| <= bound * (1 + |want|) for every element */
static void expect_close(const char *what, size_t count, const float *got, const float *want, double bound)
{
    for (size_t i = 0; i < count; i++) {
        double difference = fabs((double)got[i] - (double)want[i]);
        if (!(difference <= bound * (1 + fabs((double)want[i]))))
            fail_msg("%s: %s[%zu of %zu] is %.9g, plain %.9g", fast->isa, what, i, count, (double)got[i],
                     (double)want[i]);
    }
}

static void expect_same(const char *what, size_t count, const float *got, const float *want)
{
    if (count && memcmp(got, want, count * sizeof *got) != 0)
        fail_msg("%s: %s differs in its bits", fast->isa, what);
}

static const size_t lengths[] = {0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 130, 515};

#define EACH(element, list) (size_t element##_ = 0, element; \
     element##_ < sizeof(list) / sizeof(list)[0] && (element = (list)[element##_], true); element##_++)

#include "bf16_checks.h"
#include "packed_checks.h"
#include "softmax_checks.h"
#include "stored_checks.h"

#include "panel_checks.h"

/* ---- matrix products ------------------------------------------------------------------------------------ */

static void check_matmul_case(size_t m, size_t n, size_t k, bool transposed, bool accumulate)
{
    size_t b_row = n + k % 3, c_row = n + m % 2, a_row = transposed ? 1 : k + 1, a_column = transposed ? m + 1 : 1;
    float *a = make_random((m + 1) * (k + 1), -1, 1), *b = make_random(k * b_row, -1, 1);
    float *c = make_random(m * c_row, -1, 1), *want = copy(m * c_row, c), *alone = copy(m * c_row, c);
    fast->matmul(m, n, k, a, a_row, a_column, b, b_row, c, c_row, accumulate);
    plain->matmul(m, n, k, a, a_row, a_column, b, b_row, want, c_row, accumulate);
    expect_close("matmul", m * c_row, c, want, 6e-7 * sqrt((double)k + 1));
    for (size_t i = 0; i < m; i++)
        fast->matmul(1, n, k, a + i * a_row, a_row, a_column, b, b_row, alone + i * c_row, c_row, accumulate);
    expect_same("a row of matmul alone", m * c_row, c, alone);
    free_buffers();
}

static void check_matmul(void)
{
    static const size_t rows[] = {0, 1, 2, 3, 4, 6, 11, 13, 14, 15, 27, 64, 70};
    static const size_t columns[] = {0, 1, 4, 7, 8, 15, 16, 17, 31, 32, 33, 48, 64, 75};
    static const size_t depths[] = {0, 1, 2, 17, 64, 255, 256, 257};
    for EACH (m, rows)
        for EACH (n, columns)
            for EACH (k, depths)
                for (int flags = 0; flags < 4; flags++)
                    check_matmul_case(m, n, k, flags & 1, flags & 2);
}

static void check_matvec_case(size_t m, size_t n, size_t k, bool accumulate)
{
    size_t x_stride = k + 1, w_stride = k + 3, y_stride = n + 2;
    float *x = make_random(m * x_stride, -1, 1), *w = make_random(n * w_stride, -1, 1);
    float *y = make_random(m * y_stride, -1, 1), *want = copy(m * y_stride, y), *alone = copy(m * y_stride, y);
    fast->matvec(m, n, k, x, x_stride, w, w_stride, y, y_stride, accumulate);
    plain->matvec(m, n, k, x, x_stride, w, w_stride, want, y_stride, accumulate);
    expect_close("matvec", m * y_stride, y, want, 6e-7 * sqrt((double)k + 1));
    for (size_t i = 0; i < m; i++)
        fast->matvec(1, n, k, x + i * x_stride, x_stride, w, w_stride, alone + i * y_stride, y_stride, accumulate);
    expect_same("a row of matvec alone", m * y_stride, y, alone);
    free_buffers();
}

static void check_matvec(void)
{
    static const size_t rows[] = {0, 1, 2, 3, 4, 5, 7, 8, 9}, columns[] = {0, 1, 2, 3, 4, 5, 8, 13, 16, 19};
    for EACH (m, rows)
        for EACH (n, columns)
            for EACH (k, lengths) {
                check_matvec_case(m, n, k, false);
                check_matvec_case(m, n, k, true);
            }
}

static void check_transpose(void)
{
    for EACH (rows, lengths)
        for EACH (columns, lengths) {
            size_t x_stride = columns + 1, y_stride = rows + 3;
            float *x = make_random(rows * x_stride, -1, 1), *y = make_random(columns * y_stride, -1, 1);
            float *want = copy(columns * y_stride, y);
            fast->transpose(rows, columns, x, x_stride, y, y_stride);
            plain->transpose(rows, columns, x, x_stride, want, y_stride);
            expect_same("transpose", columns * y_stride, y, want);
            free_buffers();
        }
}

/* ---- sums ------------------------------------------------------------------------------------------------- */

static void check_add(void)
{
    for EACH (n, lengths) {
        float *x = make_random(n, -1, 1), *y = make_random(n, -1, 1), *want = copy(n, y);
        fast->add(n, x, y);
        plain->add(n, x, want);
        expect_same("add", n, y, want);
        free_buffers();
    }
}

static void check_scale(void)
{
    for EACH (n, lengths) {
        float *x = make_random(n, -1, 1), *y = make(n), *want = make(n);
        fast->scale(n, 0.3f, x, y);
        plain->scale(n, 0.3f, x, want);
        expect_same("scale", n, y, want);
        fast->scale(n, 0.3f, x, x);
        expect_same("scale in place", n, x, want);
        free_buffers();
    }
}

static void check_scale_add(void)
{
    for EACH (n, lengths) {
        float *x = make_random(n, -1, 1), *y = make_random(n, -1, 1), *want = copy(n, y);
        fast->scale_add(n, 0.3f, x, -1.7f, y);
        plain->scale_add(n, 0.3f, x, -1.7f, want);
        expect_close("scale_add", n, y, want, 1.5e-7);
        free_buffers();
    }
}

static void check_sum_squares(void)
{
    for EACH (n, lengths) {
        float *x = make_random(n, -1e20f, 1e20f);
        double got = -1, want = -1;
        fast->sum_squares(n, x, &got);
        plain->sum_squares(n, x, &want);
        assert_true(fabs(got - want) <= 1e-14 * want);
        free_buffers();
    }
}

/* ---- LayerNorm and RMSNorm -------------------------------------------------------------------------------------- */

static void check_norm_forward_case(size_t dim, bool centred)
{
    enum { rows = 3 };
    float *x = make_random(rows * dim, -3, 5), *gain = make_random(dim, -1, 1);
    float *y[2], *mean[2], *rstd[2];
    const brt_kernels *set[2] = {fast, plain};
    for (int s = 0; s < 2; s++) {
        y[s] = make(rows * dim), mean[s] = make(rows), rstd[s] = make(rows);
        set[s]->norm_forward(rows, dim, x, gain, centred, 1e-5f, y[s], mean[s], rstd[s]);
    }
    expect_close("norm_forward mean", rows, mean[0], mean[1], 1e-6);
    expect_close("norm_forward rstd", rows, rstd[0], rstd[1], 2e-6);
    expect_close("norm_forward y", rows * dim, y[0], y[1], 5e-6);
    free_buffers();
}

static void check_norm_forward(void)
{
    for EACH (dim, lengths)
        for (int centred = 0; centred <= 1 && dim > 0; centred++)
            check_norm_forward_case(dim, centred);
}

static void check_norm_backward_case(size_t dim, bool centred)
{
    enum { rows = 3 };
    float *x = make_random(rows * dim, -3, 5), *gain = make_random(dim, -1, 1), *y = make(rows * dim);
    float *mean = make(rows), *rstd = make(rows), *dy = make_random(rows * dim, -1, 1);
    float *dx = make_random(rows * dim, -1, 1), *want_dx = copy(rows * dim, dx), *dgain = make_random(dim, -1, 1);
    float *want_dgain = copy(dim, dgain), *alone = copy(dim, dgain);
    plain->norm_forward(rows, dim, x, gain, centred, 1e-5f, y, mean, rstd);
    fast->norm_backward(rows, dim, x, gain, centred, mean, rstd, dy, dx, dgain);
    plain->norm_backward(rows, dim, x, gain, centred, mean, rstd, dy, want_dx, want_dgain);
    expect_close("norm_backward dx", rows * dim, dx, want_dx, 4e-6);
    expect_close("norm_backward dgain", dim, dgain, want_dgain, 2e-6);
    fast->norm_backward(rows, dim, x, gain, centred, mean, rstd, dy, NULL, alone);
    expect_same("norm_backward dgain without dx", dim, alone, dgain);
    free_buffers();
}

static void check_norm_backward(void)
{
    for EACH (dim, lengths)
        for (int centred = 0; centred <= 1 && dim > 1; centred++)
            check_norm_backward_case(dim, centred);
}

/* ---- GEGLU ------------------------------------------------------------------------------------------------------- */

enum { shut = 8 }; /* the gate of the first row whose error function is -1: what passes is 0 */

/* Gates across the whole range of the error function, and its ends. */
static float *make_gates(size_t rows, size_t inner)
{
    static const float ends[] = {0, -0.0f, 1e-30f, -30, 30, 5.3f, -5.3f, 1e4f, -1e4f, 1e-3f, -1e-3f};
    float *h = make_random(rows * 2 * inner, -6, 6);
    for (size_t i = 0; i < sizeof ends / sizeof ends[0] && i < inner; i++)
        h[inner + i] = ends[i];
    return h;
}

static void check_geglu_forward(void)
{
    enum { rows = 3 };
    for EACH (inner, lengths) {
        float *h = make_gates(rows, inner), *y = make(rows * inner), *want = make(rows * inner);
        fast->geglu_forward(rows, inner, h, y);
        plain->geglu_forward(rows, inner, h, want);
        expect_close("geglu_forward", rows * inner, y, want, 3e-6);
        assert_true(inner <= shut || y[shut] == 0);
        free_buffers();
    }
}

static void check_geglu_backward(void)
{
    enum { rows = 3 };
    for EACH (inner, lengths) {
        float *h = make_gates(rows, inner), *dy = make_random(rows * inner, -1, 1);
        float *dh = make(rows * 2 * inner), *want = make(rows * 2 * inner);
        float *y = make(rows * inner), *want_y = make(rows * inner);
        fast->geglu_backward(rows, inner, h, dy, dh, y);
        plain->geglu_backward(rows, inner, h, dy, want, want_y);
        expect_close("geglu_backward", rows * 2 * inner, dh, want, 3e-6);
        expect_close("y of geglu_backward", rows * inner, y, want_y, 3e-6);
        fast->geglu_backward(rows, inner, h, dy, h, dy);
        assert_memory_equal(h, dh, rows * 2 * inner * sizeof *h);
        assert_memory_equal(dy, y, rows * inner * sizeof *y);
        free_buffers();
    }
}

/* The kernels for floats, given the rounded numbers, and rounded. */

static void check_geglu_forward_bf16_case(size_t rows, size_t inner)
{
    size_t y_row = inner + inner % 2;
    float *h = make_gates(rows, inner), *want = make(rows * inner), *y = make(rows * y_row);
    uint16_t *rounded = (uint16_t *)make(rows * 2 * inner), *rounded_y = (uint16_t *)make(rows * y_row);
    plain->to_bf16(rows * 2 * inner, h, rounded);
    plain->widen_bf16(rows * 2 * inner, rounded, h);
    plain->geglu_forward(rows, inner, h, want);
    fast->geglu_forward_bf16(rows, inner, rounded, rounded_y);
    plain->widen_bf16(rows * y_row, rounded_y, y);
    for (size_t r = 0; r < rows; r++) {
        expect_close("geglu_forward_bf16", inner, y + r * y_row, want + r * inner, 1.0 / 256);
        if (inner % 2)
            assert_true(y[r * y_row + inner] == 0);
    }
    assert_true(inner <= shut || y[shut] == 0);
    free_buffers();
}

static void check_geglu_forward_bf16(void)
{
    for EACH (inner, lengths)
        check_geglu_forward_bf16_case(2, inner);
}

/* The numbers of a row that stand in pairs of rows. */
static void unpair_row(size_t r, size_t columns, const uint32_t *pairs, uint16_t *row)
{
    for (size_t i = 0; i < columns; i++)
        row[i] = (uint16_t)(pairs[r / 2 * columns + i] >> r % 2 * 16);
}

static void check_geglu_backward_bf16_case(size_t rows, size_t inner)
{
    size_t pairs = (rows + 1) / 2;
    float *h = make_gates(rows, inner), *dy = make_random(rows * inner, -1, 1);
    float *want_dh = make(rows * 2 * inner), *want_y = make(rows * inner), *dh = make(2 * inner), *y = make(inner);
    float *dh_by_rows = make(2 * inner);
    uint32_t *dh_pairs = (uint32_t *)make(pairs * 2 * inner), *y_pairs = (uint32_t *)make(pairs * inner);
    uint16_t *rounded_dh = (uint16_t *)make(rows * 2 * inner), *row = (uint16_t *)make(2 * inner);
    plain->to_bf16(rows * 2 * inner, h, (uint16_t *)dh_pairs);
    plain->widen_bf16(rows * 2 * inner, (uint16_t *)dh_pairs, h);
    plain->geglu_backward(rows, inner, h, dy, want_dh, want_y);
    fast->geglu_backward_bf16(rows, inner, (uint16_t *)dh_pairs, dy, rounded_dh, dh_pairs, y_pairs);
    for (size_t r = 0; r < 2 * pairs; r++) {
        unpair_row(r, 2 * inner, dh_pairs, row);
        plain->widen_bf16(2 * inner, row, dh);
        unpair_row(r, inner, y_pairs, row);
        plain->widen_bf16(inner, row, y);
        for (size_t i = 0; r == rows && i < inner; i++)
            assert_true(dh[i] == 0 && dh[inner + i] == 0 && y[i] == 0);
        if (r == rows)
            continue;
        expect_close("pairs of dh", 2 * inner, dh, want_dh + r * 2 * inner, 1.0 / 256);
        expect_close("pairs of y", inner, y, want_y + r * inner, 1.0 / 256);
        plain->widen_bf16(2 * inner, rounded_dh + r * 2 * inner, dh_by_rows);
        expect_same("rows of dh", 2 * inner, dh_by_rows, dh);
    }
    free_buffers();
}

static void check_geglu_backward_bf16(void)
{
    for EACH (inner, lengths) {
        check_geglu_backward_bf16_case(3, inner);
        check_geglu_backward_bf16_case(4, inner);
    }
}

/* ---- normalised and turned heads --------------------------------------------------------------------------------- */

static const size_t even_dims[] = {2, 4, 6, 8, 14, 16, 32, 34, 64, 66, 128, 192};

static void check_rotary_forward_case(size_t dim, bool scaled, bool turned)
{
    enum { rows = 3 };
    size_t stride = dim + 3;
    float *x = make_random(rows * stride, -2, 2), *y = make_random(rows * stride, -1, 1);
    float *want = copy(rows * stride, y);
    float *scale = make_random(dim, 0.5f, 2), *cosine = make_random(dim, -1, 1), *sine = make_random(dim, -1, 1);
    memset(x, 0, dim * sizeof *x); /* a head of length 0 */
    fast->rotary_forward(rows, dim, x, stride, scaled ? scale : NULL, turned ? cosine : NULL, turned ? sine : NULL, y,
                         stride);
    plain->rotary_forward(rows, dim, x, stride, scaled ? scale : NULL, turned ? cosine : NULL, turned ? sine : NULL,
                          want, stride);
    expect_close("rotary_forward", rows * stride, y, want, 1e-6);
    memcpy(y, x, rows * stride * sizeof *y);
    fast->rotary_forward(rows, dim, y, stride, scaled ? scale : NULL, turned ? cosine : NULL, turned ? sine : NULL, y,
                         stride);
    for (size_t r = 0; r < rows; r++)
        expect_close("rotary_forward in place", dim, y + r * stride, want + r * stride, 1e-6);
    free_buffers();
}

static void check_rotary_forward(void)
{
    for EACH (dim, even_dims)
        for (int flags = 0; flags < 4; flags++)
            check_rotary_forward_case(dim, flags & 1, flags & 2);
}

static void check_rotary_backward_case(size_t dim, bool scaled, bool turned, bool wants_scale)
{
    enum { rows = 3 };
    size_t stride = dim + 3;
    float *x = make_random(rows * stride, -2, 2), *dy = make_random(rows * stride, -1, 1);
    float *dx = make_random(rows * stride, -1, 1), *want = copy(rows * stride, dx);
    float *scale = make_random(dim, 0.5f, 2), *cosine = make_random(dim, -1, 1), *sine = make_random(dim, -1, 1);
    float *dscale = make_random(dim, -1, 1), *want_dscale = copy(dim, dscale);
    fast->rotary_backward(rows, dim, x, stride, scaled ? scale : NULL, turned ? cosine : NULL, turned ? sine : NULL, dy,
                          stride, dx, stride, wants_scale ? dscale : NULL);
    plain->rotary_backward(rows, dim, x, stride, scaled ? scale : NULL, turned ? cosine : NULL, turned ? sine : NULL,
                           dy, stride, want, stride, wants_scale ? want_dscale : NULL);
    expect_close("rotary_backward dx", rows * stride, dx, want, 2e-6);
    expect_close("rotary_backward dscale", dim, dscale, want_dscale, 2e-6);
    free_buffers();
}

static void check_rotary_backward(void)
{
    for EACH (dim, even_dims)
        for (int flags = 0; flags < 8; flags++)
            check_rotary_backward_case(dim, flags & 1, flags & 2, flags & 4);
}

static void check_unit_forward_case(size_t dim, bool scaled)
{
    enum { rows = 3, heads = 2 };
    size_t count = rows * heads * dim;
    float *x = make_random(count, -2, 2), *scale = make_random(heads, -2, 2), *y = make(count), *want = make(count);
    memset(x, 0, dim * sizeof *x); /* a head of length 0 */
    fast->unit_forward(rows, heads, dim, x, scaled ? scale : NULL, 1e-6f, y);
    plain->unit_forward(rows, heads, dim, x, scaled ? scale : NULL, 1e-6f, want);
    expect_close("unit_forward", count, y, want, 1e-6);
    free_buffers();
}

static void check_unit_forward(void)
{
    for EACH (dim, lengths) {
        check_unit_forward_case(dim, false);
        check_unit_forward_case(dim, true);
    }
}

static void check_unit_backward_case(size_t dim, bool scaled)
{
    enum { rows = 3, heads = 2 };
    size_t count = rows * heads * dim;
    float *x = make_random(count, -2, 2), *scale = make_random(heads, -2, 2), *dy = make_random(count, -1, 1);
    float *dx[2] = {make(count), make(count)}, *dscale[2] = {make_random(heads, -1, 1)};
    const brt_kernels *set[2] = {fast, plain};
    dscale[1] = copy(heads, dscale[0]);
    for (int s = 0; s < 2; s++)
        set[s]->unit_backward(rows, heads, dim, x, scaled ? scale : NULL, 1e-6f, dy, dx[s], scaled ? dscale[s] : NULL);
    expect_close("unit_backward dx", count, dx[0], dx[1], 3e-6);
    expect_close("unit_backward dscale", heads, dscale[0], dscale[1], 2e-6);
    free_buffers();
}

static void check_unit_backward(void)
{
    for EACH (dim, lengths) {
        check_unit_backward_case(dim, false);
        check_unit_backward_case(dim, true);
    }
}

/* ---- cross entropy ----------------------------------------------------------------------------------------------- */

static void check_cross_entropy_case(size_t classes, bool gradient)
{
    enum { rows = 5, ignore = -7 };
    float *logits = make_random(rows * classes, -20, 20), *want = copy(rows * classes, logits);
    float *loss = make(rows), *want_loss = make(rows);
    int32_t targets[rows] = {0, (int32_t)classes - 1, ignore, (int32_t)classes / 2, 0};
    fast->cross_entropy(rows, classes, targets, ignore, gradient, 0.125f, logits, loss);
    plain->cross_entropy(rows, classes, targets, ignore, gradient, 0.125f, want, want_loss);
    expect_close("cross_entropy loss", rows, loss, want_loss, 1e-6);
    expect_close("cross_entropy gradient", rows * classes, logits, want, 2e-7);
    free_buffers();
}

static void check_cross_entropy(void)
{
    for EACH (classes, lengths) {
        check_cross_entropy_case(classes + 1, true);
        check_cross_entropy_case(classes + 1, false);
    }
    check_cross_entropy_case(50257, true);
}

#include "gate_checks.h"
#include "optimizer_checks.h"

static void check_peak(void)
{
    float got, want;
    fast->peak(60, &got);
    plain->peak(60, &want);
    assert_true(fabsf(got / (float)fast->lanes - want) < 1e-5f * want);
}

/* ---- extremes ---------------------------------------------------------------------------------------------------- */

/* The sigmoid through the moving average of a state of 0 with 1. */
static float sigmoid(float x)
{
    float beta = x, z = 1, state = 0, next;
    fast->ema_forward(1, 1, &beta, &z, &state, &next);
    return next;
}

/* Of the exponential's 1.3e-7, and of a sum and a quotient. */
static void check_sigmoid(void)
{
    assert_true(sigmoid(0) == 0.5f && sigmoid(INFINITY) == 1 && sigmoid(104) == 1);
    assert_true(sigmoid(-INFINITY) == 0 && sigmoid(-89) == 0);
    assert_true(isnan(sigmoid(NAN)));
    for (int i = 0; i < 400000; i++) {
        float x = draw(-87.3f, 87);
        double want = 1 / (1 + exp(-(double)x)), difference = fabs((double)sigmoid(x) - want);
        if (!(difference <= 2.6e-7 * want))
            fail_msg("%s: sigmoid(%.9g) is off by %g", fast->isa, (double)x, difference / want);
    }
}

/* The error function through GEGLU: with a = 1, y = g * (1 + erf(g / sqrt 2)) / 2. */
static void check_error_function(void)
{
    for (int i = 0; i < 400000; i++) {
        float h[2] = {1, draw(-8, 8)}, y;
        double g = (double)h[1];
        fast->geglu_forward(1, 1, h, &y);
        double difference = fabs((double)y - g * 0.5 * (1 + erf(g * sqrt(0.5))));
        if (!(difference <= 2.2e-7 * (fabs(g) + 0.1)))
            fail_msg("%s: gelu(%.9g) is off by %g", fast->isa, g, difference);
    }
}

/* A diverged model must show: what is not a number stays so. */
static void check_not_a_number(void)
{
    float scores[40] = {0}, maximum = -INFINITY, sum = 0, out[1] = {0};
    scores[21] = NAN;
    fast->softmax_step(1, 40, 1, NULL, scores, 40, &maximum, &sum, 1, out, 1, NULL);
    assert_true(isnan(sum));
    float logits[40] = {0}, loss;
    int32_t target = 3;
    logits[39] = NAN;
    fast->cross_entropy(1, 40, &target, -1, false, 1, logits, &loss);
    assert_true(isnan(loss));
}

/* ---- registration ------------------------------------------------------------------------------------------------ */

typedef struct check {
    const char *name;
    void (*run)(void);
} check;

/* A kernel without a check does not compile. */
static const check checks[] = {
#define BRT_KERNEL(name, arguments) {#name, check_##name},
#include "kernels/kernels.def"
#undef BRT_KERNEL
    {"exponential", check_exponential},
    {"sigmoid", check_sigmoid},
    {"error function", check_error_function},
    {"mask", check_mask},
    {"not a number", check_not_a_number},
};

enum { check_count = sizeof checks / sizeof checks[0], most_tables = 5 };

typedef struct trial {
    const brt_kernels *table;
    const check *check;
    char name[64];
} trial;

static void run_trial(void **state)
{
    const trial *t = *state;
    fast = t->table;
    plain = brt_kernels_at(0);
    pool.drawn = 0; /* the same values whatever was checked before */
    t->check->run();
}

static int clean_up(void **state)
{
    (void)state;
    free_buffers();
    return 0;
}

int main(void)
{
    static trial trials[most_tables * check_count];
    static struct CMUnitTest tests[most_tables * check_count];
    size_t count = 0;
    for (size_t set = 1; set <= most_tables && brt_kernels_at(set); set++)
        for (size_t c = 0; c < check_count; c++, count++) {
            trial *t = &trials[count];
            t->table = brt_kernels_at(set);
            t->check = &checks[c];
            snprintf(t->name, sizeof t->name, "%s %s", t->table->isa, t->check->name);
            tests[count] = (struct CMUnitTest){t->name, run_trial, NULL, clean_up, t};
        }
    return _cmocka_run_group_tests("kernels", tests, count, NULL, NULL);
}
