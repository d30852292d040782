/* Activations and gates of vectors of any length. plain_gates.h has the same formulas without vectors. */
#ifndef BRT_KERNELS_VECTOR_GATES_H
#define BRT_KERNELS_VECTOR_GATES_H

#include "vector.h"
#include "vector_math.h"

/* ---- activations ---------------------------------------------------------------------------------------- */

static void relu_forward(size_t n, const real *x, real *y)
{
    for (size_t i = 0; i < n; i += lanes)
        vec_store_upto(y + i, n - i, vec_max((vec){0}, vec_load_upto(x + i, n - i)));
}

static void relu_backward(size_t n, const real *y, const real *dy, real *dx)
{
    for (size_t i = 0; i < n; i += lanes) {
        ivec positive = vec_load_upto(y + i, n - i) > 0;
        vec_store_upto(dx + i, n - i, vec_select(positive, vec_load_upto(dy + i, n - i), (vec){0}));
    }
}

static void tanh_forward(size_t n, const real *x, real *y)
{
    for (size_t i = 0; i < n; i += lanes)
        vec_store_upto(y + i, n - i, vec_tanh(vec_load_upto(x + i, n - i)));
}

static void tanh_backward(size_t n, const real *y, const real *dy, real *dx)
{
    for (size_t i = 0; i < n; i += lanes) {
        vec v = vec_load_upto(y + i, n - i);
        vec_store_upto(dx + i, n - i, vec_load_upto(dy + i, n - i) * (1 - v * v));
    }
}

static void silu_forward(size_t n, const real *x, real *y)
{
    for (size_t i = 0; i < n; i += lanes) {
        vec v = vec_load_upto(x + i, n - i);
        vec_store_upto(y + i, n - i, v * vec_sigmoid(v));
    }
}

static void silu_backward(size_t n, const real *x, const real *dy, real *dx)
{
    for (size_t i = 0; i < n; i += lanes) {
        vec v = vec_load_upto(x + i, n - i), gate = vec_sigmoid(v);
        vec_store_upto(dx + i, n - i, vec_load_upto(dy + i, n - i) * gate * (1 + v * (1 - gate)));
    }
}

/* ---- gates ---------------------------------------------------------------------------------------------- */

/* Column by column of vectors: the gate of a column is computed once for all rows. */
static void ema_forward(size_t rows, size_t dim, const real *beta, const real *z, const real *state, real *next)
{
    for (size_t i = 0; i < dim; i += lanes) {
        size_t left = dim - i;
        vec gate = vec_sigmoid(vec_load_upto(beta + i, left));
        for (size_t at = i; at < rows * dim; at += dim) {
            vec new = vec_load_upto(z + at, left), old = vec_load_upto(state + at, left);
            vec_store_upto(next + at, left, gate * new + (1 - gate) * old);
        }
    }
}

static void ema_backward(size_t rows, size_t dim, const real *beta, const real *z, const real *state,
                         const real *dnext, real *dz, real *dstate, real *dbeta)
{
    for (size_t i = 0; i < dim; i += lanes) {
        size_t left = dim - i;
        vec gate = vec_sigmoid(vec_load_upto(beta + i, left)), sum = {0};
        for (size_t at = i; at < rows * dim; at += dim) {
            vec d = vec_load_upto(dnext + at, left);
            sum += (vec_load_upto(z + at, left) - vec_load_upto(state + at, left)) * d;
            vec_store_upto(dz + at, left, gate * d);
            vec_store_upto(dstate + at, left, (1 - gate) * d);
        }
        vec_store_upto(dbeta + i, left, vec_load_upto(dbeta + i, left) + gate * (1 - gate) * sum);
    }
}

static void gate_full_forward(size_t n, const real *u, const real *z, const real *state, real *next)
{
    for (size_t i = 0; i < n; i += lanes) {
        size_t left = n - i;
        vec gate = vec_sigmoid(vec_load_upto(u + i, left) + 1), new = vec_load_upto(z + i, left);
        vec_store_upto(next + i, left, gate * vec_load_upto(state + i, left) + (1 - gate) * new);
    }
}

static void gate_full_backward(size_t n, const real *u, const real *z, const real *state, const real *dnext, real *du,
                               real *dz, real *dstate)
{
    for (size_t i = 0; i < n; i += lanes) {
        size_t left = n - i;
        vec gate = vec_sigmoid(vec_load_upto(u + i, left) + 1), d = vec_load_upto(dnext + i, left);
        vec change = vec_load_upto(state + i, left) - vec_load_upto(z + i, left);
        vec_store_upto(du + i, left, gate * (1 - gate) * change * d);
        vec_store_upto(dz + i, left, (1 - gate) * d);
        vec_store_upto(dstate + i, left, gate * d);
    }
}

static void gate_lstm_forward(size_t n, const real *forget, const real *input, const real *z, const real *state,
                              real *next)
{
    for (size_t i = 0; i < n; i += lanes) {
        size_t left = n - i;
        vec keep = vec_sigmoid(vec_load_upto(forget + i, left) + 1);
        vec take = vec_sigmoid(vec_load_upto(input + i, left) - 1);
        vec_store_upto(next + i, left, keep * vec_load_upto(state + i, left) + take * vec_load_upto(z + i, left));
    }
}

static void gate_lstm_backward(size_t n, const real *forget, const real *input, const real *z, const real *state,
                               const real *dnext, real *dforget, real *dinput, real *dz, real *dstate)
{
    for (size_t i = 0; i < n; i += lanes) {
        size_t left = n - i;
        vec keep = vec_sigmoid(vec_load_upto(forget + i, left) + 1);
        vec take = vec_sigmoid(vec_load_upto(input + i, left) - 1), d = vec_load_upto(dnext + i, left);
        vec_store_upto(dforget + i, left, keep * (1 - keep) * vec_load_upto(state + i, left) * d);
        vec_store_upto(dinput + i, left, take * (1 - take) * vec_load_upto(z + i, left) * d);
        vec_store_upto(dz + i, left, take * d);
        vec_store_upto(dstate + i, left, keep * d);
    }
}

#endif
