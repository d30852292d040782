/* Numbers in bf16, two in 32 bits. */
#ifndef BRT_KERNELS_VECTOR_PAIRS_H
#define BRT_KERNELS_VECTOR_PAIRS_H

#include "vector.h"
#include "vector_stored.h"

typedef uint32_t uvec __attribute__((vector_size(BRT_VECTOR_BYTES)));
typedef uint16_t short_vec __attribute__((vector_size(BRT_VECTOR_BYTES / 2)));
typedef uint16_t wide_short_vec __attribute__((vector_size(BRT_VECTOR_BYTES)));

#if defined(__AVX512BF16__) && BRT_VECTOR_BYTES == 64

/* The numbers of both, those of `first` in the first half. */
static inline wide_short_vec vec_to_bf16(vec first, vec second)
{
    return (wide_short_vec)_mm512_cvtne2ps_pbh((__m512)second, (__m512)first);
}

/* Lane by lane, `first` in the lower halves. */
static inline uvec vec_pair(vec first, vec second)
{
    wide_short_vec turns;
    for (int i = 0; i < 2 * lanes; i++)
        turns[i] = (uint16_t)(i / 2 + i % 2 * lanes);
    return (uvec)_mm512_permutexvar_epi16((__m512i)turns, (__m512i)vec_to_bf16(first, second));
}

#else

/* In the lower halves. */
static inline uvec round_to_bf16(vec v)
{
    uvec bits = (uvec)v, rounded = bits + 0x7fff + (bits >> 16 & 1), quiet = bits | 0x400000;
    uvec is_number = (uvec)(v == v);
    return ((is_number & rounded) | (~is_number & quiet)) >> 16;
}

static inline wide_short_vec vec_to_bf16(vec first, vec second)
{
    short_vec halves[2] = {__builtin_convertvector(round_to_bf16(first), short_vec),
                           __builtin_convertvector(round_to_bf16(second), short_vec)};
    wide_short_vec both;
    memcpy(&both, halves, sizeof both);
    return both;
}

static inline uvec vec_pair(vec first, vec second)
{
    return round_to_bf16(first) | round_to_bf16(second) << 16;
}

#endif

/* Both vectors while `left` allows, then what is left. */
static inline void vec_store_bf16_upto(uint16_t *p, size_t left, vec first, vec second)
{
    wide_short_vec part = vec_to_bf16(first, second);
    if (left >= 2 * lanes)
        memcpy(p, &part, sizeof part);
    else
        memcpy(p, &part, left * sizeof *p);
}

static void to_bf16(size_t n, const real *x, uint16_t *y)
{
    for (size_t i = 0; i < n; i += 2 * lanes) {
        size_t left = n - i;
        vec second = left > lanes ? vec_load_upto(x + i + lanes, left - lanes) : (vec){0};
        vec_store_bf16_upto(y + i, left, vec_load_upto(x + i, left), second);
    }
}

/* As many pairs of a vector as `left` allows. */
static inline void vec_store_pairs_upto(uint32_t *p, size_t left, uvec pairs)
{
    vec_store_upto((float *)(void *)p, left, (vec)pairs);
}

/* Two rows lane by lane, `first` in the lower halves; second NULL: 0 */
static inline void interleave(size_t columns, const uint16_t *first, const uint16_t *second, uint32_t *pairs)
{
    for (size_t i = 0; i < columns; i += lanes) {
        size_t left = columns - i;
        uvec low = (uvec)vec_widen_bf16_upto(first + i, left) >> 16;
        uvec high = second ? (uvec)vec_widen_bf16_upto(second + i, left) : (uvec){0};
        vec_store_pairs_upto(pairs + i, left, low | high);
    }
}

static void pair_rows(size_t rows, size_t columns, const real *x, size_t x_stride, uint32_t *y, size_t y_stride)
{
    for (size_t r = 0; r < rows; r += 2, x += 2 * x_stride, y += y_stride)
        for (size_t i = 0; i < columns; i += lanes) {
            size_t left = columns - i;
            vec second = r + 1 < rows ? vec_load_upto(x + x_stride + i, left) : (vec){0};
            vec_store_pairs_upto(y + i, left, vec_pair(vec_load_upto(x + i, left), second));
        }
}

static void pair_rounded_rows(size_t rows, size_t columns, const uint16_t *x, size_t x_stride, uint32_t *y,
                              size_t y_stride)
{
    for (size_t r = 0; r < rows; r += 2, x += 2 * x_stride, y += y_stride)
        interleave(columns, x, r + 1 < rows ? x + x_stride : NULL, y);
}

/* sum + the two products of each lane's pairs */
static inline vec add_pair_products(vec sum, vec a, vec b)
{
#if defined(__AVX512BF16__) && BRT_VECTOR_BYTES == 64
    return (vec)_mm512_dpbf16_ps((__m512)sum, (__m512bh)a, (__m512bh)b);
#else
    sum += (vec)((uvec)a << 16) * (vec)((uvec)b << 16);
    return sum + (vec)((uvec)a & 0xffff0000) * (vec)((uvec)b & 0xffff0000);
#endif
}

#endif
