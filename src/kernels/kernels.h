/* The table of kernels for one instruction set; kernels.def says what each one computes. */
#ifndef BRT_KERNELS_KERNELS_H
#define BRT_KERNELS_KERNELS_H

#include "../base/real.h"
#include "../base/status.h"

typedef struct brt_adam_step {
    real gradient_scale; /* from clipping */
    real learning_rate, beta1, beta2, epsilon;
    real weight_decay;
    real correction1, correction2; /* 1 - beta^t */
} brt_adam_step;

/* A random mask, each number of which has 32 bits of its own: the hash function triple32 (Wellons 2018) of the number,
 * with a key before it and one inside. A fraction of the work of brt_rng_words: attention draws one for each weight. */
typedef struct brt_mask {
    uint32_t key[2];
    uint32_t least; /* rate * 2^32 */
    real kept;      /* 1 / (1 - rate) */
} brt_mask;

/* Outputs that stand side by side in a weight of fewer bits. */
enum { BRT_PANEL = 64 };
/* How large an exponential of softmax_step may be. */
enum { BRT_SOFTMAX_LAG = 256 };

/* What will be read next, of a matrix that is to be packed: `rows` rows of a panel's length, `row` reals apart. */
typedef struct brt_ahead {
    const real *data;
    size_t row, rows;
} brt_ahead;

typedef struct brt_kernels {
    const char *isa;   /* "avx512" */
    int lanes;         /* reals in one vector */
    int panel_columns; /* of a matrix in panels (packed.h): a multiple of lanes */
#define BRT_KERNEL(name, arguments) void(*name) arguments;
#include "kernels.def"
#undef BRT_KERNEL
} brt_kernels;

/* The table for this processor, or the one that BRT_ISA names; chosen once. An unknown or unavailable name is
 * BRT_ERROR_ARGUMENT with a sentence that lists those that exist. */
brt_status brt_kernels_select(const brt_kernels **out);

/* Whether this processor multiplies bf16 numbers, and the table is not one of an older set. */
bool brt_kernels_have_bf16(const brt_kernels *kernels);

/* Every table this build has and this processor can run, the plain C one first; for tests and benches. NULL past
 * the last. */
const brt_kernels *brt_kernels_at(size_t index);

#endif
