/* Tables of the rotary position embedding with xPos, computed once per model. */
#ifndef BRT_MODEL_ROTARY_H
#define BRT_MODEL_ROTARY_H

#include "../ops/ops.h"

typedef struct brt_rotary {
    real *memory; /* the four tables */
    brt_rotation rotation;
} brt_rotary;

/* Positions of memory and block: `width` is where the block begins. Without `xpos` the length factors are 1. */
brt_status brt_rotary_create(brt_rotary *rotary, size_t dim_head, size_t positions, size_t width, bool xpos);
void brt_rotary_close(brt_rotary *rotary);

#endif
