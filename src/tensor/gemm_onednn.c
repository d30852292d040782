/* Products with weights by oneDNN. Two things matter for speed (figures: fraction of the f32 peak over a model's
 * shapes): weights packed once into oneDNN's own layout (0.95 forward, against 0.81 to 0.9 of other libraries), and
 * dnnl_sgemm for the weight gradient in f32 (0.91, against 0.76 of its matmul primitive). */
#include "onednn.h"

#include "../base/parallel.h"
#include "tiles.h"

#include <stdatomic.h>
#include <stdlib.h>

/* A packed copy of a weight. */
typedef struct packed {
    void *data; /* NULL: not wanted */
    size_t bytes;
    dnnl_memory_desc_t layout;
} packed;

struct brt_matrix {
    brt_gemm *gemm;
    size_t out, in;
    const float *weight;
    packed copies[2][2]; /* by bf16 or not, and by kind: BRT_X_WEIGHT_T, BRT_DY_WEIGHT */
};

/* A tile of a product with the weight. */
static brt_status get_product(const brt_matrix *matrix, brt_product_kind kind, bool bf16, size_t rows, bool accumulate,
                              const brt_product **out)
{
    brt_product wanted = {.kind = kind,
                          .bf16 = bf16,
                          .accumulate = accumulate,
                          .rows = rows,
                          .columns = kind == BRT_X_WEIGHT_T ? matrix->out : matrix->in,
                          .inner = kind == BRT_X_WEIGHT_T ? matrix->in : matrix->out};
    return brt_product_get(matrix->gemm, &wanted, out);
}

/* ---- weights ------------------------------------------------------------------------------------------ */

static brt_status repack(const brt_matrix *matrix, bool bf16, brt_product_kind kind)
{
    const packed *copy = &matrix->copies[bf16][kind];
    if (!copy->data)
        return BRT_OK;
    return brt_product_pack(matrix->gemm, kind, matrix->out, matrix->in, matrix->weight, &copy->layout, copy->data);
}

static brt_status make_packed(brt_matrix *matrix, bool bf16, brt_product_kind kind)
{
    packed *copy = &matrix->copies[bf16][kind];
    const brt_product *product;
    if (copy->data)
        return BRT_OK;
    BRT_TRY(get_product(matrix, kind, bf16, BRT_TILE_LARGEST, false, &product));
    copy->layout = product->right;
    copy->bytes = brt_ceil_div(dnnl_memory_desc_get_size(&copy->layout), 64) * 64;
    copy->data = aligned_alloc(64, copy->bytes);
    if (!copy->data)
        return BRT_FAIL(BRT_ERROR_MEMORY, "out of memory for a packed weight of %zu x %zu", matrix->out, matrix->in);
    return BRT_OK;
}

brt_status brt_matrix_create(brt_matrix **out, brt_gemm *gemm, size_t rows, size_t columns, const real *weight)
{
    brt_matrix *matrix = calloc(1, sizeof *matrix);
    if (!matrix)
        return BRT_FAIL(BRT_ERROR_MEMORY, "out of memory for a weight of %zu x %zu", rows, columns);
    matrix->gemm = gemm;
    matrix->out = rows;
    matrix->in = columns;
    matrix->weight = weight;
    brt_status status = make_packed(matrix, false, BRT_X_WEIGHT_T);
    if (status != BRT_OK) {
        brt_matrix_close(matrix);
        return status;
    }
    *out = matrix;
    return BRT_OK;
}

brt_status brt_matrix_enable_training(brt_matrix *matrix, bool bf16)
{
    if (bf16 && !brt_kernels_have_bf16(brt_gemm_kernels(matrix->gemm)))
        return BRT_FAIL(BRT_ERROR_UNSUPPORTED, "this processor has no products of bf16 numbers: train in f32");
    if (bf16)
        BRT_TRY(make_packed(matrix, true, BRT_X_WEIGHT_T));
    BRT_TRY(make_packed(matrix, bf16, BRT_DY_WEIGHT));
    return brt_matrix_refresh(matrix);
}

brt_status brt_matrix_refresh(brt_matrix *matrix)
{
    for (int bf16 = 0; bf16 < 2; bf16++) {
        BRT_TRY(repack(matrix, bf16, BRT_X_WEIGHT_T));
        BRT_TRY(repack(matrix, bf16, BRT_DY_WEIGHT));
    }
    return BRT_OK;
}

void brt_matrix_close(brt_matrix *matrix)
{
    if (!matrix)
        return;
    for (int bf16 = 0; bf16 < 2; bf16++) {
        free(matrix->copies[bf16][BRT_X_WEIGHT_T].data);
        free(matrix->copies[bf16][BRT_DY_WEIGHT].data);
    }
    free(matrix);
}

size_t brt_matrix_training_bytes(const brt_matrix *matrix, bool bf16)
{
    /* Two copies of half the size, or one. */
    return matrix->copies[bf16][BRT_DY_WEIGHT].data ? 0 : matrix->copies[false][BRT_X_WEIGHT_T].bytes;
}

