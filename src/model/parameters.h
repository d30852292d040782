/* The parameters of a model: names and shapes of the reference's state_dict(), in one stretch of memory. */
#ifndef BRT_MODEL_PARAMETERS_H
#define BRT_MODEL_PARAMETERS_H

#include "../ops/ops.h"
#include "config.h"

/* The distributions a parameter starts from. */
typedef enum brt_initialisation {
    BRT_INIT_ONES,
    BRT_INIT_ZEROS,
    BRT_INIT_NORMAL,       /* N(0, 1): embedding, state ids */
    BRT_INIT_WIDE_NORMAL,  /* N(0, 10): where hidden units of positions bend */
    BRT_INIT_SMALL_NORMAL, /* N(mean, 0.1): initial state, gate (PR #7 of the reference, after the paper) */
    BRT_INIT_LINEAR,       /* U(-1/sqrt(in), 1/sqrt(in)): PyTorch's Linear, weight and bias */
    /* The paper's. */
    BRT_INIT_KERNEL,       /* N(0, 1/sqrt(in)) within two deviations, of that variance */
    BRT_INIT_GATE_KERNEL,  /* a tenth of that variance */
    BRT_INIT_TABLE,        /* N(0, 1/sqrt(in)): biases by distance */
    BRT_INIT_WAVES,        /* 2/in in the first half, of cosines; 0 in the second, of sines */
} brt_initialisation;

typedef struct brt_parameter {
    char name[96];
    brt_tensor tensor;    /* data in the parameters' memory, NULL if quantized; gradient in a trainer's */
    brt_initialisation initialisation;
    size_t fan_in;        /* the `in` above */
    double mean;          /* of BRT_INIT_SMALL_NORMAL */
    bool decays;          /* weight decay applies: matrices of linear layers */
    bool is_matrix;       /* something is multiplied with it */
    bool transposed;      /* files have its transpose, as Flax does */
    double skipped;       /* part of the tokens that do without it: 1 where it is used once for many (by states, by
                           * routes), less where some are chosen */
    brt_matrix *matrix;   /* of a matrix in F32, else NULL */
    size_t panel;         /* of its quantized form (tensor/quantized.h); 0: it is always F32 */
    brt_precision precision;
    brt_quantized quantized; /* unless the precision is F32 */
} brt_parameter;

/* Memory of packed weights: each call that enables something takes a stretch, for forward products in f32 or bf16 and
 * then perhaps for gradients. */
typedef struct brt_packed_memory {
    struct {
        real *pages;
        size_t bytes;
    } stretch[4];
    size_t count;
} brt_packed_memory;

typedef struct brt_parameters {
    brt_parameter *items;
    size_t count;
    real *memory; /* of those in F32 */
    size_t total; /* reals; every parameter begins at a multiple of 16 */
    brt_packed_memory *packed; /* of matrices */
} brt_parameters;

/* Chooses the precision of a parameter by its name and shape; asked only of those that can be quantized. */
typedef brt_precision brt_choose_precision(const void *context, const brt_parameter *parameter);

/* Declares every parameter of the configuration, in its arithmetic's order, and allocates them. choose NULL: in F32. */
brt_status brt_parameters_create(brt_parameters *parameters, const brt_config *config, brt_choose_precision *choose,
                                 const void *context);
void brt_parameters_close(brt_parameters *parameters);
/* What multiplies with the weights in F32. */
brt_status brt_parameters_create_matrices(brt_parameters *parameters, const brt_kernels *kernels);
/* Packs them, once set, for products in f32 or bf16 and, if asked for, their gradients: whoever is going to multiply
 * says so. Streams in different threads may. */
brt_status brt_parameters_enable(const brt_parameters *parameters, bool bf16, bool gradients);
/* Bytes that enabling will take. */
uint64_t brt_parameters_enabling_bytes(const brt_parameters *parameters, bool bf16, bool gradients);
/* Every packed weight anew, on `threads` threads. */
void brt_parameters_refresh(const brt_parameters *parameters, int threads);
/* The parameter "PREFIX.NAME"; NULL if there is none. */
brt_parameter *brt_parameters_find(const brt_parameters *parameters, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* A linear layer; bias may be NULL. */
brt_linear brt_parameter_linear(brt_parameter *weight, brt_parameter *bias);
brt_table brt_parameter_table(brt_parameter *rows);
/* Without packed forms. */
size_t brt_parameter_bytes(const brt_parameter *parameter);
/* The first that is quantized, NULL if all are in F32. */
const brt_parameter *brt_parameters_quantized(const brt_parameters *parameters);

/* Draws every parameter, all in F32; a value depends on (seed, parameter, index) alone. */
void brt_parameters_initialise(brt_parameters *parameters, uint64_t seed);

#endif
