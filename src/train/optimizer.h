/* Adam and AdamW over all parameters of a model. */
#ifndef BRT_TRAIN_OPTIMIZER_H
#define BRT_TRAIN_OPTIMIZER_H

#include "../model/parameters.h"

typedef struct brt_optimizer {
    const brt_kernels *kernels;
    brt_parameters *parameters;
    int threads;
    real *gradient, *first, *second; /* laid out as the parameters' memory */
    double *partial;                 /* sums of squares of the parts */
    size_t parts;
    uint64_t step;                   /* updates done */
    float beta1, beta2, epsilon, weight_decay, clip;
} brt_optimizer;

/* Bytes of gradients and moments. */
size_t brt_optimizer_bytes(const brt_parameters *parameters);
/* Gives every parameter a gradient. */
brt_status brt_optimizer_create(brt_optimizer *optimizer, const brt_kernels *kernels, brt_parameters *parameters,
                                int threads);
void brt_optimizer_close(brt_optimizer *optimizer);
/* Norm of the whole gradient. */
double brt_optimizer_norm(brt_optimizer *optimizer);
/* Clips to `clip` (norm as computed above), updates, zeroes the gradient. */
void brt_optimizer_update(brt_optimizer *optimizer, float learning_rate, double norm);

#endif
