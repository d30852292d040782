/* Products with weights by oneDNN, the only file that knows it. Two things matter for speed (figures: fraction of
 * the f32 peak over a model's shapes): weights packed once into oneDNN's own layout (0.95 forward, against 0.81 to
 * 0.9 of other libraries), and dnnl_sgemm for the weight gradient (0.91, against 0.76 of its matmul primitive). */
#include "gemm.h"

#include "../base/parallel.h"
#include "tiles.h"

#include <dnnl.h>
#include <omp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

/* A product of one tile: [rows, inner] x [inner, columns], right operand packed. */
typedef struct tile_product {
    struct tile_product *next;
    size_t rows, columns, inner;
    bool transposed; /* the right operand is weight^T (forward), else weight */
    bool accumulate;
    dnnl_primitive_t primitive;
    dnnl_memory_desc_t source, weights, destination;
    size_t scratch_bytes;
} tile_product;

struct brt_gemm {
    const brt_kernels *kernels;
    dnnl_engine_t engine;
    pthread_mutex_t lock; /* of the list */
    tile_product *products;
};

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
    packed forward, backward;
};

/* ---- primitives ------------------------------------------------------------------------------------ */

static brt_status check(dnnl_status_t status, const char *what)
{
    if (status == dnnl_success)
        return BRT_OK;
    if (status == dnnl_out_of_memory)
        return BRT_FAIL(BRT_ERROR_MEMORY, "out of memory in oneDNN (%s)", what);
    return BRT_FAIL(BRT_ERROR_INTERNAL, "oneDNN failed with status %d (%s)", (int)status, what);
}

/* oneDNN cuts its work by the number of OpenMP threads of whoever calls it, when making a primitive and when running
 * one, and results would depend on it. Tiles are ours: it gets one thread, and the caller's number back. */
static int take_one_thread(void)
{
    int outside = omp_get_max_threads();
    omp_set_num_threads(1);
    return outside;
}

static void give_threads_back(int outside)
{
    omp_set_num_threads(outside);
}

static brt_status make_attributes(dnnl_primitive_attr_t *out, bool accumulate)
{
    dnnl_primitive_attr_t attributes;
    BRT_TRY(check(dnnl_primitive_attr_create(&attributes), "attributes"));
    dnnl_status_t status = dnnl_primitive_attr_set_scratchpad_mode(attributes, dnnl_scratchpad_mode_user);
    dnnl_post_ops_t operations = NULL;
    if (accumulate && status == dnnl_success)
        status = dnnl_post_ops_create(&operations);
    if (operations) {
        status = dnnl_post_ops_append_sum(operations, 1.0f);
        if (status == dnnl_success)
            status = dnnl_primitive_attr_set_post_ops(attributes, operations);
        dnnl_post_ops_destroy(operations);
    }
    if (status != dnnl_success)
        dnnl_primitive_attr_destroy(attributes);
    else
        *out = attributes;
    return check(status, "attributes");
}

static brt_status describe(dnnl_memory_desc_t *out, size_t rows, size_t columns, dnnl_format_tag_t tag)
{
    dnnl_dims_t dims = {(dnnl_dim_t)rows, (dnnl_dim_t)columns};
    return check(dnnl_memory_desc_init_by_tag(out, 2, dims, dnnl_f32, tag), "layout");
}

static brt_status make_primitive(brt_gemm *gemm, tile_product *product)
{
    dnnl_memory_desc_t weights;
    BRT_TRY(describe(&product->source, product->rows, product->inner, dnnl_ab));
    BRT_TRY(describe(&weights, product->inner, product->columns, dnnl_format_tag_any));
    BRT_TRY(describe(&product->destination, product->rows, product->columns, dnnl_ab));
    dnnl_matmul_desc_t description;
    BRT_TRY(check(dnnl_matmul_desc_init(&description, &product->source, &weights, NULL, &product->destination),
                  "matmul"));
    dnnl_primitive_attr_t attributes;
    BRT_TRY(make_attributes(&attributes, product->accumulate));
    dnnl_primitive_desc_t primitive;
    dnnl_status_t status = dnnl_primitive_desc_create(&primitive, &description, attributes, gemm->engine, NULL);
    dnnl_primitive_attr_destroy(attributes);
    BRT_TRY(check(status, "matmul primitive"));
    product->weights = *dnnl_primitive_desc_query_md(primitive, dnnl_query_weights_md, 0);
    product->scratch_bytes =
        dnnl_memory_desc_get_size(dnnl_primitive_desc_query_md(primitive, dnnl_query_scratchpad_md, 0));
    status = dnnl_primitive_create(&product->primitive, primitive);
    dnnl_primitive_desc_destroy(primitive);
    return check(status, "matmul primitive");
}

