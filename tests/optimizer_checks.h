/* Checks of what optimisers do to weights; a part of test_kernels.c, whose helpers it uses. */
#ifndef BRT_TESTS_OPTIMIZER_CHECKS_H
#define BRT_TESTS_OPTIMIZER_CHECKS_H

static void check_adam(void)
{
    static const brt_adam_step step = {0.7f, 1e-3f, 0.9f, 0.99f, 1e-8f, 0.1f, 0.1f, 0.01f};
    for EACH (n, lengths) {
        float *x[2][4] = {{make_random(n, -1, 1), make_random(n, -1, 1), make_random(n, -1, 1), make_random(n, 0, 1)}};
        for (int i = 0; i < 4; i++)
            x[1][i] = copy(n, x[0][i]);
        fast->adam(n, x[0][0], x[0][1], x[0][2], x[0][3], &step);
        plain->adam(n, x[1][0], x[1][1], x[1][2], x[1][3], &step);
        for (int i = 0; i < 4; i++)
            expect_close("adam", n, x[0][i], x[1][i], 3e-7);
        free_buffers();
    }
}

static void check_add_squares(void)
{
    for EACH (n, lengths) {
        float *x = make_random(n, -2, 2), *y = make_random(n, 0, 1), *want = copy(n, y);
        fast->add_squares(n, x, y);
        plain->add_squares(n, x, want);
        expect_close("add_squares", n, y, want, 1.5e-7);
        free_buffers();
    }
}

static void check_multiply(void)
{
    for EACH (n, lengths) {
        float *x = make_random(n, -2, 2), *y = make_random(n, -1, 1), *want = copy(n, y);
        fast->multiply(n, 0.3f, x, y);
        plain->multiply(n, 0.3f, x, want);
        expect_close("multiply", n, y, want, 1.5e-7);
        free_buffers();
    }
}

/* A gradient of 0 is divided by the least second moment. */
static void check_adafactor_scale(void)
{
    static const float decays[] = {0, 0.7f};
    for EACH (n, lengths)
        for EACH (decay, decays) {
            float *gradient = make_random(n, -1, 1), *second = make_random(n, 0, 1);
            for (size_t i = 0; i < n; i += 5)
                gradient[i] = 0;
            float *want_gradient = copy(n, gradient), *want_second = copy(n, second);
            fast->adafactor_scale(n, decay, gradient, second);
            plain->adafactor_scale(n, decay, want_gradient, want_second);
            expect_close("adafactor_scale second", n, second, want_second, 1.5e-7);
            expect_close("adafactor_scale gradient", n, gradient, want_gradient, 4e-7);
            free_buffers();
        }
}

static void check_momentum_step(void)
{
    for EACH (n, lengths) {
        float *x[2][3] = {{make_random(n, -1, 1), make_random(n, -1, 1), make_random(n, -1, 1)}};
        for (int i = 0; i < 3; i++)
            x[1][i] = copy(n, x[0][i]);
        fast->momentum_step(n, 0.9f, 0.3f, x[0][0], x[0][1], x[0][2]);
        plain->momentum_step(n, 0.9f, 0.3f, x[1][0], x[1][1], x[1][2]);
        for (int i = 0; i < 3; i++)
            expect_close("momentum_step", n, x[0][i], x[1][i], 2e-7);
        free_buffers();
    }
}

#endif
