#include "onednn.h"

#include "../base/size.h"

#include <omp.h>
#include <pthread.h>
#include <stdlib.h>

struct brt_gemm {
    const brt_kernels *kernels;
    dnnl_engine_t engine;
    pthread_mutex_t lock; /* of the list */
    brt_product *products;
};

/* ---- primitives ------------------------------------------------------------------------------------ */

brt_status brt_onednn_check(dnnl_status_t status, const char *what)
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
    BRT_TRY(brt_onednn_check(dnnl_primitive_attr_create(&attributes), "attributes"));
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
    return brt_onednn_check(status, "attributes");
}

static brt_status describe(dnnl_memory_desc_t *out, bool bf16, size_t rows, size_t columns, dnnl_format_tag_t tag)
{
    dnnl_dims_t dims = {(dnnl_dim_t)rows, (dnnl_dim_t)columns};
    return brt_onednn_check(dnnl_memory_desc_init_by_tag(out, 2, dims, bf16 ? dnnl_bf16 : dnnl_f32, tag), "layout");
}

static brt_status describe_part(dnnl_memory_desc_t *out, bool bf16, size_t rows, size_t columns, size_t row_stride,
                                size_t column_stride)
{
    dnnl_dims_t dims = {(dnnl_dim_t)rows, (dnnl_dim_t)columns};
    dnnl_dims_t strides = {(dnnl_dim_t)row_stride, (dnnl_dim_t)column_stride};
    dnnl_data_type_t type = bf16 ? dnnl_bf16 : dnnl_f32;
    return brt_onednn_check(dnnl_memory_desc_init_by_strides(out, 2, dims, type, strides), "layout");
}

/* Of the three matrices; the layout of a packed weight is for oneDNN to choose. */
static brt_status describe_operands(brt_product *p, dnnl_memory_desc_t *weights)
{
    if (p->kind == BRT_DY_T_X) {
        BRT_TRY(describe_part(&p->left, p->bf16, p->rows, p->inner, 1, p->left_stride));
        BRT_TRY(describe_part(weights, p->bf16, p->inner, p->columns, p->right_stride, 1));
        return describe_part(&p->result, false, p->rows, p->columns, p->right_stride, 1);
    }
    BRT_TRY(describe(&p->left, p->bf16, p->rows, p->inner, dnnl_ab));
    BRT_TRY(describe(weights, p->bf16, p->inner, p->columns, dnnl_format_tag_any));
    return describe(&p->result, false, p->rows, p->columns, dnnl_ab);
}

static brt_status make_primitive(brt_gemm *gemm, brt_product *product)
{
    dnnl_memory_desc_t weights;
    BRT_TRY(describe_operands(product, &weights));
    dnnl_matmul_desc_t description;
    BRT_TRY(brt_onednn_check(dnnl_matmul_desc_init(&description, &product->left, &weights, NULL, &product->result),
                             "matmul"));
    dnnl_primitive_attr_t attributes;
    BRT_TRY(make_attributes(&attributes, product->accumulate));
    dnnl_primitive_desc_t primitive;
    dnnl_status_t status = dnnl_primitive_desc_create(&primitive, &description, attributes, gemm->engine, NULL);
    dnnl_primitive_attr_destroy(attributes);
    BRT_TRY(brt_onednn_check(status, "matmul primitive"));
    product->right = *dnnl_primitive_desc_query_md(primitive, dnnl_query_weights_md, 0);
    product->scratch_bytes =
        dnnl_memory_desc_get_size(dnnl_primitive_desc_query_md(primitive, dnnl_query_scratchpad_md, 0));
    product->scratch_bytes = brt_ceil_div(product->scratch_bytes, 64) * 64;
    status = dnnl_primitive_create(&product->primitive, primitive);
    dnnl_primitive_desc_destroy(primitive);
    return brt_onednn_check(status, "matmul primitive");
}

