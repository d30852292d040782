/* Room for numbers, and normal ones to fill it. */
#ifndef BRT_TESTS_NORMAL_DRAWS_H
#define BRT_TESTS_NORMAL_DRAWS_H

#include "base/rng.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>

/* Bytes that are 0; the caller's. */
static inline void *make(size_t bytes)
{
    void *memory = calloc(bytes + 1, 1);
    assert_non_null(memory);
    return memory;
}

/* `count` floats, the same for the same stream of random numbers; the caller's. */
static inline float *draw(size_t count, uint64_t stream, double spread)
{
    float *x = make(count * sizeof *x);
    for (size_t i = 0; i < count; i++)
        x[i] = (float)(spread * brt_rng_normal(1, stream, i));
    return x;
}

#endif
