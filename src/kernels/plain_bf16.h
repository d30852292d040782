/* A part of plain.c: bf16 numbers, the upper halves of floats. */
#ifndef BRT_KERNELS_PLAIN_BF16_H
#define BRT_KERNELS_PLAIN_BF16_H

#include "kernels.h"

#include <math.h>
#include <string.h>

static real value_of_bf16(uint32_t half)
{
    uint32_t bits = half << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return (real)value;
}

static uint32_t bf16_of(real x)
{
    float value = (float)x;
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    uint32_t rounded = bits + 0x7fff + (bits >> 16 & 1), quiet = bits | 0x400000;
    return (isnan(value) ? quiet : rounded) >> 16;
}

#endif