static brt_product *find_product(const brt_gemm *gemm, const brt_product *wanted)
{
    for (brt_product *p = gemm->products; p; p = p->next)
        if (p->kind == wanted->kind && p->bf16 == wanted->bf16 && p->accumulate == wanted->accumulate &&
            p->rows == wanted->rows && p->columns == wanted->columns && p->inner == wanted->inner &&
            p->left_stride == wanted->left_stride && p->right_stride == wanted->right_stride)
            return p;
    return NULL;
}

static brt_status create_product(brt_gemm *gemm, const brt_product *wanted, brt_product **out)
{
    brt_product *product = malloc(sizeof *product);
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

brt_status brt_product_get(brt_gemm *gemm, const brt_product *wanted, const brt_product **out)
{
    pthread_mutex_lock(&gemm->lock);
    brt_product *product = find_product(gemm, wanted);
    brt_status status = product ? BRT_OK : create_product(gemm, wanted, &product);
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
    brt_status status = brt_onednn_check(dnnl_engine_create(&gemm->engine, dnnl_cpu, 0), "engine");
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
    for (brt_product *p = gemm->products; p;) {
        brt_product *next = p->next;
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

dnnl_status_t brt_product_run(const brt_gemm *gemm, const brt_product *product, const void *left, const void *right,
                              float *result, void *scratch)
{
    dnnl_memory_desc_t scratch_layout;
    dnnl_dims_t dims = {(dnnl_dim_t)product->scratch_bytes};
    dnnl_memory_desc_init_by_tag(&scratch_layout, 1, dims, dnnl_u8, dnnl_a);
    operand operands[] = {{DNNL_ARG_SRC, &product->left, left},
                          {DNNL_ARG_WEIGHTS, &product->right, right},
                          {DNNL_ARG_DST, &product->result, result},
                          {DNNL_ARG_SCRATCHPAD, &scratch_layout, scratch}};
    return execute(gemm->engine, product->primitive, operands, product->scratch_bytes ? 4 : 3);
}

brt_status brt_product_pack(const brt_gemm *gemm, brt_product_kind kind, size_t out, size_t in, const float *weight,
                            const dnnl_memory_desc_t *layout, void *packed)
{
    dnnl_memory_desc_t plain;
    if (kind == BRT_X_WEIGHT_T)
        BRT_TRY(describe(&plain, false, in, out, dnnl_ba));
    else
        BRT_TRY(describe(&plain, false, out, in, dnnl_ab));
    dnnl_primitive_desc_t description;
    dnnl_primitive_t reorder;
    int outside = take_one_thread();
    dnnl_status_t status =
        dnnl_reorder_primitive_desc_create(&description, &plain, gemm->engine, layout, gemm->engine, NULL);
    give_threads_back(outside);
    BRT_TRY(brt_onednn_check(status, "reorder"));
    status = dnnl_primitive_create(&reorder, description);
    dnnl_primitive_desc_destroy(description);
    BRT_TRY(brt_onednn_check(status, "reorder"));
    operand operands[] = {{DNNL_ARG_FROM, &plain, weight}, {DNNL_ARG_TO, layout, packed}};
    status = execute(gemm->engine, reorder, operands, 2);
    dnnl_primitive_destroy(reorder);
    return brt_onednn_check(status, "reorder");
}

dnnl_status_t brt_onednn_gradient(size_t m, size_t n, size_t k, const float *a, size_t a_row, const float *b,
                                  size_t b_row, float *c, size_t c_row)
{
    int outside = take_one_thread();
    dnnl_status_t status = dnnl_sgemm('T', 'N', (dnnl_dim_t)m, (dnnl_dim_t)n, (dnnl_dim_t)k, 1.0f, a,
                                      (dnnl_dim_t)a_row, b, (dnnl_dim_t)b_row, 1.0f, c, (dnnl_dim_t)c_row);
    give_threads_back(outside);
    return status;
}

const brt_kernels *brt_gemm_kernels(const brt_gemm *gemm)
{
    return gemm->kernels;
}
