/* Products with weights in plain kernels: for the double build that checks gradients, and where oneDNN is missing. */
#include "gemm.h"

#include "../base/parallel.h"
#include "tiles.h"

#include <stdlib.h>

struct brt_gemm {
    const brt_kernels *kernels;
};

struct brt_matrix {
    const brt_kernels *kernels;
    size_t out, in;
    const real *weight;
};

brt_status brt_gemm_create(brt_gemm **out, const brt_kernels *kernels)
{
    brt_gemm *gemm = malloc(sizeof *gemm);
    if (!gemm)
        return BRT_FAIL(BRT_ERROR_MEMORY, "out of memory for the matrix products");
    gemm->kernels = kernels;
    *out = gemm;
    return BRT_OK;
}

void brt_gemm_close(brt_gemm *gemm)
{
    free(gemm);
}

brt_status brt_matrix_create(brt_matrix **matrix, brt_gemm *gemm, size_t out, size_t in, const real *weight)
{
    brt_matrix *m = malloc(sizeof *m);
    if (!m)
        return BRT_FAIL(BRT_ERROR_MEMORY, "out of memory for a weight of %zu x %zu", out, in);
    *m = (brt_matrix){gemm->kernels, out, in, weight};
    *matrix = m;
    return BRT_OK;
}

void brt_matrix_close(brt_matrix *matrix)
{
    free(matrix);
}

brt_status brt_matrix_enable_training(brt_matrix *matrix, bool bf16)
{
    (void)matrix;
    return bf16 ? BRT_FAIL(BRT_ERROR_UNSUPPORTED, "this build has no products of bf16 numbers: train in f32") : BRT_OK;
}

brt_status brt_matrix_refresh(brt_matrix *matrix)
{
    (void)matrix;
    return BRT_OK;
}

size_t brt_matrix_training_bytes(const brt_matrix *matrix, bool bf16)
{
    (void)matrix, (void)bf16;
    return 0;
}

typedef struct product {
    const brt_matrix *matrix;
    size_t rows, tile;
    const real *a, *b;
    real *c;
    bool accumulate;
} product;

static size_t tile_end(const product *p, size_t task, size_t all)
{
    return brt_min_size((task + 1) * p->tile, all);
}

static void forward_task(void *context, size_t task, int thread)
{
    const product *p = context;
    const brt_matrix *w = p->matrix;
    size_t first = task * p->tile, rows = tile_end(p, task, p->rows) - first;
    (void)thread;
    w->kernels->matvec(rows, w->out, w->in, p->a + first * w->in, w->in, w->weight, w->in, p->c + first * w->out,
                       w->out, p->accumulate);
}

brt_status brt_matrix_forward(const brt_matrix *matrix, int threads, size_t rows, brt_operand x, real *y,
                              bool accumulate)
{
    product p = {matrix, rows, brt_tile_rows(rows), x.data, NULL, y, accumulate};
    brt_parallel_for(threads, brt_ceil_div(rows, p.tile), forward_task, &p);
    return BRT_OK;
}

static void input_gradient_task(void *context, size_t task, int thread)
{
    const product *p = context;
    const brt_matrix *w = p->matrix;
    size_t first = task * p->tile, rows = tile_end(p, task, p->rows) - first;
    (void)thread;
    w->kernels->matmul(rows, w->in, w->out, p->a + first * w->out, w->out, 1, w->weight, w->in, p->c + first * w->in,
                       w->in, p->accumulate);
}

brt_status brt_matrix_input_gradient(const brt_matrix *matrix, int threads, size_t rows, brt_operand dy, real *dx,
                                     bool accumulate)
{
    product p = {matrix, rows, brt_tile_rows(rows), dy.data, NULL, dx, accumulate};
    brt_parallel_for(threads, brt_ceil_div(rows, p.tile), input_gradient_task, &p);
    return BRT_OK;
}

static void weight_gradient_task(void *context, size_t task, int thread)
{
    const product *p = context;
    const brt_matrix *w = p->matrix;
    size_t first = task * p->tile, outs = tile_end(p, task, w->out) - first;
    (void)thread;
    w->kernels->matmul(outs, w->in, p->rows, p->a + first, 1, w->out, p->b, w->in, p->c + first * w->in, w->in, true);
}

brt_status brt_matrix_weight_gradient(const brt_matrix *matrix, int threads, size_t rows, brt_operand dy,
                                      brt_operand x, real *dweight)
{
    product p = {matrix, rows, brt_tile_rows(matrix->out), dy.data, x.data, dweight, true};
    brt_parallel_for(threads, brt_ceil_div(matrix->out, p.tile), weight_gradient_task, &p);
    return BRT_OK;
}
