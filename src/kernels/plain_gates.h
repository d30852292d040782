/* Activations and gates in plain C; a part of plain.c. */
#ifndef BRT_KERNELS_PLAIN_GATES_H
#define BRT_KERNELS_PLAIN_GATES_H

#include "kernels.h"

#include <tgmath.h>

/* ---- activations ---------------------------------------------------------------------------------------- */

static void relu_forward(size_t n, const real *x, real *y)
{
    for (size_t i = 0; i < n; i++)
        y[i] = x[i] < 0 ? 0 : x[i];
}

static void relu_backward(size_t n, const real *y, const real *dy, real *dx)
{
    for (size_t i = 0; i < n; i++)
        dx[i] = y[i] > 0 ? dy[i] : 0;
}

static void tanh_forward(size_t n, const real *x, real *y)
{
    for (size_t i = 0; i < n; i++)
        y[i] = tanh(x[i]);
}

static void tanh_backward(size_t n, const real *y, const real *dy, real *dx)
{
    for (size_t i = 0; i < n; i++)
        dx[i] = dy[i] * (1 - y[i] * y[i]);
}

static real sigmoid(real x)
{
    return 1 / (1 + exp(-x));
}

static void silu_forward(size_t n, const real *x, real *y)
{
    for (size_t i = 0; i < n; i++)
        y[i] = x[i] * sigmoid(x[i]);
}

static void silu_backward(size_t n, const real *x, const real *dy, real *dx)
{
    for (size_t i = 0; i < n; i++)
        dx[i] = dy[i] * sigmoid(x[i]) * (1 + x[i] * (1 - sigmoid(x[i])));
}

/* ---- gates ---------------------------------------------------------------------------------------------- */

static void ema_forward(size_t rows, size_t dim, const real *beta, const real *z, const real *state, real *next)
{
    for (size_t r = 0; r < rows; r++)
        for (size_t i = 0; i < dim; i++) {
            size_t at = r * dim + i;
            next[at] = sigmoid(beta[i]) * z[at] + (1 - sigmoid(beta[i])) * state[at];
        }
}

static void ema_backward(size_t rows, size_t dim, const real *beta, const real *z, const real *state,
                         const real *dnext, real *dz, real *dstate, real *dbeta)
{
    for (size_t r = 0; r < rows; r++)
        for (size_t i = 0; i < dim; i++) {
            size_t at = r * dim + i;
            real gate = sigmoid(beta[i]);
            dz[at] = gate * dnext[at];
            dstate[at] = (1 - gate) * dnext[at];
            dbeta[i] += gate * (1 - gate) * (z[at] - state[at]) * dnext[at];
        }
}

static void gate_full_forward(size_t n, const real *u, const real *z, const real *state, real *next)
{
    for (size_t i = 0; i < n; i++) {
        real gate = sigmoid(u[i] + 1);
        next[i] = gate * state[i] + (1 - gate) * z[i];
    }
}

static void gate_full_backward(size_t n, const real *u, const real *z, const real *state, const real *dnext, real *du,
                               real *dz, real *dstate)
{
    for (size_t i = 0; i < n; i++) {
        real gate = sigmoid(u[i] + 1);
        du[i] = gate * (1 - gate) * (state[i] - z[i]) * dnext[i];
        dz[i] = (1 - gate) * dnext[i];
        dstate[i] = gate * dnext[i];
    }
}

static void gate_lstm_forward(size_t n, const real *forget, const real *input, const real *z, const real *state,
                              real *next)
{
    for (size_t i = 0; i < n; i++)
        next[i] = sigmoid(forget[i] + 1) * state[i] + sigmoid(input[i] - 1) * z[i];
}

static void gate_lstm_backward(size_t n, const real *forget, const real *input, const real *z, const real *state,
                               const real *dnext, real *dforget, real *dinput, real *dz, real *dstate)
{
    for (size_t i = 0; i < n; i++) {
        real keep = sigmoid(forget[i] + 1), take = sigmoid(input[i] - 1);
        dforget[i] = keep * (1 - keep) * state[i] * dnext[i];
        dinput[i] = take * (1 - take) * z[i] * dnext[i];
        dz[i] = take * dnext[i];
        dstate[i] = keep * dnext[i];
    }
}

#endif