static tile_product *find_product(const brt_gemm *gemm, const tile_product *wanted)
{
    for (tile_product *p = gemm->products; p; p = p->next)
        if (p->rows == wanted->rows && p->columns == wanted->columns && p->inner == wanted->inner &&
            p->transposed == wanted->transposed && p->accumulate == wanted->accumulate)
            return p;
    return NULL;
}

static brt_status create_product(brt_gemm *gemm, const tile_product *wanted, tile_product **out)
{
    tile_product *product = malloc(sizeof *product);
    if (!product)
        return BRT_FAIL(BRT_ERROR_MEMORY, "out of memory for a matrix product");
    *product = *wanted;
    int outside = take_one_thread();
    brt_status status = make_primitive(gemm, product);
    give_threads_back(outside);
    if (status != BRT_OK) {
        free(product);
        return status;
    }
    product->next = gemm->products;
    gemm->products = product;
    *out = product;
    return BRT_OK;
}

static brt_status get_product(const brt_matrix *matrix, bool transposed, size_t rows, bool accumulate,
                              const tile_product **out)
{
    brt_gemm *gemm = matrix->gemm;
    tile_product wanted = {.rows = rows,
                           .columns = transposed ? matrix->out : matrix->in,
                           .inner = transposed ? matrix->in : matrix->out,
                           .transposed = transposed,
                           .accumulate = accumulate};
    pthread_mutex_lock(&gemm->lock);
    tile_product *product = find_product(gemm, &wanted);
    brt_status status = product ? BRT_OK : create_product(gemm, &wanted, &product);
    pthread_mutex_unlock(&gemm->lock);
    *out = product;
    return status;
}

brt_status brt_gemm_create(brt_gemm **out, const brt_kernels *kernels)
{
    brt_gemm *gemm = calloc(1, sizeof *gemm);
    if (!gemm)
        return BRT_FAIL(BRT_ERROR_MEMORY, "out of memory for the matrix products");
    gemm->kernels = kernels;
    brt_status status = check(dnnl_engine_create(&gemm->engine, dnnl_cpu, 0), "engine");
    if (status != BRT_OK) {
        free(gemm);
        return status;
    }
    pthread_mutex_init(&gemm->lock, NULL);
    *out = gemm;
    return BRT_OK;
}

void brt_gemm_close(brt_gemm *gemm)
{
    if (!gemm)
        return;
    for (tile_product *p = gemm->products; p;) {
        tile_product *next = p->next;
        dnnl_primitive_destroy(p->primitive);
        free(p);
        p = next;
    }
    dnnl_engine_destroy(gemm->engine);
    pthread_mutex_destroy(&gemm->lock);
    free(gemm);
}

/* ---- running a primitive ---------------------------------------------------------------------------- */

typedef struct operand {
    int argument;
    const dnnl_memory_desc_t *layout;
    const void *data;
} operand;

static dnnl_status_t execute(dnnl_engine_t engine, dnnl_primitive_t primitive, const operand *operands, int count)
{
    enum { most = 4 };
    int outside = take_one_thread();
    dnnl_exec_arg_t arguments[most];
    dnnl_stream_t stream = NULL;
    dnnl_status_t status = dnnl_stream_create(&stream, engine, dnnl_stream_default_flags);
    int made = 0;
    for (; made < count && status == dnnl_success; made++) {
        arguments[made].arg = operands[made].argument;
        arguments[made].memory = NULL;
        status = dnnl_memory_create(&arguments[made].memory, operands[made].layout, engine,
                                    (void *)operands[made].data);
    }
    if (status == dnnl_success)
        status = dnnl_primitive_execute(primitive, stream, count, arguments);
    if (status == dnnl_success)
        status = dnnl_stream_wait(stream);
    for (int i = 0; i < made; i++)
        dnnl_memory_destroy(arguments[i].memory);
    if (stream)
        dnnl_stream_destroy(stream);
    give_threads_back(outside);
    return status;
}

/* ---- weights ------------------------------------------------------------------------------------------ */

