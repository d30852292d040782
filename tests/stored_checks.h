/* Checks of the kernels for numbers in fewer bits and for choosing by scores; a part of test_kernels.c, whose helpers
 * it uses. */
#ifndef BRT_TESTS_STORED_CHECKS_H
#define BRT_TESTS_STORED_CHECKS_H

/* Bit patterns of every kind, of which `bytes` are used. */
static void *make_patterns(size_t bytes)
{
    unsigned char *patterns = (unsigned char *)make((bytes + 3) / 4) + (4 - bytes % 4) % 4;
    for (size_t i = 0; i < bytes; i++)
        patterns[i] = (unsigned char)draw(0, 256);
    return patterns;
}

static void check_widen_bf16(void)
{
    for EACH (n, lengths) {
        uint16_t *x = make_patterns(n * sizeof *x);
        float *got = make(n), *want = make(n);
        fast->widen_bf16(n, x, got);
        plain->widen_bf16(n, x, want);
        expect_same("widen_bf16", n, got, want);
        free_buffers();
    }
}

static void check_widen_int8(void)
{
    for EACH (n, lengths) {
        int8_t *x = make_patterns(n);
        float *got = make(n), *want = make(n);
        fast->widen_int8(n, x, got);
        plain->widen_int8(n, x, want);
        expect_same("widen_int8", n, got, want);
        free_buffers();
    }
}

static void check_to_int8(void)
{
    enum { rows = 5 };
    for EACH (dim, lengths) {
        size_t stride = dim + 2;
        float *x = make_random(rows * stride, -3, 3), *scale = make(rows), *want_scale = make(rows);
        int8_t *y = make_patterns(rows * dim), *want = make_patterns(rows * dim);
        memset(x + stride, 0, dim * sizeof *x);
        for (size_t i = 0; i < dim; i++)
            x[2 * stride + i] *= 1e-31f;
        fast->to_int8(rows, dim, x, stride, y, scale);
        plain->to_int8(rows, dim, x, stride, want, want_scale);
        expect_same("scale of to_int8", rows, scale, want_scale);
        for (size_t i = 0; i < rows * dim; i++) /* a product and a sum may be rounded together */
            if (abs(y[i] - want[i]) > 1)
                fail_msg("%s: to_int8 gives %d, plain %d", fast->isa, y[i], want[i]);
        for (size_t i = 0; i < rows * dim; i++)
            assert_true(fabsf((float)y[i] * scale[i / dim] - x[i / dim * stride + i % dim]) <=
                        0.501f * scale[i / dim] + 1e-30f);
        free_buffers();
    }
}

static void check_scale_columns(void)
{
    for EACH (n, lengths)
        for (int accumulate = 0; accumulate < 2; accumulate++) {
            enum { rows = 3 };
            size_t x_stride = n + 1, y_stride = n + 2;
            float *factor = make_random(n, -1, 1), *x = make_random(rows * x_stride, -1, 1);
            float *y = make_random(rows * y_stride, -1, 1), *want = copy(rows * y_stride, y);
            fast->scale_columns(rows, n, factor, x, x_stride, y, y_stride, accumulate);
            plain->scale_columns(rows, n, factor, x, x_stride, want, y_stride, accumulate);
            expect_close("scale_columns", rows * y_stride, y, want, 1e-7);
            free_buffers();
        }
}

static void check_exp_sum(void)
{
    for EACH (n, lengths) {
        float *x = make_random(n, -9, 3), *want = copy(n, x), sum, want_sum;
        if (n > 3)
            x[3] = want[3] = -INFINITY;
        fast->exp_sum(n, 0.7f, 1.5f, x, &sum);
        plain->exp_sum(n, 0.7f, 1.5f, want, &want_sum);
        expect_close("exp_sum", n, x, want, 3e-7);
        expect_close("sum of exp_sum", 1, &sum, &want_sum, 2e-6);
        free_buffers();
    }
}

/* Of three rows one lies below its border, one above it and not at all, one has part of it below. */
static void check_exp_below(void)
{
    for EACH (n, lengths) {
        enum { rows = 3 };
        const float least[rows] = {1, -INFINITY, -0.25f};
        size_t x_stride = n + 1, y_stride = n + 2;
        float *x = make_random(rows * x_stride, -9, 1), *y = make_random(rows * y_stride, -1, 1);
        float *want = copy(rows * y_stride, y), sum[rows] = {0.5f, 1, 2}, want_sum[rows] = {0.5f, 1, 2};
        if (n > 3)
            x[3] = -INFINITY, x[2 * x_stride + 2] = NAN, x[2 * x_stride + 3] = -0.25f;
        fast->exp_below(rows, n, 0.7f, least, x, x_stride, y, y_stride, sum);
        plain->exp_below(rows, n, 0.7f, least, x, x_stride, want, y_stride, want_sum);
        expect_close("exp_below", rows * y_stride, y, want, 3e-7);
        expect_close("sums of exp_below", rows, sum, want_sum, 2e-6);
        free_buffers();
    }
}

static void check_collect_least(void)
{
    for EACH (n, lengths)
        for (int step = -4; step <= 4; step++) {
            float *x = make_random(n, -1, 1);
            uint32_t *got = (uint32_t *)make(n), *want = (uint32_t *)make(n);
            size_t count, want_count;
            for (size_t i = 5; i < n; i += 7)
                x[i] = i % 2 ? 0.25f : NAN; /* a tie with the border, and what is not a number */
            fast->collect_least(n, (float)step / 4, x, got, &count);
            plain->collect_least(n, (float)step / 4, x, want, &want_count);
            assert_int_equal(count, want_count);
            expect_same("collect_least", count, (const float *)got, (const float *)want);
            free_buffers();
        }
}

#endif
