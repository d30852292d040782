/* The parameters of a model: names and shapes of the reference's state_dict(), in one stretch of memory. */
#ifndef BRT_MODEL_PARAMETERS_H
#define BRT_MODEL_PARAMETERS_H

#include "../tensor/gemm.h"
#include "../tensor/tape.h"
#include "config.h"

/* The distributions a parameter starts from. */
typedef enum brt_initialisation {
    BRT_INIT_ONES,
    BRT_INIT_NORMAL,       /* N(0, 1): embedding, state ids */
    BRT_INIT_SMALL_NORMAL, /* N(mean, 0.1): initial state, gate (PR #7 of the reference, after the paper) */
    BRT_INIT_LINEAR,       /* U(-1/sqrt(in), 1/sqrt(in)): PyTorch's Linear, weight and bias */
} brt_initialisation;

typedef struct brt_parameter {
    char name[96];
    brt_tensor tensor;    /* data in the parameters' memory; gradient in a trainer's */
    brt_initialisation initialisation;
    size_t fan_in;        /* of BRT_INIT_LINEAR */
    double mean;          /* of BRT_INIT_SMALL_NORMAL */
    bool decays;          /* weight decay applies: matrices of linear layers */
    brt_matrix *matrix;   /* of a linear layer's weight, else NULL */
} brt_parameter;

typedef struct brt_parameters {
    brt_parameter *items;
    size_t count;
    real *memory;
    size_t total; /* reals; every parameter begins at a multiple of 16 */
} brt_parameters;

/* Declares every parameter of the configuration, in the reference's order, and allocates them. */
brt_status brt_parameters_create(brt_parameters *parameters, const brt_config *config);
void brt_parameters_close(brt_parameters *parameters);
/* Packed forms of the linear weights, to be refreshed when the weights have been set. */
brt_status brt_parameters_pack(brt_parameters *parameters, brt_gemm *gemm);
/* Every packed weight anew, on `threads` threads. */
brt_status brt_parameters_refresh(const brt_parameters *parameters, int threads);
/* The parameter "PREFIX.NAME"; NULL if there is none. */
brt_parameter *brt_parameters_find(const brt_parameters *parameters, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Draws every parameter; a value depends on (seed, parameter, index) alone. */
void brt_parameters_initialise(brt_parameters *parameters, uint64_t seed);

#endif
