/* Counter-based random numbers (Philox 4x32-10, Salmon et al. 2011): every value is a function of a key and a
 * position, so any number of threads draws the same numbers, and a resumed run needs no generator state. */
#ifndef BRT_BASE_RNG_H
#define BRT_BASE_RNG_H

#include <stdint.h>

/* Four 32-bit words for (seed, stream, index). `stream` separates uses of one seed. */
void brt_rng_words(uint64_t seed, uint64_t stream, uint64_t index, uint32_t words[4]);
/* Uniform in [0, 1). */
double brt_rng_uniform(uint64_t seed, uint64_t stream, uint64_t index);
/* Standard normal (Box-Muller). */
double brt_rng_normal(uint64_t seed, uint64_t stream, uint64_t index);
/* Uniform in [0, bound), without bias worth naming (64-bit multiply-shift). */
uint64_t brt_rng_below(uint64_t seed, uint64_t stream, uint64_t index, uint64_t bound);

#endif