/* ---- products -------------------------------------------------------------------------------------------- */

enum {
    most_sizes = 8,      /* distinct tile sizes of one product: 128, 64, 32, 16, 8 */
    few_rows_block = 64, /* outputs of one task of the matrix-vector kernel */
};

typedef struct row_product {
    const brt_matrix *matrix;
    const packed *weights;
    bool bf16;
    size_t rows, tiles, inner, columns;
    const brt_product *products[most_sizes]; /* by log2(tile rows / smallest) */
    unsigned char *scratch;                   /* [threads, scratch_bytes] */
    size_t scratch_bytes;
    brt_operand x;
    float *y;
    atomic_int failure;
} row_product;

static size_t size_index(size_t tile_rows)
{
    size_t index = 0;
    while (((size_t)BRT_TILE_SMALLEST << index) < tile_rows)
        index++;
    return index;
}

static const void *rows_of(brt_operand x, size_t offset)
{
    return x.bf16 ? (const void *)(x.bf16 + offset) : x.data + offset;
}

static void tile_task(void *context, size_t task, int thread)
{
    row_product *p = context;
    brt_tile tile = brt_tile_at(p->rows, task);
    unsigned char *scratch = p->scratch + (size_t)thread * p->scratch_bytes;
    dnnl_status_t status =
        brt_product_run(p->matrix->gemm, p->products[size_index(tile.rows)], rows_of(p->x, tile.first * p->inner),
                        p->weights->data, p->y + tile.first * p->columns, scratch);
    if (status != dnnl_success)
        atomic_store(&p->failure, (int)status);
}

static brt_status find_products(row_product *p, brt_product_kind kind, bool accumulate)
{
    for (size_t i = 0; i < p->tiles; i++) {
        size_t rows = brt_tile_at(p->rows, i).rows, index = size_index(rows);
        if (p->products[index])
            continue;
        BRT_TRY(get_product(p->matrix, kind, p->bf16, rows, accumulate, &p->products[index]));
        p->scratch_bytes = brt_max_size(p->scratch_bytes, p->products[index]->scratch_bytes);
    }
    return BRT_OK;
}

static brt_status allocate_scratch(size_t bytes, int threads, unsigned char **out)
{
    *out = bytes ? aligned_alloc(64, bytes * (size_t)(threads > 1 ? threads : 1)) : NULL;
    return *out || !bytes ? BRT_OK : BRT_FAIL(BRT_ERROR_MEMORY, "out of memory for a matrix product");
}

static brt_status run_tiles(row_product *p, int threads)
{
    BRT_TRY(allocate_scratch(p->scratch_bytes, threads, &p->scratch));
    brt_parallel_for(threads, p->tiles, tile_task, p);
    free(p->scratch);
    return brt_onednn_check((dnnl_status_t)atomic_load(&p->failure), "matmul");
}

/* The last rows, too few for a tile: the weights themselves, read once. */
typedef struct few_rows {
    const brt_matrix *matrix;
    size_t rows;
    const float *x;
    float *y;
    bool accumulate;
} few_rows;

static void few_forward_task(void *context, size_t task, int thread)
{
    const few_rows *f = context;
    const brt_matrix *w = f->matrix;
    size_t first = task * few_rows_block, outs = brt_min_size(few_rows_block, w->out - first);
    (void)thread;
    brt_gemm_kernels(w->gemm)->matvec(f->rows, outs, w->in, f->x, w->in, w->weight + first * w->in, w->in,
                                      f->y + first, w->out, f->accumulate);
}

static void few_backward_task(void *context, size_t task, int thread)
{
    const few_rows *f = context;
    const brt_matrix *w = f->matrix;
    size_t first = task * few_rows_block, ins = brt_min_size(few_rows_block, w->in - first);
    (void)thread;
    brt_gemm_kernels(w->gemm)->matmul(f->rows, ins, w->out, f->x, w->out, 1, w->weight + first, w->in, f->y + first,
                                      w->in, f->accumulate);
}

static brt_status row_products(const brt_matrix *matrix, brt_product_kind kind, int threads, size_t rows, brt_operand x,
                               real *y, bool accumulate)
{
    bool bf16 = x.bf16 != NULL;
    row_product p = {.matrix = matrix,
                     .weights = &matrix->copies[bf16][kind],
                     .bf16 = bf16,
                     .rows = rows,
                     .tiles = brt_tile_count(rows),
                     .inner = kind == BRT_X_WEIGHT_T ? matrix->in : matrix->out,
                     .columns = kind == BRT_X_WEIGHT_T ? matrix->out : matrix->in,
                     .x = x,
                     .y = y};
    if (p.tiles) {
        BRT_TRY(find_products(&p, kind, accumulate));
        BRT_TRY(run_tiles(&p, threads));
    }
    size_t rest = rows % BRT_TILE_SMALLEST, done = rows - rest;
    if (rest) {
        few_rows f = {matrix, rest, x.data + done * p.inner, y + done * p.columns, accumulate};
        brt_parallel_for(threads, brt_ceil_div(p.columns, few_rows_block),
                         kind == BRT_X_WEIGHT_T ? few_forward_task : few_backward_task, &f);
    }
    return BRT_OK;
}

