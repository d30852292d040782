#include "positions.h"

#include "../base/memory.h"
#include "../base/size.h"

#include <math.h>
#include <stdlib.h>

/* ---- T5 (Raffel et al. 2020): half of the buckets for a distance each, the others for logarithmic ranges -------- */

static size_t t5_bucket(size_t distance)
{
    size_t exact = BRT_T5_BUCKETS / 2;
    if (distance < exact)
        return distance;
    double position = log((double)distance / (double)exact) / log((double)BRT_T5_DISTANCE / (double)exact);
    return brt_min_size(exact + (size_t)(position * (double)(BRT_T5_BUCKETS - exact)), BRT_T5_BUCKETS - 1);
}

static brt_status allocate_basis(brt_positions *p, size_t rows, size_t columns)
{
    size_t count;
    if (!brt_mul_ok(rows, columns, &count))
        return BRT_FAIL(BRT_ERROR_CONFIG, "positions of %zu by %zu numbers are too large", rows, columns);
    BRT_TRY(brt_memory_check(count * sizeof *p->basis, "position tables"));
    p->basis = calloc(count, sizeof *p->basis);
    return p->basis ? BRT_OK : BRT_FAIL(BRT_ERROR_MEMORY, "out of memory for %zu numbers of positions", count);
}

/* A parameter of every layer, under the name that its arithmetic gives it; absent ones are NULL. */
static void find_tables(brt_tensor **tables, const brt_config *config, const brt_parameters *parameters,
                        const char *paper_name)
{
    for (size_t layer = 0; layer < (size_t)config->depth; layer++) {
        brt_parameter *found =
            config->arithmetic == BRT_ARITHMETIC_PAPER
                ? brt_parameters_find(parameters, "transformer%zu/relative_positions/%s", layer, paper_name)
                : brt_parameters_find(parameters, "layers.%zu.0.rel_pos_bias.weight", layer);
        tables[layer] = found ? &found->tensor : NULL;
    }
}

static brt_status create_t5(brt_positions *p, const brt_config *config, const brt_parameters *parameters)
{
    find_tables(p->tables, config, parameters, "rel_embedding");
    BRT_TRY(allocate_basis(p, BRT_T5_BUCKETS, p->span));
    for (size_t distance = 0; distance < p->span; distance++)
        p->basis[t5_bucket(distance) * p->span + distance] = 1;
    return BRT_OK;
}

/* ---- dynamic: an MLP of the distance, as the reference had it up to 0.0.18 -------------------------------------- */

static brt_status create_dynamic(brt_positions *p, const brt_parameters *parameters)
{
    static const char *const names[] = {"0", "2", "4"};
    for (size_t i = 0; i < 3; i++)
        p->mlp[i] = brt_parameter_linear(brt_parameters_find(parameters, "dynamic_pos_bias_mlp.%s.weight", names[i]),
                                         brt_parameters_find(parameters, "dynamic_pos_bias_mlp.%s.bias", names[i]));
    BRT_TRY(allocate_basis(p, 1, p->span));
    for (size_t distance = 0; distance < p->span; distance++)
        p->basis[distance] = (real)distance;
    return BRT_OK;
}

/* silu(silu(distance W0 + b0) W1 + b1) W2 + b2, [span, heads], transposed */
static brt_tensor *dynamic_bias(brt_tape *tape, const brt_positions *p)
{
    brt_tensor *x = brt_tape_external(tape, p->basis, NULL, BRT_SHAPE(p->span, 1));
    x = brt_op_silu(tape, brt_op_linear(tape, x, &p->mlp[0], NULL));
    x = brt_op_silu(tape, brt_op_linear(tape, x, &p->mlp[1], NULL));
    return brt_op_transpose(tape, brt_op_linear(tape, x, &p->mlp[2], NULL));
}

/* ---- the paper's ------------------------------------------------------------------------------------------------ */

/* A key's wave times a query's, turned by the complex factor a + ib of its frequency: for the distance d
 * a cos(angle d) - b sin(angle d). */
