/* Tables of the rotary position embedding with xPos, computed once per model. */
#ifndef BRT_MODEL_ROTARY_H
#define BRT_MODEL_ROTARY_H

#include "../ops/ops.h"

typedef struct brt_rotary {
    real *memory; /* the four tables */
    brt_rotation rotation;
} brt_rotary;

typedef enum brt_rotary_kind { BRT_ROTARY_XPOS, BRT_ROTARY_PLAIN, BRT_ROTARY_HALF_WAVES } brt_rotary_kind;

/* Positions of memory and block: `width` is where the block begins. */
brt_status brt_rotary_create(brt_rotary *rotary, size_t dim_head, size_t positions, size_t width, brt_rotary_kind kind);
void brt_rotary_close(brt_rotary *rotary);
/* The angle of wave `index` of `count` at a position: pi * position / longest^(index / count). */
double brt_half_wave(double position, size_t index, size_t count, double longest);

#endif