static brt_status repack(const brt_matrix *matrix, packed *copy, bool transposed)
{
    if (!copy->data)
        return BRT_OK;
    dnnl_memory_desc_t plain;
    size_t inner = transposed ? matrix->in : matrix->out, columns = transposed ? matrix->out : matrix->in;
    BRT_TRY(describe(&plain, inner, columns, transposed ? dnnl_ba : dnnl_ab));
    dnnl_primitive_desc_t description;
    dnnl_primitive_t reorder;
    dnnl_engine_t engine = matrix->gemm->engine;
    int outside = take_one_thread();
    dnnl_status_t status =
        dnnl_reorder_primitive_desc_create(&description, &plain, engine, &copy->layout, engine, NULL);
    give_threads_back(outside);
    BRT_TRY(check(status, "reorder"));
    status = dnnl_primitive_create(&reorder, description);
    dnnl_primitive_desc_destroy(description);
    BRT_TRY(check(status, "reorder"));
    operand operands[] = {{DNNL_ARG_FROM, &plain, matrix->weight}, {DNNL_ARG_TO, &copy->layout, copy->data}};
    status = execute(engine, reorder, operands, 2);
    dnnl_primitive_destroy(reorder);
    return check(status, "reorder");
}

static brt_status make_packed(const brt_matrix *matrix, packed *copy, bool transposed)
{
    const tile_product *product;
    BRT_TRY(get_product(matrix, transposed, BRT_TILE_LARGEST, false, &product));
    copy->layout = product->weights;
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
    brt_status status = make_packed(matrix, &matrix->forward, true);
    if (status != BRT_OK) {
        brt_matrix_close(matrix);
        return status;
    }
    *out = matrix;
    return BRT_OK;
}

brt_status brt_matrix_enable_backward(brt_matrix *matrix)
{
    if (matrix->backward.data)
        return BRT_OK;
    BRT_TRY(make_packed(matrix, &matrix->backward, false));
    return repack(matrix, &matrix->backward, false);
}

brt_status brt_matrix_refresh(brt_matrix *matrix)
{
    BRT_TRY(repack(matrix, &matrix->forward, true));
    return repack(matrix, &matrix->backward, false);
}

void brt_matrix_close(brt_matrix *matrix)
{
    if (!matrix)
        return;
    free(matrix->forward.data);
    free(matrix->backward.data);
    free(matrix);
}

size_t brt_matrix_backward_bytes(const brt_matrix *matrix)
{
    return matrix->backward.data ? 0 : matrix->forward.bytes;
}

size_t brt_matrix_out(const brt_matrix *matrix)
{
    return matrix->out;
}

size_t brt_matrix_in(const brt_matrix *matrix)
{
    return matrix->in;
}

/* ---- products -------------------------------------------------------------------------------------------- */

enum {
    most_sizes = 8,      /* distinct tile sizes of one product: 128, 64, 32, 16, 8 */
    few_rows_block = 64, /* outputs of one task of the matrix-vector kernel */
};

