/* Rotary position embedding (Su et al. 2021) with the length factors of xPos (Sun et al. 2022):
 *   angle[t][j] = t * 10000^(-2j / dim),
 *   zeta[j] = (2j + 0.4 dim) / (1.4 dim),  factor[t][j] = zeta[j]^((t - width) / 512)
 * for j < dim / 2, repeated for the second half. Queries carry the factor, keys its inverse, so a product carries
 * zeta^(distance / 512) <= 1. Exponents are relative to the block's start (t - width), which keeps both within float's
 * range for blocks of up to 30,000 tokens. The arithmetic is in `real`, step by step the reference's.
 * The code of Hutchins et al. 2022 has half-waves, angle[t][j] = pi t 10000^(-2j / dim), and no factors. */
#include "rotary.h"

#include "../base/memory.h"
#include "../base/size.h"

#include <math.h>
#include <stdlib.h>

static const real frequency_base = 10000, scale_base = 512;

/* One row of the four tables: position t, of `dim` entries each. */
static void fill_row(real *const tables[4], size_t dim, size_t width, brt_rotary_kind kind, size_t t)
{
    size_t half = dim / 2;
    for (size_t j = 0; j < half; j++) {
        real frequency = 1 / (real)pow((double)frequency_base, (double)((real)(2 * j) / (real)dim));
        double angle = kind == BRT_ROTARY_HALF_WAVES ? brt_half_wave((double)t - (double)width, j, half, 10000)
                                                     : (double)((real)t * frequency);
        real zeta = ((real)(2 * j) + (real)0.4 * (real)dim) / ((real)1.4 * (real)dim);
        real power = ((real)t - (real)width) / scale_base;
        real factor = kind == BRT_ROTARY_XPOS ? (real)pow((double)zeta, (double)power) : 1;
        real cosine = (real)cos(angle), sine = (real)sin(angle);
        real values[4] = {cosine * factor, sine * factor, cosine / factor, sine / factor};
        for (int table = 0; table < 4; table++)
            tables[table][t * dim + j] = tables[table][t * dim + half + j] = values[table];
    }
}

double brt_half_wave(double position, size_t index, size_t count, double longest)
{
    return 3.14159265358979323846 * position * pow(longest, -(double)index / (double)count);
}

brt_status brt_rotary_create(brt_rotary *rotary, size_t dim_head, size_t positions, size_t width, brt_rotary_kind kind)
{
    size_t count, bytes;
    if (!brt_mul_ok(positions, dim_head, &count) || !brt_mul_ok(count, 4 * sizeof(real), &bytes))
        return BRT_FAIL(BRT_ERROR_CONFIG, "\"block_width\" (%zu) is too large", width);
    BRT_TRY(brt_memory_check(bytes, "position tables of \"block_width\""));
    rotary->memory = malloc(bytes);
    if (!rotary->memory)
        return BRT_FAIL(BRT_ERROR_MEMORY, "out of memory for the position tables of %zu positions", positions);
    real *tables[4];
    for (int table = 0; table < 4; table++)
        tables[table] = rotary->memory + (size_t)table * count;
    for (size_t t = 0; t < positions; t++)
        fill_row(tables, dim_head, width, kind, t);
    rotary->rotation = (brt_rotation){tables[0], tables[1], tables[2], tables[3]};
    return BRT_OK;
}

void brt_rotary_close(brt_rotary *rotary)
{
    free(rotary->memory);
    rotary->memory = NULL;
}
