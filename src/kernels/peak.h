/* What the measurement of the arithmetic peak and its kernels agree on. */
#ifndef BRT_KERNELS_PEAK_H
#define BRT_KERNELS_PEAK_H

#include "../base/real.h"

#include <stdbool.h>
#include <stddef.h>

/* Independent sums of one round, each of one vector: at most 4 cycles of latency times 2 units are to be hidden, and
 * sets with 16 registers must hold them all. */
enum { BRT_PEAK_CHAINS = 12 };

/* x = x * factor + term stays finite and normal for ever. Chain i starts at start + i: equal ones would be computed
 * once, and one that starts where it ends, at 2, never. */
static const real brt_peak_factor = (real)0.5, brt_peak_term = (real)1.0, brt_peak_start = (real)0.5;

/* The same with bf16 dot products: each of BRT_BF16_CHAINS instructions of a round multiplies and adds BRT_BF16_PAIRS
 * pairs. They have more latency, and there are 32 registers wherever they are. False, and nothing done, where the
 * processor has no such instruction. */
enum { BRT_BF16_CHAINS = 24, BRT_BF16_PAIRS = 32 };
bool brt_bf16_peak(size_t rounds, float *result);

#endif
