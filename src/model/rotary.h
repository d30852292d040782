/* Tables of the rotary position embedding with xPos, computed once per model. */
#ifndef BRT_MODEL_ROTARY_H
#define BRT_MODEL_ROTARY_H

#include "../ops/ops.h"

typedef struct brt_rotary {
    real *memory; /* the four tables */
    brt_rotation rotation;
} brt_rotary;

/* Positions [0, 2 * block_width): the memory holds the first half, the block the second. */
brt_status brt_rotary_create(brt_rotary *rotary, size_t dim_head, size_t block_width);
void brt_rotary_close(brt_rotary *rotary);

#endif
