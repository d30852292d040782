/* Optimisers over all parameters of a model: the gradient and its norm, and the methods that update weights from it. */
#ifndef BRT_TRAIN_OPTIMIZER_H
#define BRT_TRAIN_OPTIMIZER_H

#include "../model/parameters.h"

enum { BRT_MOST_MOMENTS = 3 };

typedef struct brt_optimizer brt_optimizer;

/* What a method keeps of a parameter from update to update. */
typedef struct brt_moment {
    const char *kind; /* "first_moment" */
    size_t dims, shape[BRT_MAX_DIMS];
    real *data;
} brt_moment;
/* One number for each of the parameter's. */
brt_moment brt_moment_like(const char *kind, const brt_parameter *parameter, real *data);

/* A method is a file. */
typedef struct brt_method {
    /* Reals that it keeps, all 0 at first. */
    size_t (*reals)(const brt_parameters *parameters);
    /* The moments of a parameter; returns how many. */
    size_t (*moments)(const brt_optimizer *optimizer, const brt_parameter *parameter,
                      brt_moment moments[BRT_MOST_MOMENTS]);
    /* Updates the weights with the gradient times gradient_scale, and zeroes it. */
    void (*update)(brt_optimizer *optimizer, double learning_rate, double gradient_scale);
} brt_method;
extern const brt_method brt_adam, brt_adafactor;
/* Of "adamw", "adam" or "adafactor"; NULL for another name. */
const brt_method *brt_method_find(const char *name);

struct brt_optimizer {
    const brt_method *method;
    const brt_kernels *kernels;
    brt_parameters *parameters;
    int threads;
    real *gradient;   /* laid out as the parameters' memory */
    real *kept;       /* the method's */
    double *partial;  /* sums of squares of the parts */
    size_t parts;
    uint64_t step;    /* updates done, the one under way included */
    float beta1, beta2, epsilon, weight_decay, clip;
};

/* Bytes of gradients and moments. */
uint64_t brt_optimizer_bytes(const brt_method *method, const brt_parameters *parameters);
/* Gives every parameter a gradient. */
brt_status brt_optimizer_create(brt_optimizer *optimizer, const brt_method *method, const brt_kernels *kernels,
                                brt_parameters *parameters, int threads);
void brt_optimizer_close(brt_optimizer *optimizer);
/* Norm of the whole gradient. */
double brt_optimizer_norm(brt_optimizer *optimizer);
/* Clips to `clip` (norm as computed above), updates, zeroes the gradient. */
void brt_optimizer_update(brt_optimizer *optimizer, float learning_rate, double norm);

/* ---- for methods ---------------------------------------------------------------------------------------------- */

/* Where a parameter's numbers begin in the parameters' memory, and in what has its layout. */
size_t brt_optimizer_offset(const brt_optimizer *optimizer, const brt_parameter *parameter);
/* Stretches of one parameter each, [0, parts), for one task each. */
typedef struct brt_part {
    const brt_parameter *parameter;
    size_t offset, count; /* offset in the parameters' memory */
} brt_part;
brt_part brt_optimizer_part(const brt_optimizer *optimizer, size_t index);
/* The sum of squares of the numbers of a parameter, or as many. */
double brt_optimizer_squares(brt_optimizer *optimizer, const real *x, size_t count);

#endif
