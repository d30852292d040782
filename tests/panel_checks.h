/* Checks of the kernels for weights in fewer bits; a part of test_kernels.c, whose helpers
 * (make_patterns of stored_checks.h among them) it uses. */
#ifndef BRT_TESTS_PANEL_CHECKS_H
#define BRT_TESTS_PANEL_CHECKS_H

/* Numbers in bf16, between -1 and 1. */
static uint16_t *make_bf16(size_t count)
{
    float *numbers = make_random(count, -1, 1);
    uint16_t *rounded = make_patterns(count * sizeof *rounded);
    plain->to_bf16(count, numbers, rounded);
    return rounded;
}

/* One product with a panel in both ways: by the kernel for few rows, and widened first. */
static void expect_panel(const char *what, size_t m, size_t k, const float *x, const float *widened, const float *got,
                         const float *want)
{
    float *wide = make(m * BRT_PANEL);
    expect_close(what, m * BRT_PANEL, got, want, 4e-7 * sqrt((double)k + 1));
    fast->matmul(m, BRT_PANEL, k, x, k + 1, 1, widened, BRT_PANEL, wide, BRT_PANEL, false);
    expect_same(what, m * BRT_PANEL, got, wide);
}

static const size_t panel_rows_tried[] = {0, 1, 2, 3, 4, 5, 6, 7, 11, 12, 17};
static const size_t panel_depths_tried[] = {0, 1, 2, 3, 17, 64, 255, 257};

static void check_panel_bf16(void)
{
    for EACH (m, panel_rows_tried)
        for EACH (k, panel_depths_tried) {
            float *x = make_random(m * (k + 1), -1, 1), *got = make(m * BRT_PANEL), *want = make(m * BRT_PANEL);
            float *widened = make(k * BRT_PANEL);
            uint16_t *w = make_bf16(k * BRT_PANEL);
            fast->panel_bf16(m, k, x, k + 1, w, got);
            plain->panel_bf16(m, k, x, k + 1, w, want);
            fast->widen_bf16(k * BRT_PANEL, w, widened);
            expect_panel("panel_bf16", m, k, x, widened, got, want);
            free_buffers();
        }
}

static void check_panel_int8(void)
{
    for EACH (m, panel_rows_tried)
        for EACH (k, panel_depths_tried) {
            float *x = make_random(m * (k + 1), -1, 1), *got = make(m * BRT_PANEL), *want = make(m * BRT_PANEL);
            float *widened = make(k * BRT_PANEL);
            int8_t *w = make_patterns(k * BRT_PANEL);
            fast->panel_int8(m, k, x, k + 1, w, got);
            plain->panel_int8(m, k, x, k + 1, w, want);
            for (size_t i = 0; i < m * BRT_PANEL; i++) /* weights of up to 128 */
                got[i] /= 128, want[i] /= 128;
            fast->widen_int8(k * BRT_PANEL, w, widened);
            fast->scale(k * BRT_PANEL, 1.0f / 128, widened, widened);
            expect_panel("panel_int8", m, k, x, widened, got, want);
            free_buffers();
        }
}

#endif
