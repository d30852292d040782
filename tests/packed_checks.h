/* Checks of the kernels for matrices in panels; a part of test_kernels.c, whose helpers it uses. */
#ifndef BRT_TESTS_PACKED_CHECKS_H
#define BRT_TESTS_PACKED_CHECKS_H

#include "kernels/packed.h"

static size_t panel_columns(void)
{
    return (size_t)fast->panel_columns;
}

static size_t panels_size(size_t k, size_t n)
{
    return k * brt_round_to_vectors((size_t)fast->lanes, n);
}

/* Where element (p, j) of [k, n] is. */
static size_t panel_index(size_t k, size_t n, size_t p, size_t j)
{
    size_t first = j / panel_columns() * panel_columns();
    return first * k + p * brt_panel_width(panel_columns(), (size_t)fast->lanes, n - first) + (j - first);
}

static const size_t panel_rows[] = {0, 1, 2, 3, 4, 6, 7, 11, 13, 23, 64}, panel_depths[] = {0, 1, 2, 3, 17, 64, 131};
static const size_t panel_widths[] = {0, 1, 4, 7, 8, 15, 16, 17, 32, 33, 48, 49, 64, 75, 128, 150};

/* A matrix b [k, n] lies as it is, or transposed. */
typedef struct layout {
    size_t row, column;
} layout;

static layout layout_of(size_t k, size_t n, bool transposed)
{
    return transposed ? (layout){1, k + 2} : (layout){n + 3, 1};
}

static void check_pack_case(size_t k, size_t n, bool transposed)
{
    layout at = layout_of(k, n, transposed);
    float *b = make_random((k + 2) * (n + 3), -1, 1), *panels = make(panels_size(k, n));
    fast->pack(k, n, b, at.row, at.column, panels);
    for (size_t p = 0; p < k; p++)
        for (size_t j = 0; j < n; j++)
            expect_same("pack", 1, panels + panel_index(k, n, p, j), b + p * at.row + j * at.column);
    free_buffers();
}

static void check_pack(void)
{
    for EACH (k, panel_depths)
        for EACH (n, panel_widths) {
            check_pack_case(k, n, false);
            check_pack_case(k, n, true);
        }
}

static void check_pack_bf16_case(size_t k, size_t n, bool transposed)
{
    layout at = layout_of(k, n, transposed);
    size_t pairs = (k + 1) / 2;
    float *b = make_random((k + 2) * (n + 3), -1, 1), pair[2];
    uint32_t *panels = (uint32_t *)make(panels_size(pairs, n)), want;
    fast->pack_bf16(k, n, b, at.row, at.column, panels);
    for (size_t p = 0; p < k; p++)
        for (size_t j = 0; j < n && p % 2 == 0; j++) {
            pair[0] = b[p * at.row + j * at.column];
            pair[1] = p + 1 < k ? b[(p + 1) * at.row + j * at.column] : 0;
            plain->to_bf16(2, pair, (uint16_t *)&want);
            assert_int_equal(panels[panel_index(pairs, n, p / 2, j)], want);
        }
    free_buffers();
}

static void check_pack_bf16(void)
{
    for EACH (k, panel_depths)
        for EACH (n, panel_widths) {
            check_pack_bf16_case(k, n, false);
            check_pack_bf16_case(k, n, true);
        }
}

/* What is added lies elsewhere or is c itself: one row alone has the same bits, and so has the sum over k in two
 * parts. */
static void check_matmul_packed_case(size_t m, size_t n, size_t k, bool transposed, bool accumulate)
{
    size_t b_row = n + 1, c_row = n + m % 2, a_row = transposed ? 1 : k + 1, a_column = transposed ? m + 1 : 1;
    size_t half = k / 2;
    float *a = make_random((m + 1) * (k + 1), -1, 1), *b = make_random(k * b_row, -1, 1);
    float *c = make_random(m * c_row, -1, 1), *want = copy(m * c_row, c), *alone = copy(m * c_row, c);
    float *parts = copy(m * c_row, c), *added = accumulate ? copy(m * c_row, c) : NULL;
    float *panels = make(panels_size(k, n)), *first = make(panels_size(half, n));
    float *second = make(panels_size(k - half, n));
    fast->pack(k, n, b, b_row, 1, panels);
    fast->pack(half, n, b, b_row, 1, first);
    fast->pack(k - half, n, b + half * b_row, b_row, 1, second);
    fast->matmul_packed(m, n, k, a, a_row, a_column, panels, added, c, c_row, NULL);
    plain->matmul(m, n, k, a, a_row, a_column, b, b_row, want, c_row, accumulate);
    expect_close("matmul_packed", m * c_row, c, want, 6e-7 * sqrt((double)k + 1));
    for (size_t i = 0; i < m; i++)
        fast->matmul_packed(1, n, k, a + i * a_row, a_row, a_column, panels, added ? alone + i * c_row : NULL,
                            alone + i * c_row, c_row, NULL);
    expect_same("a row of matmul_packed alone", m * c_row, c, alone);
    fast->matmul_packed(m, n, half, a, a_row, a_column, first, added, parts, c_row, NULL);
    fast->matmul_packed(m, n, k - half, a + half * a_column, a_row, a_column, second, parts, parts, c_row, NULL);
    expect_same("matmul_packed in two parts", m * c_row, c, parts);
    free_buffers();
}

