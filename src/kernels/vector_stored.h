/* Numbers kept in fewer bits, bf16 or 8-bit integers, and the largest of many scores. */
#ifndef BRT_KERNELS_VECTOR_STORED_H
#define BRT_KERNELS_VECTOR_STORED_H

#include "vector.h"

/* ---- widening ------------------------------------------------------------------------------------------ */

#if defined(__AVX512F__) && BRT_VECTOR_BYTES == 64

static inline vec vec_widen_bf16(const uint16_t *p)
{
    return (vec)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(const void *)p)), 16);
}

static inline vec vec_widen_int8(const int8_t *p)
{
    return (vec)_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(const void *)p)));
}

#elif defined(__AVX2__) && BRT_VECTOR_BYTES == 32

static inline vec vec_widen_bf16(const uint16_t *p)
{
    return (vec)_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(const void *)p)), 16);
}

static inline vec vec_widen_int8(const int8_t *p)
{
    return (vec)_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)p)));
}

#else

typedef int8_t bytes16 __attribute__((vector_size(16)));
typedef uint16_t halves8 __attribute__((vector_size(16)));
typedef int64_t longs2 __attribute__((vector_size(16)));

/* Zeros below each half. */
static inline vec vec_widen_bf16(const uint16_t *p)
{
    int64_t four;
    memcpy(&four, p, sizeof four);
    return (vec)__builtin_shufflevector((halves8){0}, (halves8)(longs2){four}, 0, 8, 1, 9, 2, 10, 3, 11);
}

/* Each byte four times in its lane, of which the highest stays, with its sign. */
static inline vec vec_widen_int8(const int8_t *p)
{
    int32_t four;
    memcpy(&four, p, sizeof four);
    bytes16 bytes = (bytes16)(ivec4){four};
    halves8 twice =
        (halves8)__builtin_shufflevector(bytes, bytes, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    ivec4 spread = (ivec4)__builtin_shufflevector(twice, twice, 0, 8, 1, 9, 2, 10, 3, 11);
    return __builtin_convertvector(spread >> 24, vec);
}

#endif

/* A whole vector while `left` allows, then what is left, and zeros. */
static inline vec vec_widen_bf16_upto(const uint16_t *p, size_t left)
{
    if (left >= lanes)
        return vec_widen_bf16(p);
    uint16_t last[lanes] = {0};
    memcpy(last, p, left * sizeof *p);
    return vec_widen_bf16(last);
}

static void widen_bf16(size_t n, const uint16_t *x, real *y)
{
    for (size_t i = 0; i < n; i += lanes)
        vec_store_upto(y + i, n - i, vec_widen_bf16_upto(x + i, n - i));
}

static void widen_int8(size_t n, const int8_t *x, real *y)
{
    int8_t last[lanes] = {0};
    size_t i = 0;
    for (; i + lanes <= n; i += lanes)
        vec_store(y + i, vec_widen_int8(x + i));
    if (i == n)
        return;
    memcpy(last, x + i, (n - i) * sizeof *x);
    vec_store_part(y + i, n - i, vec_widen_int8(last));
}

/* ---- rounding ------------------------------------------------------------------------------------------ */

typedef int8_t byte_vec __attribute__((vector_size(BRT_VECTOR_BYTES / 4)));

static float largest_size(size_t n, const float *x)
{
    vec most = {0};
    for (size_t i = 0; i < n; i += lanes) {
        vec v = vec_load_upto(x + i, n - i);
        most = vec_max(vec_max(v, -v), most);
    }
    return vec_largest(most);
}

/* Adding 1.5 * 2^23 rounds to an integer. */
static inline byte_vec vec_round_to_bytes(vec v)
{
    const float rounder = 12582912.0f;
    return __builtin_convertvector(__builtin_convertvector((v + rounder) - rounder, ivec), byte_vec);
}

static void to_int8(size_t rows, size_t dim, const real *x, size_t x_stride, int8_t *y, real *scale)
{
    for (size_t r = 0; r < rows; r++, x += x_stride, y += dim) {
        float most = largest_size(dim, x), inverse = most > 1e-30f ? 127 / most : 0;
        scale[r] = most / 127;
        for (size_t i = 0; i < dim; i += lanes) {
            size_t left = dim - i < lanes ? dim - i : lanes;
            byte_vec part = vec_round_to_bytes(vec_load_upto(x + i, dim - i) * inverse);
            memcpy(y + i, &part, left);
        }
    }
}

static void scale_columns(size_t m, size_t n, const real *factor, const real *x, size_t x_stride, real *y,
                          size_t y_stride, bool accumulate)
{
    for (size_t i = 0; i < m; i++, x += x_stride, y += y_stride)
        for (size_t j = 0; j < n; j += lanes) {
            size_t left = n - j;
            vec product = vec_load_upto(x + j, left) * vec_load_upto(factor + j, left);
            vec_store_upto(y + j, left, accumulate ? vec_load_upto(y + j, left) + product : product);
        }
}

/* ---- the largest of many ---------------------------------------------------------------------------------- */

static void collect_least(size_t n, real least, const real *x, uint32_t *list, size_t *count)
{
    size_t found = 0;
    for (size_t i = 0; i < n; i += lanes) {
        unsigned bits = vec_mask_bits(~(vec_load_upto(x + i, n - i) < least));
        if (n - i < lanes)
            bits &= (1u << (n - i)) - 1;
        for (; bits; bits &= bits - 1)
            list[found++] = (uint32_t)(i + (size_t)__builtin_ctz(bits));
    }
    *count = found;
}

#endif
