/* Checks of activations and gates; a part of test_kernels.c, whose helpers it uses. */
#ifndef BRT_TESTS_GATE_CHECKS_H
#define BRT_TESTS_GATE_CHECKS_H

/* ---- activations ---------------------------------------------------------------------------------------- */

typedef void unary_kernel(size_t n, const float *x, float *y);
typedef void unary_backward_kernel(size_t n, const float *y, const float *dy, float *dx);

static void check_unary(const char *name, unary_kernel *got, unary_kernel *want, double bound)
{
    static const float special[] = {0, -0.0f, INFINITY, -INFINITY, NAN, 1e-30f, -1e-30f, 100, -100, 1e-4f};
    for EACH (n, lengths) {
        float *x = make_random(n, -6, 6), *y = make(n), *expected = make(n);
        for (size_t i = 0; i < sizeof special / sizeof special[0] && i < n; i++)
            x[i] = special[i];
        got(n, x, y);
        want(n, x, expected);
        for (size_t i = 0; i < n; i++)
            if (isnan(expected[i]) || isinf(expected[i])) {
                assert_true(isnan(y[i]) == isnan(expected[i]) && isinf(y[i]) == isinf(expected[i]));
                y[i] = expected[i] = 0;
            }
        expect_close(name, n, y, expected, bound);
        free_buffers();
    }
}

static void check_unary_backward(const char *name, unary_backward_kernel *got, unary_backward_kernel *want)
{
    for EACH (n, lengths) {
        float *y = make_random(n, -1, 1), *dy = make_random(n, -1, 1), *dx = make(n), *expected = make(n);
        for (size_t i = 0; i < n; i += 3)
            y[i] = 0;
        got(n, y, dy, dx);
        want(n, y, dy, expected);
        expect_close(name, n, dx, expected, 1e-7);
        got(n, y, dy, dy);
        expect_same(name, n, dy, dx);
        free_buffers();
    }
}

static void check_relu_forward(void)
{
    check_unary("relu_forward", fast->relu_forward, plain->relu_forward, 0);
}

static void check_relu_backward(void)
{
    check_unary_backward("relu_backward", fast->relu_backward, plain->relu_backward);
}

static void check_tanh_forward(void)
{
    check_unary("tanh_forward", fast->tanh_forward, plain->tanh_forward, 1.5e-7);
}

static void check_tanh_backward(void)
{
    check_unary_backward("tanh_backward", fast->tanh_backward, plain->tanh_backward);
}

static void check_silu_forward(void)
{
    for EACH (n, lengths) {
        float *x = make_random(n, -9, 9), *y = make(n), *expected = make(n);
        fast->silu_forward(n, x, y);
        plain->silu_forward(n, x, expected);
        expect_close("silu_forward", n, y, expected, 3e-7);
        free_buffers();
    }
}

static void check_silu_backward(void)
{
    check_unary_backward("silu_backward", fast->silu_backward, plain->silu_backward);
}

/* ---- gates ---------------------------------------------------------------------------------------------- */

static void check_ema_forward(void)
{
    enum { rows = 4 };
    for EACH (dim, lengths) {
        float *beta = make_random(dim, -95, 95), *z = make_random(rows * dim, -1, 1);
        float *state = make_random(rows * dim, -1, 1), *next = make(rows * dim), *want = make(rows * dim);
        fast->ema_forward(rows, dim, beta, z, state, next);
        plain->ema_forward(rows, dim, beta, z, state, want);
        expect_close("ema_forward", rows * dim, next, want, 3e-7);
        free_buffers();
    }
}

static void check_ema_backward(void)
{
    enum { rows = 4 };
    for EACH (dim, lengths) {
        float *beta = make_random(dim, -5, 5), *z = make_random(rows * dim, -1, 1);
        float *state = make_random(rows * dim, -1, 1), *dnext = make_random(rows * dim, -1, 1);
        float *dz[2], *dstate[2], *dbeta[2] = {make_random(dim, -1, 1)};
        const brt_kernels *set[2] = {fast, plain};
        dbeta[1] = copy(dim, dbeta[0]);
        for (int s = 0; s < 2; s++) {
            dz[s] = make(rows * dim), dstate[s] = make(rows * dim);
            set[s]->ema_backward(rows, dim, beta, z, state, dnext, dz[s], dstate[s], dbeta[s]);
        }
        expect_close("ema_backward dz", rows * dim, dz[0], dz[1], 3e-7);
        expect_close("ema_backward dstate", rows * dim, dstate[0], dstate[1], 3e-7);
        expect_close("ema_backward dbeta", dim, dbeta[0], dbeta[1], 1e-6);
        free_buffers();
    }
}

static void check_gate_full_forward(void)
{
    for EACH (n, lengths) {
        float *u = make_random(n, -95, 95), *z = make_random(n, -1, 1), *state = make_random(n, -1, 1);
        float *next = make(n), *want = make(n);
        fast->gate_full_forward(n, u, z, state, next);
        plain->gate_full_forward(n, u, z, state, want);
        expect_close("gate_full_forward", n, next, want, 3e-7);
        free_buffers();
    }
}

static void check_gate_full_backward(void)
{
    for EACH (n, lengths) {
        float *u = make_random(n, -5, 5), *z = make_random(n, -1, 1), *state = make_random(n, -1, 1);
        float *dnext = make_random(n, -1, 1);
        float *got[3] = {make(n), make(n), make(n)}, *want[3] = {make(n), make(n), make(n)};
        fast->gate_full_backward(n, u, z, state, dnext, got[0], got[1], got[2]);
        plain->gate_full_backward(n, u, z, state, dnext, want[0], want[1], want[2]);
        for (int i = 0; i < 3; i++)
            expect_close("gate_full_backward", n, got[i], want[i], 5e-7);
        free_buffers();
    }
}

static void check_gate_lstm_forward(void)
{
    for EACH (n, lengths) {
        float *forget = make_random(n, -95, 95), *input = make_random(n, -95, 95), *z = make_random(n, -1, 1);
        float *state = make_random(n, -1, 1), *next = make(n), *want = make(n);
        fast->gate_lstm_forward(n, forget, input, z, state, next);
        plain->gate_lstm_forward(n, forget, input, z, state, want);
        expect_close("gate_lstm_forward", n, next, want, 3e-7);
        free_buffers();
    }
}

static void check_gate_lstm_backward(void)
{
    for EACH (n, lengths) {
        float *forget = make_random(n, -5, 5), *input = make_random(n, -5, 5), *z = make_random(n, -1, 1);
        float *state = make_random(n, -1, 1), *dnext = make_random(n, -1, 1), *x[2][4];
        const brt_kernels *set[2] = {fast, plain};
        for (int s = 0; s < 2; s++) {
            for (int i = 0; i < 4; i++)
                x[s][i] = make(n);
            set[s]->gate_lstm_backward(n, forget, input, z, state, dnext, x[s][0], x[s][1], x[s][2], x[s][3]);
        }
        for (int i = 0; i < 4; i++)
            expect_close("gate_lstm_backward", n, x[0][i], x[1][i], 5e-7);
        free_buffers();
    }
}

#endif
