/* Buffers of floats for one trial of a kernel, freed together, and what draws their contents. */
#ifndef BRT_TESTS_BUFFERS_H
#define BRT_TESTS_BUFFERS_H

#include "base/rng.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

enum { most_buffers = 64 };
static struct {
    float *memory[most_buffers];
    size_t count;
    uint64_t drawn;
} pool;

static inline void free_buffers(void)
{
    while (pool.count > 0)
        free(pool.memory[--pool.count]);
}

/* `count` floats that start 0 to 3 floats after an aligned address and end with their allocation. */
static inline float *make(size_t count)
{
    size_t skip = pool.count % 4;
    assert_true(pool.count < most_buffers);
    float *memory = malloc((count + skip + 1) * sizeof *memory);
    assert_non_null(memory);
    memory = realloc(memory, (count + skip) * sizeof *memory + (count + skip == 0));
    pool.memory[pool.count++] = memory;
    return memory + skip;
}

static inline float draw(float low, float high)
{
    return low + (high - low) * (float)brt_rng_uniform(1, 2, pool.drawn++);
}

static inline float *make_random(size_t count, float low, float high)
{
    float *x = make(count);
    for (size_t i = 0; i < count; i++)
        x[i] = draw(low, high);
    return x;
}

static inline float *copy(size_t count, const float *x)
{
    float *y = make(count);
    memcpy(y, x, count * sizeof *y);
    return y;
}

#endif
