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

static brt_status create_t5(brt_positions *p, const brt_config *config, const brt_parameters *parameters)
{
    for (size_t layer = 0; layer < (size_t)config->depth; layer++)
        p->tables[layer] = &brt_parameters_find(parameters, "layers.%zu.0.rel_pos_bias.weight", layer)->tensor;
    p->basis = calloc(BRT_T5_BUCKETS * p->span, sizeof *p->basis);
    if (!p->basis)
        return BRT_FAIL(BRT_ERROR_MEMORY, "out of memory for the biases of %zu positions", p->span);
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
    p->basis = calloc(p->span, sizeof *p->basis);
    if (!p->basis)
        return BRT_FAIL(BRT_ERROR_MEMORY, "out of memory for %zu distances", p->span);
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

/* ---- all -------------------------------------------------------------------------------------------------------- */

brt_status brt_positions_create(brt_positions *positions, const brt_config *config, const brt_parameters *parameters,
                                size_t memory_keys)
{
    positions->encoding = (brt_position_encoding)config->position_encoding;
    positions->heads = (size_t)config->heads;
    positions->span = memory_keys + (size_t)config->block_width;
    switch (positions->encoding) {
    case BRT_POSITION_XPOS:
    case BRT_POSITION_ROTARY:
        return brt_rotary_create(&positions->rotary, (size_t)config->dim_head, positions->span, memory_keys,
                                 positions->encoding == BRT_POSITION_XPOS);
    case BRT_POSITION_T5:
        return create_t5(positions, config, parameters);
    case BRT_POSITION_DYNAMIC:
        return create_dynamic(positions, parameters);
    case BRT_POSITION_ALIBI:
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
    switch (positions->encoding) {
    case BRT_POSITION_T5:
        return brt_op_distance_bias(tape, positions->tables[layer], positions->basis, positions->span);
    case BRT_POSITION_DYNAMIC:
        return dynamic_bias(tape, positions);
    case BRT_POSITION_ALIBI:
        return brt_op_alibi(tape, brt_tape_external(tape, &one, NULL, BRT_SHAPE(1)), NULL, (real)INFINITY,
                            positions->heads, positions->span);
    case BRT_POSITION_XPOS:
    case BRT_POSITION_ROTARY:
    case BRT_POSITION_NONE:
        return NULL;
    }
    return NULL;
}

bool brt_positions_have_bias(const brt_positions *positions)
{
    return positions->encoding == BRT_POSITION_T5 || brt_positions_shared(positions);
}

bool brt_positions_shared(const brt_positions *positions)
{
    return positions->encoding == BRT_POSITION_DYNAMIC || positions->encoding == BRT_POSITION_ALIBI;
}
