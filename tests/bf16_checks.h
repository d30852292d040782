/* Checks of the kernels that make or multiply bf16 numbers; a part of test_kernels.c, whose helpers it uses. */
#ifndef BRT_TESTS_BF16_CHECKS_H
#define BRT_TESTS_BF16_CHECKS_H

/* Every kind of number: ties between two bf16 numbers, overflow to infinity, what is below the smallest, no number. */
static float float_of(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static void check_to_bf16(void)
{
    static const uint32_t special[] = {0x3f808000, 0x3f818000, 0x3f808001, 0x3f807fff, 0xbf808000, 0x7f7fffff,
                                       0x7f800000, 0xff800000, 0x7f800001, 0xffc00000, 0x7fffffff, 0x00000001,
                                       0x80000000, 0x00008000};
    for EACH (n, lengths) {
        float *x = make_random(n, -1e3f, 1e3f);
        uint16_t *got = (uint16_t *)make(n), *want = (uint16_t *)make(n);
        for (size_t i = 0; i < n; i++)
            if (i % 3 == 1)
                x[i] = float_of(special[i / 3 % (sizeof special / sizeof special[0])]);
        fast->to_bf16(n, x, got);
        plain->to_bf16(n, x, want);
        for (size_t i = 0; i < n; i++)
            if (got[i] != want[i])
                fail_msg("%s: to_bf16(%a) is %04x, plain %04x", fast->isa, (double)x[i], got[i], want[i]);
        free_buffers();
    }
}

/* Even and odd numbers of rows, of all lengths. */
static void check_pairing(void (*check_case)(size_t rows, size_t columns))
{
    static const size_t rows[] = {0, 1, 2, 3, 8, 11};
    for EACH (r, rows)
        for EACH (n, lengths)
            check_case(r, n);
}

static void check_pair_rows_case(size_t rows, size_t columns)
{
    size_t x_stride = columns + 3, y_stride = columns + 1, pairs = (rows + 1) / 2;
    float *x = make_random(rows * x_stride, -9, 9);
    uint32_t *got = (uint32_t *)make(pairs * y_stride), *want = (uint32_t *)make(pairs * y_stride);
    for (size_t i = 0; i < pairs * y_stride; i++)
        got[i] = want[i] = 7;
    fast->pair_rows(rows, columns, x, x_stride, got, y_stride);
    plain->pair_rows(rows, columns, x, x_stride, want, y_stride);
    expect_same("pair_rows", pairs * y_stride, (const float *)got, (const float *)want);
    fast->pair_rows(rows, columns, x, x_stride, (uint32_t *)x, x_stride);
    for (size_t r = 0; r < pairs; r++)
        expect_same("pair_rows in place", columns, x + r * x_stride, (const float *)(want + r * y_stride));
    free_buffers();
}

static void check_pair_rows(void)
{
    check_pairing(check_pair_rows_case);
}

static void check_pair_rounded_rows_case(size_t rows, size_t columns)
{
    size_t x_stride = columns + 3, y_stride = columns + 1, pairs = (rows + 1) / 2;
    float *x = make_random(rows * x_stride, -9, 9);
    uint16_t *rounded = (uint16_t *)make(rows * x_stride);
    uint32_t *got = (uint32_t *)make(pairs * y_stride), *want = (uint32_t *)make(pairs * y_stride);
    plain->to_bf16(rows * x_stride, x, rounded);
    for (size_t i = 0; i < pairs * y_stride; i++)
        got[i] = want[i] = 7;
    fast->pair_rounded_rows(rows, columns, rounded, x_stride, got, y_stride);
    plain->pair_rows(rows, columns, x, x_stride, want, y_stride);
    expect_same("pair_rounded_rows", pairs * y_stride, (const float *)got, (const float *)want);
    plain->pair_rounded_rows(rows, columns, rounded, x_stride, got, y_stride);
    expect_same("pair_rounded_rows in plain C", pairs * y_stride, (const float *)got, (const float *)want);
    free_buffers();
}

static void check_pair_rounded_rows(void)
{
    check_pairing(check_pair_rounded_rows_case);
}

/* Pairs of bf16 numbers, as another kernel makes them. */
static uint32_t *make_pairs(size_t count)
{
    float *numbers = make_random(2 * count, -1, 1);
    uint32_t *pairs = (uint32_t *)make(count);
    plain->to_bf16(2 * count, numbers, (uint16_t *)pairs);
    return pairs;
}

static void check_matmul_bf16_case(size_t m, size_t n, size_t k, bool transposed, bool accumulate)
{
    size_t b_row = n + k % 3, c_row = n + m % 2, a_row = transposed ? 1 : k + 1, a_column = transposed ? m + 1 : 1;
    uint32_t *a = make_pairs((m + 1) * (k + 1)), *b = make_pairs(k * b_row);
    float *c = make_random(m * c_row, -1, 1), *want = copy(m * c_row, c);
    fast->matmul_bf16(m, n, k, a, a_row, a_column, b, b_row, c, c_row, accumulate);
    plain->matmul_bf16(m, n, k, a, a_row, a_column, b, b_row, want, c_row, accumulate);
    expect_close("matmul_bf16", m * c_row, c, want, 6e-7 * sqrt((double)(2 * k + 1)));
    free_buffers();
}

static void check_matmul_bf16(void)
{
    static const size_t rows[] = {0, 1, 5, 6, 7, 13, 27}, columns[] = {0, 1, 4, 15, 16, 17, 33, 48, 64, 75};
    static const size_t depths[] = {0, 1, 2, 17, 64, 257};
    for EACH (m, rows)
        for EACH (n, columns)
            for EACH (k, depths)
                for (int flags = 0; flags < 4; flags++)
                    check_matmul_bf16_case(m, n, k, flags & 1, flags & 2);
}

#endif