static brt_status create_fourier(brt_positions *p, const brt_config *config, const brt_parameters *parameters)
{
    enum { waves = BRT_FOURIER_WIDTH / 2 };
    find_tables(p->tables, config, parameters, "rotation_matrix");
    BRT_TRY(allocate_basis(p, BRT_FOURIER_WIDTH, p->span));
    for (size_t i = 0; i < waves; i++)
        for (size_t d = 0; d < p->span; d++) {
            double angle = brt_half_wave((double)d, i, waves, 2 * (double)config->block_width);
            p->basis[i * p->span + d] = (real)cos(angle);
            p->basis[(waves + i) * p->span + d] = (real)-sin(angle);
        }
    return BRT_OK;
}

static brt_status create_alibi(brt_positions *p, const brt_config *config, const brt_parameters *parameters)
{
    find_tables(p->tables, config, parameters, "_wrapped_module/scale");
    find_tables(p->bounds, config, parameters, "_wrapped_module/bound");
    p->fixed_bound = config->alibi_bound > 0 ? (real)config->alibi_bound : (real)INFINITY;
    return BRT_OK;
}

static void create_nn(brt_positions *p, const brt_config *config, const brt_parameters *parameters)
{
    find_tables(p->weights, config, parameters, "dense_1_kernel");
    find_tables(p->shifts, config, parameters, "bias");
    find_tables(p->tables, config, parameters, "dense_2_kernel");
}

enum { grid = 4096, grid_steps = 4 }; /* points at which curves are made orthogonal, so many between two distances */

/* Makes the i-th of the curves [i + 1, points] orthogonal on the grid to those before it, all along. */
static void make_orthogonal(double *curves, size_t points, size_t i)
{
    double *curve = curves + i * points;
    for (size_t j = 0; j < i; j++) {
        const double *before = curves + j * points;
        double along = 0, length = 0;
        for (size_t t = 0; t < grid; t++) {
            along += curve[t] * before[t];
            length += before[t] * before[t];
        }
        for (size_t t = 0; t < points; t++)
            curve[t] -= along / length * before[t];
    }
}

/* Curves asinh(d - (base^i - 1)) of the distance, i < terms, the last one's middle at position_end; made orthogonal
 * over distances up to 1024 by the method of Gram and Schmidt, and not scaled: the original's f R^-1, whose R has ones
 * in its diagonal. */
static brt_status create_orthogonal(brt_positions *p, const brt_config *config, const brt_parameters *parameters)
{
    size_t terms = (size_t)config->position_terms, points = grid + p->span;
    find_tables(p->tables, config, parameters, "orthogonal_basis_coeffs");
    BRT_TRY(allocate_basis(p, terms, p->span));
    double *curves = malloc(terms * points * sizeof *curves);
    if (!curves)
        return BRT_FAIL(BRT_ERROR_MEMORY, "out of memory for %zu curves of positions", terms);
    for (size_t i = 0; i < terms; i++) {
        double middle = pow(config->position_end + 1, (double)i / (double)(terms - 1)) - 1;
        for (size_t t = 0; t < points; t++)
            curves[i * points + t] = asinh((t < grid ? (double)t / grid_steps : (double)(t - grid)) - middle);
        make_orthogonal(curves, points, i);
        for (size_t d = 0; d < p->span; d++)
            p->basis[i * p->span + d] = (real)curves[i * points + grid + d];
    }
    free(curves);
    return BRT_OK;
}

/* Cosines, then sines, of positions in a segment. */
static brt_status create_absolute(brt_positions *p, const brt_config *config)
{
    size_t dim = (size_t)config->dim, half = dim / 2;
    BRT_TRY(allocate_basis(p, (size_t)config->max_seq_len, dim));
    for (size_t t = 0; t < (size_t)config->max_seq_len; t++)
        for (size_t i = 0; i < half; i++) {
            double angle = brt_half_wave((double)t, i, half, 10000);
            p->basis[t * dim + i] = (real)cos(angle);
            p->basis[t * dim + half + i] = (real)sin(angle);
        }
    return BRT_OK;
}

