/* The one door to matrix products with weights. A weight is [out, in], as PyTorch's Linear has it.
 *
 * Products are cut into tiles fixed by shape, each computed by one thread, so results are bit-identical for any
 * thread count. gemm_onednn.c computes tiles with oneDNN (0.9 of the machine's peak) and keeps packed copies of the
 * weights; gemm_plain.c is the same in plain C for the double build and for systems without oneDNN. */
#ifndef BRT_TENSOR_GEMM_H
#define BRT_TENSOR_GEMM_H

#include "../base/real.h"
#include "../base/status.h"
#include "../kernels/kernels.h"

#include <stdint.h>

/* What the products of one model share. May be used by several threads at once. */
typedef struct brt_gemm brt_gemm;
brt_status brt_gemm_create(brt_gemm **out, const brt_kernels *kernels);
void brt_gemm_close(brt_gemm *gemm);

typedef struct brt_matrix brt_matrix;
/* weight [out, in] stays the caller's and must outlive the matrix. */
brt_status brt_matrix_create(brt_matrix **matrix, brt_gemm *gemm, size_t out, size_t in, const real *weight);
void brt_matrix_close(brt_matrix *matrix);
/* Before the first gradient in f32, and before the first product of any kind in bf16, which is BRT_ERROR_UNSUPPORTED
 * where the processor has no products of bf16. */
brt_status brt_matrix_enable_training(brt_matrix *matrix, bool bf16);
/* The weights have changed. Uses one thread; different matrices may be refreshed at the same time. */
brt_status brt_matrix_refresh(brt_matrix *matrix);
/* Bytes that enabling will take; 0 once it is enabled. */
size_t brt_matrix_training_bytes(const brt_matrix *matrix, bool bf16);

/* Rows of activations or gradients. With a copy in bf16 (8 bits of exponent, 8 of precision) the product multiplies
 * bf16 numbers and sums in f32. */
typedef struct brt_operand {
    const real *data;
    const uint16_t *bf16; /* NULL: the product is in f32 */
} brt_operand;

/* y[rows, out] (+)= x[rows, in] weight^T */
brt_status brt_matrix_forward(const brt_matrix *matrix, int threads, size_t rows, brt_operand x, real *y,
                              bool accumulate);
/* dx[rows, in] (+)= dy[rows, out] weight */
brt_status brt_matrix_input_gradient(const brt_matrix *matrix, int threads, size_t rows, brt_operand dy, real *dx,
                                     bool accumulate);
/* dweight[out, in] += dy[rows, out]^T x[rows, in]; both operands in bf16, or none */
brt_status brt_matrix_weight_gradient(const brt_matrix *matrix, int threads, size_t rows, brt_operand dy,
                                      brt_operand x, real *dweight);

#endif
