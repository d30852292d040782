/* Products by oneDNN: descriptions of one product on one thread, made once and kept. Only these two files and
 * gemm_onednn.c know the library. */
#ifndef BRT_TENSOR_ONEDNN_H
#define BRT_TENSOR_ONEDNN_H

#include "gemm.h"

#include <dnnl.h>

typedef enum brt_product_kind {
    BRT_X_WEIGHT_T, /* forward: x weight^T, weight packed */
    BRT_DY_WEIGHT,  /* input gradient: dy weight, weight packed */
    BRT_DY_T_X,     /* weight gradient, in bf16 only: a part of dy^T x, both as they are */
} brt_product_kind;

/* [rows, inner] x [inner, columns] on one thread. */
typedef struct brt_product {
    struct brt_product *next;
    brt_product_kind kind;
    bool bf16, accumulate;
    size_t rows, columns, inner;
    size_t left_stride, right_stride; /* of BRT_DY_T_X: a row of dy and of x; a row of the result is as one of x */
    dnnl_primitive_t primitive;
    dnnl_memory_desc_t left, right, result;
    size_t scratch_bytes; /* a multiple of 64 */
} brt_product;

/* The product with the wanted one's kind, types, sizes and strides. */
brt_status brt_product_get(brt_gemm *gemm, const brt_product *wanted, const brt_product **out);
/* right: packed, or as it is. scratch [scratch_bytes], 64-byte aligned. Not BRT_OK: a number for brt_onednn_check. */
dnnl_status_t brt_product_run(const brt_gemm *gemm, const brt_product *product, const void *left, const void *right,
                              float *result, void *scratch);
/* Copies a weight [out, in] into the layout a product wants for its right operand. */
brt_status brt_product_pack(const brt_gemm *gemm, brt_product_kind kind, size_t out, size_t in, const float *weight,
                            const dnnl_memory_desc_t *layout, void *packed);
/* c[m, n] += a[k, m]^T b[k, n], rows of a, b, c at a_row, b_row, c_row */
dnnl_status_t brt_onednn_gradient(size_t m, size_t n, size_t k, const float *a, size_t a_row, const float *b,
                                  size_t b_row, float *c, size_t c_row);
/* Turns oneDNN's status into ours. */
brt_status brt_onednn_check(dnnl_status_t status, const char *what);
const brt_kernels *brt_gemm_kernels(const brt_gemm *gemm);

#endif