/* ---- all -------------------------------------------------------------------------------------------------------- */

brt_status brt_positions_create(brt_positions *positions, const brt_config *config, const brt_parameters *parameters,
                                size_t memory_keys)
{
    positions->encoding = (brt_position_encoding)config->position_encoding;
    positions->heads = (size_t)config->heads;
    positions->span = memory_keys + (size_t)config->block_width;
    brt_rotary_kind rotary = positions->encoding == BRT_POSITION_XPOS     ? BRT_ROTARY_XPOS
                             : config->arithmetic == BRT_ARITHMETIC_PAPER ? BRT_ROTARY_HALF_WAVES
                                                                          : BRT_ROTARY_PLAIN;
    switch (positions->encoding) {
    case BRT_POSITION_XPOS:
    case BRT_POSITION_ROTARY:
        return brt_rotary_create(&positions->rotary, (size_t)config->dim_head, positions->span, memory_keys, rotary);
    case BRT_POSITION_T5:
        return create_t5(positions, config, parameters);
    case BRT_POSITION_DYNAMIC:
        return create_dynamic(positions, parameters);
    case BRT_POSITION_FOURIER:
        return create_fourier(positions, config, parameters);
    case BRT_POSITION_ABSOLUTE:
        return create_absolute(positions, config);
    case BRT_POSITION_ALIBI:
        return create_alibi(positions, config, parameters);
    case BRT_POSITION_ORTHOGONAL:
        return create_orthogonal(positions, config, parameters);
    case BRT_POSITION_NN:
        create_nn(positions, config, parameters);
        return BRT_OK;
    case BRT_POSITION_NONE:
        return BRT_OK;
    }
    return BRT_OK;
}

void brt_positions_close(brt_positions *positions)
{
    brt_rotary_close(&positions->rotary);
    free(positions->basis);
    positions->basis = NULL;
}

const brt_rotation *brt_positions_rotation(const brt_positions *positions)
{
    return positions->rotary.memory ? &positions->rotary.rotation : NULL;
}

brt_tensor *brt_positions_bias(brt_tape *tape, const brt_positions *positions, size_t layer)
{
    static real one = 1; /* ALiBi's slopes as they were published, without a bound */
    brt_tensor *scale = positions->tables[layer];
    switch (positions->encoding) {
    case BRT_POSITION_T5:
    case BRT_POSITION_FOURIER:
    case BRT_POSITION_ORTHOGONAL:
        return brt_op_distance_bias(tape, positions->tables[layer], positions->basis, positions->span);
    case BRT_POSITION_DYNAMIC:
        return dynamic_bias(tape, positions);
    case BRT_POSITION_ALIBI:
        return brt_op_alibi(tape, scale ? scale : brt_tape_external(tape, &one, NULL, BRT_SHAPE(1)),
                            positions->bounds[layer], positions->fixed_bound, positions->heads, positions->span);
    case BRT_POSITION_NN:
        return brt_op_network_bias(tape, positions->weights[layer], positions->shifts[layer], positions->tables[layer],
                                   positions->span);
    case BRT_POSITION_XPOS:
    case BRT_POSITION_ROTARY:
    case BRT_POSITION_ABSOLUTE:
    case BRT_POSITION_NONE:
        return NULL;
    }
    return NULL;
}

bool brt_positions_have_bias(const brt_positions *positions)
{
    return positions->encoding == BRT_POSITION_DYNAMIC || positions->encoding == BRT_POSITION_ALIBI ||
           positions->encoding == BRT_POSITION_T5 || positions->encoding == BRT_POSITION_FOURIER ||
           positions->encoding == BRT_POSITION_NN || positions->encoding == BRT_POSITION_ORTHOGONAL;
}

bool brt_positions_shared(const brt_positions *positions)
{
    return positions->encoding == BRT_POSITION_DYNAMIC ||
           (positions->encoding == BRT_POSITION_ALIBI && !positions->tables[0]);
}
