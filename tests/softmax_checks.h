/* Checks of the kernels of softmax in attention; a part of test_kernels.c, whose helpers it uses. */
#ifndef BRT_TESTS_SOFTMAX_CHECKS_H
#define BRT_TESTS_SOFTMAX_CHECKS_H

/* Some rows see nothing, some a part, some all. */
static void draw_visible(size_t rows, size_t keys, size_t *visible)
{
    for (size_t r = 0; r < rows; r++)
        visible[r] = r % 5 == 0 ? 0 : r % 5 == 1 ? keys : brt_rng_below(3, 4, pool.drawn++, keys + 1);
}

enum { softmax_rows = 7, softmax_dim = 19 };

typedef struct softmax_state {
    float *scores, *maximum, *sum, *out;
} softmax_state;

static softmax_state start_softmax(size_t stride)
{
    softmax_state s = {make(softmax_rows * stride), make(softmax_rows), make(softmax_rows),
                       make(softmax_rows * softmax_dim)};
    for (size_t r = 0; r < softmax_rows; r++) {
        s.maximum[r] = -INFINITY;
        s.sum[r] = 0;
    }
    for (size_t i = 0; i < softmax_rows * softmax_dim; i++)
        s.out[i] = 1;
    return s;
}

/* Of exponentials that are to be rounded to bf16. */
static const double rough = 1.1e-4;

/* A number in bf16 is what plain C has in f32, but for that error and rounding; 0 is 0. */
static void expect_bf16(const char *what, uint16_t got, float want)
{
    double value = (double)float_of((uint32_t)got << 16), exact = (double)want;
    if (!(fabs(value - exact) <= (0x1p-8 + rough) * fabs(exact)))
        fail_msg("%s: %s is %g, plain %g", fast->isa, what, value, exact);
}

static void expect_rounded(size_t keys, size_t stride, const uint16_t *got, const float *want)
{
    for (size_t r = 0; r < softmax_rows; r++)
        for (size_t j = 0; j < keys + keys % 2; j++)
            expect_bf16("rounded softmax_step", got[r * stride + j], j < keys ? want[r * stride + j] : 0);
}

static void check_softmax_step_case(size_t keys, bool masked, bool round)
{
    size_t stride = keys + 2, visible[softmax_rows];
    softmax_state s[2] = {start_softmax(stride), start_softmax(stride)};
    const brt_kernels *set[2] = {fast, plain};
    float *scores = make(softmax_rows * stride);
    uint16_t *rounded = (uint16_t *)make(softmax_rows * stride);
    for (int step = 0; step < 3; step++) {
        for (size_t i = 0; i < softmax_rows * stride; i++)
            scores[i] = i % 11 == 3 ? -1e6f : draw(-30, 30);
        draw_visible(softmax_rows, keys, visible);
        for (int i = 0; i < 2; i++) {
            memcpy(s[i].scores, scores, softmax_rows * stride * sizeof *scores);
            set[i]->softmax_step(softmax_rows, keys, 0.25f, masked ? visible : NULL, s[i].scores, stride, s[i].maximum,
                                 s[i].sum, softmax_dim, s[i].out, softmax_dim, round && i == 0 ? rounded : NULL);
        }
        if (round)
            expect_rounded(keys, stride, rounded, s[1].scores);
        else
            expect_close("softmax_step scores", softmax_rows * stride, s[0].scores, s[1].scores, 1e-6);
        for (size_t r = 0; r < softmax_rows; r++)
            assert_true(s[0].maximum[r] == s[1].maximum[r]);
        expect_close("softmax_step sum", softmax_rows, s[0].sum, s[1].sum, round ? rough : 5e-6);
        expect_close("softmax_step out", softmax_rows * softmax_dim, s[0].out, s[1].out, 2e-6);
    }
    free_buffers();
}

static void check_softmax_step(void)
{
    for EACH (keys, lengths)
        for (int flags = 0; flags < 4; flags++)
            check_softmax_step_case(keys, flags & 1, flags & 2);
}

static void check_drop(void)
{
    enum { rows = 5 };
    brt_mask mask = {.key = {0x12345678, 0x9abcdef0}, .least = 0x40000000, .kept = 4.0f / 3};
    for EACH (count, lengths) {
        size_t stride = count + 2;
        float *x = make_random(rows * stride, 1, 2), *want = copy(rows * stride, x);
        fast->drop(rows, count, &mask, UINT32_MAX - 700, 1000, x, stride);
        plain->drop(rows, count, &mask, UINT32_MAX - 700, 1000, want, stride);
        expect_same("drop", rows * stride, x, want);
        free_buffers();
    }
}