static void check_matmul_packed(void)
{
    for EACH (m, panel_rows)
        for EACH (n, panel_widths)
            for EACH (k, panel_depths)
                for (int flags = 0; flags < 4; flags++)
                    check_matmul_packed_case(m, n, k, flags & 1, flags & 2);
}

static void check_matmul_packed_bf16_case(size_t m, size_t n, size_t k, bool transposed, bool accumulate)
{
    size_t b_row = n + 1, c_row = n + m % 2, a_row = transposed ? 1 : k + 1, a_column = transposed ? m + 1 : 1;
    uint32_t *a = make_pairs((m + 1) * (k + 1)), *pairs = (uint32_t *)make(k * b_row);
    uint32_t *panels = (uint32_t *)make(panels_size(k, n));
    float *b = make_random(2 * k * b_row, -1, 1), *c = make_random(m * c_row, -1, 1), *want = copy(m * c_row, c);
    float *alone = copy(m * c_row, c), *added = accumulate ? copy(m * c_row, c) : NULL;
    fast->pack_bf16(2 * k, n, b, b_row, 1, panels);
    plain->pair_rows(2 * k, n, b, b_row, pairs, b_row);
    fast->matmul_packed_bf16(m, n, k, a, a_row, a_column, panels, added, c, c_row, NULL);
    plain->matmul_bf16(m, n, k, a, a_row, a_column, pairs, b_row, want, c_row, accumulate);
    expect_close("matmul_packed_bf16", m * c_row, c, want, 6e-7 * sqrt((double)(2 * k + 1)));
    for (size_t i = 0; i < m; i++)
        fast->matmul_packed_bf16(1, n, k, a + i * a_row, a_row, a_column, panels, added ? alone + i * c_row : NULL,
                                 alone + i * c_row, c_row, NULL);
    expect_same("a row of matmul_packed_bf16 alone", m * c_row, c, alone);
    free_buffers();
}

static void check_matmul_packed_bf16(void)
{
    for EACH (m, panel_rows)
        for EACH (n, panel_widths)
            for EACH (k, panel_depths)
                for (int flags = 0; flags < 4; flags++)
                    check_matmul_packed_bf16_case(m, n, k, flags & 1, flags & 2);
}

/* Products that pack have the same bits as packing first, in c and in the panel. */

static void check_pack_matmul_case(size_t m, size_t n, size_t k, bool accumulate)
{
    size_t b_row = n + 1, c_row = n + 2;
    float *a = make_random(m * k, -1, 1), *b = make_random(k * b_row, -1, 1), *c = make_random(m * c_row, -1, 1);
    float *want = copy(m * c_row, c), *added = accumulate ? copy(m * c_row, c) : NULL;
    float *panel = make(panels_size(k, n)), *packed = make(panels_size(k, n));
    memset(panel, 0, panels_size(k, n) * sizeof *panel);
    memset(packed, 0, panels_size(k, n) * sizeof *packed);
    fast->pack(k, n, b, b_row, 1, packed);
    fast->matmul_packed(m, n, k, a, 1, m, packed, added, want, c_row, NULL);
    fast->pack_matmul(m, n, k, a, 1, m, b, b_row, panel, added, c, c_row, NULL);
    expect_same("pack_matmul", m * c_row, c, want);
    expect_same("pack_matmul's panel", panels_size(k, n), panel, packed);
    free_buffers();
}

static void check_pack_matmul(void)
{
    for EACH (m, panel_rows)
        for EACH (n, panel_widths)
            for EACH (k, panel_depths)
                if (m > 0 && n > 0 && n <= panel_columns()) {
                    check_pack_matmul_case(m, n, k, false);
                    check_pack_matmul_case(m, n, k, true);
                }
}

static void check_pack_matmul_bf16_case(size_t m, size_t n, size_t k, bool accumulate)
{
    size_t b_row = n + 1, c_row = n + 2;
    uint32_t *a = make_pairs(m * k), *b = make_pairs(k * b_row);
    float *c = make_random(m * c_row, -1, 1), *want = copy(m * c_row, c);
    float *added = accumulate ? copy(m * c_row, c) : NULL;
    float *panel = make(panels_size(k, n)), *packed = make(panels_size(k, n));
    memset(panel, 0, panels_size(k, n) * sizeof *panel);
    memset(packed, 0, panels_size(k, n) * sizeof *packed);
    fast->pack(k, n, (float *)b, b_row, 1, packed);
    fast->matmul_packed_bf16(m, n, k, a, 1, m, (uint32_t *)packed, added, want, c_row, NULL);
    fast->pack_matmul_bf16(m, n, k, a, 1, m, b, b_row, (uint32_t *)panel, added, c, c_row, NULL);
    expect_same("pack_matmul_bf16", m * c_row, c, want);
    expect_same("pack_matmul_bf16's panel", panels_size(k, n), panel, packed);
    free_buffers();
}

static void check_pack_matmul_bf16(void)
{
    for EACH (m, panel_rows)
        for EACH (n, panel_widths)
            for EACH (k, panel_depths)
                if (m > 0 && n > 0 && n <= panel_columns()) {
                    check_pack_matmul_bf16_case(m, n, k, false);
                    check_pack_matmul_bf16_case(m, n, k, true);
                }
}

#endif