brt_status brt_matrix_forward(const brt_matrix *matrix, int threads, size_t rows, brt_operand x, real *y,
                              bool accumulate)
{
    return row_products(matrix, BRT_X_WEIGHT_T, threads, rows, x, y, accumulate);
}

brt_status brt_matrix_input_gradient(const brt_matrix *matrix, int threads, size_t rows, brt_operand dy, real *dx,
                                     bool accumulate)
{
    return row_products(matrix, BRT_DY_WEIGHT, threads, rows, dy, dx, accumulate);
}

/* ---- gradients of weights ------------------------------------------------------------------------------------ */

enum { gradient_tile = 256 }; /* outs and ins of one task: operands of a tile stay in the second-level cache */

typedef struct weight_product {
    const brt_matrix *matrix;
    size_t rows, in_tiles;
    brt_operand dy, x;
    float *dweight;
    const brt_product *products[2][2]; /* in bf16: by the last tile of outs or not, and of ins */
    unsigned char *scratch;             /* [threads, scratch_bytes] */
    size_t scratch_bytes;
    atomic_int failure;
} weight_product;

/* Outs and ins of a task. */
typedef struct gradient_part {
    size_t first_out, outs, first_in, ins;
} gradient_part;

static gradient_part part_at(const weight_product *p, size_t task)
{
    size_t first_out = task / p->in_tiles * gradient_tile, first_in = task % p->in_tiles * gradient_tile;
    return (gradient_part){first_out, brt_min_size(gradient_tile, p->matrix->out - first_out), first_in,
                           brt_min_size(gradient_tile, p->matrix->in - first_in)};
}

static void f32_gradient_task(void *context, size_t task, int thread)
{
    weight_product *p = context;
    size_t out = p->matrix->out, in = p->matrix->in;
    gradient_part part = part_at(p, task);
    (void)thread;
    dnnl_status_t status =
        brt_onednn_gradient(part.outs, part.ins, p->rows, p->dy.data + part.first_out, out, p->x.data + part.first_in,
                            in, p->dweight + part.first_out * in + part.first_in, in);
    if (status != dnnl_success)
        atomic_store(&p->failure, (int)status);
}

static void bf16_gradient_task(void *context, size_t task, int thread)
{
    weight_product *p = context;
    gradient_part part = part_at(p, task);
    dnnl_status_t status =
        brt_product_run(p->matrix->gemm, p->products[part.outs < gradient_tile][part.ins < gradient_tile],
                        p->dy.bf16 + part.first_out, p->x.bf16 + part.first_in,
                        p->dweight + part.first_out * p->matrix->in + part.first_in,
                        p->scratch + (size_t)thread * p->scratch_bytes);
    if (status != dnnl_success)
        atomic_store(&p->failure, (int)status);
}

static brt_status find_gradient_products(weight_product *p, size_t tasks)
{
    for (size_t task = 0; task < tasks; task++) {
        gradient_part part = part_at(p, task);
        const brt_product **product = &p->products[part.outs < gradient_tile][part.ins < gradient_tile];
        brt_product wanted = {.kind = BRT_DY_T_X,
                               .bf16 = true,
                               .accumulate = true,
                               .rows = part.outs,
                               .columns = part.ins,
                               .inner = p->rows,
                               .left_stride = p->matrix->out,
                               .right_stride = p->matrix->in};
        if (*product)
            continue;
        BRT_TRY(brt_product_get(p->matrix->gemm, &wanted, product));
        p->scratch_bytes = brt_max_size(p->scratch_bytes, (*product)->scratch_bytes);
    }
    return BRT_OK;
}

brt_status brt_matrix_weight_gradient(const brt_matrix *matrix, int threads, size_t rows, brt_operand dy,
                                      brt_operand x, real *dweight)
{
    bool bf16 = dy.bf16 && x.bf16;
    weight_product p = {.matrix = matrix,
                        .rows = rows,
                        .in_tiles = brt_ceil_div(matrix->in, gradient_tile),
                        .dy = dy,
                        .x = x,
                        .dweight = dweight};
    size_t tasks = brt_ceil_div(matrix->out, gradient_tile) * p.in_tiles;
    if (bf16)
        BRT_TRY(find_gradient_products(&p, tasks));
    BRT_TRY(allocate_scratch(p.scratch_bytes, threads, &p.scratch));
    brt_parallel_for(threads, tasks, bf16 ? bf16_gradient_task : f32_gradient_task, &p);
    free(p.scratch);
    return brt_onednn_check((dnnl_status_t)atomic_load(&p.failure), "weight gradient");
}