/* The rate is kept, in masks that lie one number or one key apart, and these drop independently of each other. */
static void check_mask(void)
{
    enum { count = 1 << 16 };
    const brt_mask masks[] = {{{5, 7}, 0x40000000, 1}, {{6, 7}, 0x40000000, 1}, {{5, 8}, 0x40000000, 1}};
    float *first = make(count), *other = make(count);
    for (size_t m = 0; m < 3; m++)
        for (uint32_t shift = 0; shift < 2; shift++) {
            size_t dropped = 0, both = 0;
            for (size_t i = 0; i < count; i++)
                first[i] = other[i] = 1;
            fast->drop(1, count, &masks[0], 0, 0, first, count);
            fast->drop(1, count, &masks[m], shift, 0, other, count);
            for (size_t i = 0; i < count; i++) {
                dropped += other[i] == 0;
                both += first[i] == 0 && other[i] == 0;
            }
            assert_in_range(dropped, count / 4 - 600, count / 4 + 600); /* five deviations */
            if (m || shift)
                assert_in_range(both, count / 16 - 320, count / 16 + 320);
        }
    free_buffers();
}

static void check_softmax_tile_backward_case(size_t keys, bool masked)
{
    enum { rows = 7 };
    size_t stride = keys + 2, visible[rows];
    float *scores = make_random(rows * stride, -20, 20), *want_scores = copy(rows * stride, scores);
    float *dp = make_random(rows * stride, -1, 1), *want_dp = copy(rows * stride, dp);
    float *maximum = make_random(rows, 15, 20), *log_sum = make_random(rows, 0, 5), *delta = make_random(rows, -1, 1);
    draw_visible(rows, keys, visible);
    fast->softmax_tile_backward(rows, keys, 0.25f, masked ? visible : NULL, scores, stride, maximum, log_sum, delta, dp,
                                stride);
    plain->softmax_tile_backward(rows, keys, 0.25f, masked ? visible : NULL, want_scores, stride, maximum, log_sum,
                                 delta, want_dp, stride);
    expect_close("softmax_tile_backward p", rows * stride, scores, want_scores, 1e-6);
    expect_close("softmax_tile_backward ds", rows * stride, dp, want_dp, 1e-6);
    free_buffers();
}

static void check_softmax_tile_backward(void)
{
    for EACH (keys, lengths) {
        check_softmax_tile_backward_case(keys, true);
        check_softmax_tile_backward_case(keys, false);
    }
}

static void check_softmax_tile_backward_bf16_case(size_t rows, size_t keys, bool masked)
{
    enum { most_rows = 8 };
    size_t stride = keys + 2 + keys % 2, visible[most_rows];
    float *scores = make_random(rows * stride, -20, 20), *p = copy(rows * stride, scores);
    float *dp = make_random(rows * stride, -1, 1), *ds = copy(rows * stride, dp);
    float *maximum = make_random(rows, 15, 20), *log_sum = make_random(rows, 0, 5), *delta = make_random(rows, -1, 1);
    float *p_pairs = make(most_rows / 2 * stride), *ds_pairs = make(most_rows / 2 * stride);
    float *ds_rows = make(most_rows / 2 * stride);
    const uint16_t *halves[] = {(uint16_t *)ds_rows, (uint16_t *)p_pairs, (uint16_t *)ds_pairs};
    draw_visible(rows, keys, visible);
    plain->softmax_tile_backward(rows, keys, 0.25f, masked ? visible : NULL, p, stride, maximum, log_sum, delta, ds,
                                 stride);
    fast->softmax_tile_backward_bf16(rows, keys, 0.25f, masked ? visible : NULL, scores, maximum, log_sum, delta, dp,
                                     stride, (uint32_t *)p_pairs, (uint32_t *)ds_pairs, (uint16_t *)ds_rows);
    for (size_t r = 0; r < rows; r++)
        for (size_t j = 0; j < keys + keys % 2; j++) {
            size_t at = r * stride + j, in_pair = 2 * (r / 2 * stride + j) + r % 2;
            expect_bf16("ds of softmax_tile_backward_bf16", halves[0][at], j < keys ? ds[at] : 0);
            expect_bf16("its p in pairs", halves[1][in_pair], j < keys ? p[at] : 0);
            assert_int_equal(halves[2][in_pair], halves[0][at]);
        }
    free_buffers();
}

static void check_softmax_tile_backward_bf16(void)
{
    for EACH (keys, lengths)
        for (size_t rows = 7; rows <= 8; rows++) {
            check_softmax_tile_backward_bf16_case(rows, keys, true);
            check_softmax_tile_backward_bf16_case(rows, keys, false);
        }
}

/* The exponential of softmax through softmax_tile_backward: p = exp(score - maximum - log_sum). */
static float exponential(float x)
{
    float score = x, maximum = 0, log_sum = 0, delta = 0, dp = 0;
    fast->softmax_tile_backward(1, 1, 1, NULL, &score, 1, &maximum, &log_sum, &delta, &dp, 1);
    return score;
}

/* x / ln 2 is rounded: the more, the larger it is. */
static void check_exponential(void)
{
    assert_true(exponential(0) == 1);
    assert_true(exponential(-INFINITY) == 0 && exponential(-1e30f) == 0 && exponential(-104) == 0);
    assert_true(isnan(exponential(NAN)));
    for (int i = 0; i < 400000; i++) {
        float x = draw(-86.9f, 88.7f);
        double want = exp((double)x), difference = fabs((double)exponential(x) - want);
        if (!(difference <= (2.4e-7 + 1.2e-7 * fabs((double)x)) * want))
            fail_msg("%s: exp(%.9g) is off by %g", fast->isa, (double)x, difference / want);
    }
}

#endif
