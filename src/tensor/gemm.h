/* Matrix products with weights. A weight is [out, in], as PyTorch's Linear has it. Products read it in their own order,
 * in panels (kernels/packed.h): one copy is for the forward product, one for the gradient of its input, each in f32 or
 * bf16. Only what somebody asks for is made.
 *
 * An element of a product is the same sequence of multiply-adds however the product is cut into tasks: results are
 * bit-identical for any number of threads, and for any split of the rows. */
#ifndef BRT_TENSOR_GEMM_H
#define BRT_TENSOR_GEMM_H

#include "../base/real.h"
#include "../base/status.h"
#include "../kernels/kernels.h"

#include <stdint.h>

typedef struct brt_matrix brt_matrix;
/* weight [out, in] stays the caller's: enabling and refreshing read it, products do not. The matrix can multiply once
 * it is enabled. */
brt_status brt_matrix_create(brt_matrix **matrix, const brt_kernels *kernels, size_t out, size_t in,
                             const real *weight);
void brt_matrix_close(brt_matrix *matrix);
/* Packs the weights for forward products in f32 or bf16 and, for a trainer, for gradients of the input, into a room of
 * brt_matrix_enabling_bytes of zeros, the caller's, who keeps it as long as the matrix. What is packed stays so.
 * BRT_ERROR_UNSUPPORTED in bf16 where the processor has no products of it. */
brt_status brt_matrix_enable(brt_matrix *matrix, bool bf16, bool gradients, real *room);
/* The weights have changed. Uses one thread; different matrices may be refreshed at the same time. */
void brt_matrix_refresh(brt_matrix *matrix);
/* Bytes of a weight packed for forward products in f32. */
size_t brt_matrix_bytes(const brt_kernels *kernels, size_t out, size_t in);
/* Bytes that enabling will take; 0 once it is enabled. */
size_t brt_matrix_enabling_bytes(const brt_matrix *matrix, bool bf16, bool gradients);

/* In bf16 (8 bits of exponent, 8 of precision) both operands of a product are rounded, and the sums are f32. */

/* The rows of an operand: reals or, where the product is one of bf16, numbers rounded before. A row of those is of
 * whole pairs: after an odd number of them stands a 0. */
typedef struct brt_operand {
    const real *reals;
    const uint16_t *bf16; /* or NULL: reals */
} brt_operand;

/* What this memory holds. */
static inline brt_operand brt_operand_in(const real *memory, bool bf16)
{
    return bf16 ? (brt_operand){.bf16 = (const uint16_t *)(const void *)memory} : (brt_operand){.reals = memory};
}

/* bf16 numbers of such a row. */
static inline size_t brt_bf16_row(size_t numbers)
{
    return numbers + numbers % 2;
}

/* Rounds x[rows, columns] to such rows. */
void brt_round_rows(const brt_kernels *kernels, size_t rows, size_t columns, const real *x, size_t x_stride,
                    uint16_t *rounded);

/* y[rows, out] = added + x[rows, in] weight^T. added may be y, or NULL: 0. */
void brt_matrix_forward(const brt_matrix *matrix, int threads, bool bf16, size_t rows, brt_operand x,
                        const real *added, real *y);
/* y[rows, out] = x[rows, in] weight^T, both with rows of bf16 as brt_operand has them; out is even. */
void brt_matrix_forward_rounded(const brt_matrix *matrix, int threads, size_t rows, const uint16_t *x, uint16_t *y);
/* dx[rows, in] (+)= dy[rows, out] weight */
void brt_matrix_input_gradient(const brt_matrix *matrix, int threads, bool bf16, size_t rows, brt_operand dy, real *dx,
                               bool accumulate);
/* dweight[out, in] += dy[rows, out]^T x[rows, in]; room is of brt_matrix_gradient_room reals. */
void brt_matrix_weight_gradient(const brt_matrix *matrix, int threads, bool bf16, size_t rows, const real *dy,
                                const real *x, real *dweight, real *room);
size_t brt_matrix_gradient_room(const brt_matrix *matrix, int threads, bool bf16, size_t rows);
/* The same of rows rounded before, in pairs as the kernel pair_rows has them: dy[ceil(rows / 2), out] and x[.., in].
 * The room is that of f32. */
void brt_matrix_weight_gradient_of_pairs(const brt_matrix *matrix, int threads, size_t rows, const uint32_t *dy,
                                         const uint32_t *x, real *dweight, real *room);

#endif
