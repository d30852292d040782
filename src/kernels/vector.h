/* A vector of BRT_VECTOR_BYTES bytes and the few things that GCC's vector extensions (+ - * / & | ^ < and shifts work
 * on whole vectors) leave out. The first part is the same for every set; the second uses an instruction where the set
 * has the very thing. Included once per instruction set by vector.c: everything is static. */
#ifndef BRT_KERNELS_VECTOR_H
#define BRT_KERNELS_VECTOR_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

typedef float vec __attribute__((vector_size(BRT_VECTOR_BYTES)));
typedef int32_t ivec __attribute__((vector_size(BRT_VECTOR_BYTES)));
typedef uint32_t uvec __attribute__((vector_size(BRT_VECTOR_BYTES)));
typedef float vec4 __attribute__((vector_size(16)));
typedef int32_t ivec4 __attribute__((vector_size(16)));

enum { lanes = BRT_VECTOR_BYTES / sizeof(float) };

static inline vec vec_load(const float *p)
{
    vec v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline void vec_store(float *p, vec v)
{
    memcpy(p, &v, sizeof v);
}

static inline vec vec_splat(float x)
{
    return x - (vec){0};
}

static inline ivec vec_bits(vec v)
{
    return (ivec)v;
}

/* mask ? a : b by lane; a mask's lanes are 0 or all ones, as comparisons give them. */
static inline vec vec_select(ivec mask, vec a, vec b)
{
    return (vec)((mask & (ivec)a) | (~mask & (ivec)b));
}

/* 0, 1, 2, ... */
static inline ivec vec_index(void)
{
    ivec index;
    for (int i = 0; i < lanes; i++)
        index[i] = i;
    return index;
}

/* v in the first `count` lanes, `other` in the rest */
static inline vec vec_first(size_t count, vec v, vec other)
{
    return vec_select(vec_index() < (int32_t)count, v, other);
}

static inline vec4 load4(const float *p)
{
    vec4 v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline void store4(float *p, vec4 v)
{
    memcpy(p, &v, sizeof v);
}

/* The sum of a vector's quarters of 4 lanes (halves, or itself). */
static inline vec4 vec_fold(vec v)
{
    vec4 parts[lanes / 4];
    memcpy(parts, &v, sizeof parts);
    vec4 sum = parts[0];
    for (int i = 1; i < lanes / 4; i++)
        sum += parts[i];
    return sum;
}

/* The sum of all lanes, always in this order. */
static inline float vec_sum(vec v)
{
    vec4 sum = vec_fold(v);
    return (sum[0] + sum[2]) + (sum[1] + sum[3]);
}

static inline vec4 larger4(vec4 a, vec4 b)
{
    ivec4 mask = a > b;
    return (vec4)((mask & (ivec4)a) | (~mask & (ivec4)b));
}

/* The larger of a vector's quarters of 4 lanes, lane by lane. */
static inline vec4 vec_fold_largest(vec v)
{
    vec4 parts[lanes / 4];
    memcpy(parts, &v, sizeof parts);
    vec4 most = parts[0];
    for (int i = 1; i < lanes / 4; i++)
        most = larger4(most, parts[i]);
    return most;
}

/* The largest of all lanes. */
static inline float vec_largest(vec v)
{
    vec4 most = vec_fold_largest(v);
    float first = most[0] > most[2] ? most[0] : most[2], second = most[1] > most[3] ? most[1] : most[3];
    return first > second ? first : second;
}

/* The largest lanes of four vectors. */
static inline vec4 vec_largest_four(const vec v[4])
{
    vec4 a = vec_fold_largest(v[0]), b = vec_fold_largest(v[1]), c = vec_fold_largest(v[2]);
    vec4 d = vec_fold_largest(v[3]);
    vec4 ab = larger4(__builtin_shufflevector(a, b, 0, 4, 1, 5), __builtin_shufflevector(a, b, 2, 6, 3, 7));
    vec4 cd = larger4(__builtin_shufflevector(c, d, 0, 4, 1, 5), __builtin_shufflevector(c, d, 2, 6, 3, 7));
    return larger4(__builtin_shufflevector(ab, cd, 0, 1, 4, 5), __builtin_shufflevector(ab, cd, 2, 3, 6, 7));
}

/* ---- what sets do differently ------------------------------------------------------------------------ */

/* vec_max(a, b) is b where either is not a number (as the x86 instruction has it), vec_min too.
 * vec_load_part reads only the first `count` < lanes lanes, the rest are 0; vec_store_part writes only those.
 * vec_mask_bits has bit i set where lane i of a mask is. */

#if defined(__AVX512F__) && BRT_VECTOR_BYTES == 64

static inline vec vec_max(vec a, vec b)
{
    return (vec)_mm512_max_ps((__m512)a, (__m512)b);
}

static inline vec vec_min(vec a, vec b)
{
    return (vec)_mm512_min_ps((__m512)a, (__m512)b);
}

static inline vec vec_sqrt(vec v)
{
    return (vec)_mm512_sqrt_ps((__m512)v);
}

static inline vec vec_load_part(const float *p, size_t count)
{
    return (vec)_mm512_maskz_loadu_ps((__mmask16)((1u << count) - 1), p);
}

static inline void vec_store_part(float *p, size_t count, vec v)
{
    _mm512_mask_storeu_ps(p, (__mmask16)((1u << count) - 1), (__m512)v);
}

static inline unsigned vec_mask_bits(ivec mask)
{
    return (unsigned)_mm512_movepi32_mask((__m512i)mask);
}

#elif defined(__AVX__) && BRT_VECTOR_BYTES == 32

static inline vec vec_max(vec a, vec b)
{
    return (vec)_mm256_max_ps((__m256)a, (__m256)b);
}

static inline vec vec_min(vec a, vec b)
{
    return (vec)_mm256_min_ps((__m256)a, (__m256)b);
}

static inline vec vec_sqrt(vec v)
{
    return (vec)_mm256_sqrt_ps((__m256)v);
}

static inline vec vec_load_part(const float *p, size_t count)
{
    return (vec)_mm256_maskload_ps(p, (__m256i)(vec_index() < (int32_t)count));
}

static inline void vec_store_part(float *p, size_t count, vec v)
{
    _mm256_maskstore_ps(p, (__m256i)(vec_index() < (int32_t)count), (__m256)v);
}

static inline unsigned vec_mask_bits(ivec mask)
{
    return (unsigned)_mm256_movemask_ps((__m256)mask);
}

#else

static inline vec vec_max(vec a, vec b)
{
    return vec_select(a > b, a, b);
}

static inline vec vec_min(vec a, vec b)
{
    return vec_select(a < b, a, b);
}

static inline vec vec_sqrt(vec v)
{
    vec root;
    for (int i = 0; i < lanes; i++)
        root[i] = sqrtf(v[i]);
    return root;
}

static inline vec vec_load_part(const float *p, size_t count)
{
    vec v = {0};
    for (size_t i = 0; i < count; i++)
        v[i] = p[i];
    return v;
}

static inline void vec_store_part(float *p, size_t count, vec v)
{
    for (size_t i = 0; i < count; i++)
        p[i] = v[i];
}

static inline unsigned vec_mask_bits(ivec mask)
{
    unsigned bits = 0;
    for (int i = 0; i < lanes; i++)
        bits |= (unsigned)(mask[i] & 1) << i;
    return bits;
}

#endif

/* The sums of four vectors, each as vec_sum has it: half of the time of a product with short rows. */
#if defined(__AVX512F__) && BRT_VECTOR_BYTES == 64

static inline vec4 vec_sum_four(const vec v[4])
{
    __m512 low01 = _mm512_shuffle_f32x4((__m512)v[0], (__m512)v[1], 0x44); /* quarters 0 and 1 of each */
    __m512 low23 = _mm512_shuffle_f32x4((__m512)v[2], (__m512)v[3], 0x44);
    __m512 high01 = _mm512_shuffle_f32x4((__m512)v[0], (__m512)v[1], 0xee); /* 2 and 3 */
    __m512 high23 = _mm512_shuffle_f32x4((__m512)v[2], (__m512)v[3], 0xee);
    vec sum = (vec)_mm512_shuffle_f32x4(low01, low23, 0x88); /* quarter 0 of all four */
    sum += (vec)_mm512_shuffle_f32x4(low01, low23, 0xdd);
    sum += (vec)_mm512_shuffle_f32x4(high01, high23, 0x88);
    sum += (vec)_mm512_shuffle_f32x4(high01, high23, 0xdd);
    sum += (vec)_mm512_permute_ps((__m512)sum, 0x4e); /* lanes 2, 3, 0, 1 of each quarter */
    sum += (vec)_mm512_permute_ps((__m512)sum, 0xb1); /* 1, 0, 3, 2 */
    return (vec4)_mm512_castps512_ps128(_mm512_maskz_compress_ps(0x1111, (__m512)sum));
}

#else

static inline vec4 vec_sum_four(const vec v[4])
{
    vec4 a = vec_fold(v[0]), b = vec_fold(v[1]), c = vec_fold(v[2]), d = vec_fold(v[3]);
    vec4 ab = __builtin_shufflevector(a, b, 0, 4, 1, 5) + __builtin_shufflevector(a, b, 2, 6, 3, 7);
    vec4 cd = __builtin_shufflevector(c, d, 0, 4, 1, 5) + __builtin_shufflevector(c, d, 2, 6, 3, 7);
    return __builtin_shufflevector(ab, cd, 0, 1, 4, 5) + __builtin_shufflevector(ab, cd, 2, 3, 6, 7);
}

#endif

/* ---- loops over rows of any length --------------------------------------------------------------------- */

/* For loops `for (i = 0; i < n; i += lanes)`: a whole vector while `left` = n - i allows, then what is left. */
static inline vec vec_load_upto(const float *p, size_t left)
{
    return left >= lanes ? vec_load(p) : vec_load_part(p, left);
}

static inline void vec_store_upto(float *p, size_t left, vec v)
{
    if (left >= lanes)
        vec_store(p, v);
    else
        vec_store_part(p, left, v);
}

/* Zeros the lanes that a vec_load_upto(.., left) did not load. */
static inline vec vec_zero_beyond(size_t left, vec v)
{
    return left >= lanes ? v : vec_first(left, v, (vec){0});
}

#endif
