/* Sizes from outside go through checked arithmetic. */
#ifndef BRT_BASE_SIZE_H
#define BRT_BASE_SIZE_H

#include <stdbool.h>
#include <stddef.h>

/* *out = a * b; false when it overflows. */
static inline bool brt_mul_ok(size_t a, size_t b, size_t *out)
{
    return !__builtin_mul_overflow(a, b, out);
}

static inline bool brt_add_ok(size_t a, size_t b, size_t *out)
{
    return !__builtin_add_overflow(a, b, out);
}

static inline size_t brt_min_size(size_t a, size_t b)
{
    return a < b ? a : b;
}

static inline size_t brt_max_size(size_t a, size_t b)
{
    return a > b ? a : b;
}

static inline size_t brt_ceil_div(size_t a, size_t b)
{
    return a / b + (a % b != 0);
}

#endif