typedef struct row_product {
    const brt_matrix *matrix;
    const packed *weights;
    size_t rows, tiles, inner, columns;
    const tile_product *products[most_sizes]; /* by log2(tile rows / smallest) */
    unsigned char *scratch;                   /* [threads, scratch_bytes] */
    size_t scratch_bytes;
    const float *x;
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

static void tile_task(void *context, size_t task, int thread)
{
    row_product *p = context;
    brt_tile tile = brt_tile_at(p->rows, task);
    const tile_product *product = p->products[size_index(tile.rows)];
    dnnl_memory_desc_t scratch_layout;
    dnnl_dims_t dims = {(dnnl_dim_t)p->scratch_bytes};
    dnnl_memory_desc_init_by_tag(&scratch_layout, 1, dims, dnnl_u8, dnnl_a);
    operand operands[] = {{DNNL_ARG_SRC, &product->source, p->x + tile.first * p->inner},
                          {DNNL_ARG_WEIGHTS, &p->weights->layout, p->weights->data},
                          {DNNL_ARG_DST, &product->destination, p->y + tile.first * p->columns},
                          {DNNL_ARG_SCRATCHPAD, &scratch_layout, p->scratch + (size_t)thread * p->scratch_bytes}};
    dnnl_status_t status =
        execute(p->matrix->gemm->engine, product->primitive, operands, product->scratch_bytes ? 4 : 3);
    if (status != dnnl_success)
        atomic_store(&p->failure, (int)status);
}

static brt_status find_products(row_product *p, bool transposed, bool accumulate)
{
    for (size_t i = 0; i < p->tiles; i++) {
        size_t rows = brt_tile_at(p->rows, i).rows, index = size_index(rows);
        if (p->products[index])
            continue;
        BRT_TRY(get_product(p->matrix, transposed, rows, accumulate, &p->products[index]));
        p->scratch_bytes = brt_max_size(p->scratch_bytes, p->products[index]->scratch_bytes);
    }
    p->scratch_bytes = brt_ceil_div(p->scratch_bytes, 64) * 64;
    return BRT_OK;
}

static brt_status run_tiles(row_product *p, int threads)
{
    if (p->scratch_bytes) {
        p->scratch = aligned_alloc(64, p->scratch_bytes * (size_t)(threads > 1 ? threads : 1));
        if (!p->scratch)
            return BRT_FAIL(BRT_ERROR_MEMORY, "out of memory for a matrix product");
    }
    brt_parallel_for(threads, p->tiles, tile_task, p);
    free(p->scratch);
    return check((dnnl_status_t)atomic_load(&p->failure), "matmul");
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
    w->gemm->kernels->matvec(f->rows, outs, w->in, f->x, w->in, w->weight + first * w->in, w->in, f->y + first,
                             w->out, f->accumulate);
}

static void few_backward_task(void *context, size_t task, int thread)
{
    const few_rows *f = context;
    const brt_matrix *w = f->matrix;
    size_t first = task * few_rows_block, ins = brt_min_size(few_rows_block, w->in - first);
    (void)thread;
    w->gemm->kernels->matmul(f->rows, ins, w->out, f->x, w->out, 1, w->weight + first, w->in, f->y + first, w->in,
                             f->accumulate);
}

static brt_status row_products(const brt_matrix *matrix, bool transposed, int threads, size_t rows, const real *x,
                               real *y, bool accumulate)
{
    row_product p = {.matrix = matrix,
                     .weights = transposed ? &matrix->forward : &matrix->backward,
                     .rows = rows,
                     .tiles = brt_tile_count(rows),
                     .inner = transposed ? matrix->in : matrix->out,
                     .columns = transposed ? matrix->out : matrix->in,
                     .x = x,
                     .y = y};
    if (p.tiles) {
        BRT_TRY(find_products(&p, transposed, accumulate));
        BRT_TRY(run_tiles(&p, threads));
    }
    size_t rest = rows % BRT_TILE_SMALLEST, done = rows - rest;
    if (rest) {
        few_rows f = {matrix, rest, x + done * p.inner, y + done * p.columns, accumulate};
        brt_parallel_for(threads, brt_ceil_div(p.columns, few_rows_block),
                         transposed ? few_forward_task : few_backward_task, &f);
    }
    return BRT_OK;
}

brt_status brt_matrix_forward(const brt_matrix *matrix, int threads, size_t rows, const real *x, real *y,
                              bool accumulate)
{
    return row_products(matrix, true, threads, rows, x, y, accumulate);
}

brt_status brt_matrix_input_gradient(const brt_matrix *matrix, int threads, size_t rows, const real *dy, real *dx,
                                     bool accumulate)
{
    return row_products(matrix, false, threads, rows, dy, dx, accumulate);
}

enum { gradient_tile = 256 }; /* outs and ins of one task: operands of a tile stay in the second-level cache */

typedef struct weight_product {
    const brt_matrix *matrix;
    size_t rows, in_tiles;
    const float *dy, *x;
    float *dweight;
    atomic_int failure;
} weight_product;

static void weight_gradient_task(void *context, size_t task, int thread)
{
    weight_product *p = context;
    size_t out = p->matrix->out, in = p->matrix->in;
    size_t first_out = task / p->in_tiles * gradient_tile, first_in = task % p->in_tiles * gradient_tile;
    size_t outs = brt_min_size(gradient_tile, out - first_out), ins = brt_min_size(gradient_tile, in - first_in);
    int outside = take_one_thread();
    (void)thread;
    dnnl_status_t status = dnnl_sgemm('T', 'N', (dnnl_dim_t)outs, (dnnl_dim_t)ins, (dnnl_dim_t)p->rows, 1.0f,
                                      p->dy + first_out, (dnnl_dim_t)out, p->x + first_in, (dnnl_dim_t)in, 1.0f,
                                      p->dweight + first_out * in + first_in, (dnnl_dim_t)in);
    give_threads_back(outside);
    if (status != dnnl_success)
        atomic_store(&p->failure, (int)status);
}

brt_status brt_matrix_weight_gradient(const brt_matrix *matrix, int threads, size_t rows, const real *dy,
                                      const real *x, real *dweight)
{
    weight_product p = {.matrix = matrix,
                        .rows = rows,
                        .in_tiles = brt_ceil_div(matrix->in, gradient_tile),
                        .dy = dy,
                        .x = x,
                        .dweight = dweight};
    brt_parallel_for(threads, brt_ceil_div(matrix->out, gradient_tile) * p.in_tiles, weight_gradient_task, &p);
    return check((dnnl_status_t)atomic_load(&p.failure), "weight gradient");
}
