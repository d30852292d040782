#include "kernels.h"

#include "peak.h"
#include "tables.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct candidate {
    const brt_kernels *table;
    bool (*runs_here)(void);
} candidate;

static bool always(void)
{
    return true;
}

#if defined(__x86_64__) && !defined(BRT_REAL_DOUBLE)
static bool has_avx2(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

static bool has_avx512(void)
{
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

static bool has_avx512_bf16(void)
{
    return has_avx512() && __builtin_cpu_supports("avx512bf16");
}
#endif

/* Every table of this build, from slowest to fastest. */
static const candidate candidates[] = {
    {&brt_kernels_generic, always},
#if !defined(BRT_REAL_DOUBLE)
#if defined(__x86_64__)
    {&brt_kernels_sse2, always},
    {&brt_kernels_avx2, has_avx2},
    {&brt_kernels_avx512, has_avx512},
    {&brt_kernels_avx512_bf16, has_avx512_bf16},
#elif defined(__aarch64__)
    {&brt_kernels_neon, always},
#endif
#endif
};

const brt_kernels *brt_kernels_at(size_t index)
{
    for (size_t i = 0; i < sizeof candidates / sizeof candidates[0]; i++)
        if (candidates[i].runs_here() && index-- == 0)
            return candidates[i].table;
    return NULL;
}

static pthread_once_t once = PTHREAD_ONCE_INIT;
static const brt_kernels *chosen; /* NULL: what was asked for does not exist */
static char asked_for[64];

static const brt_kernels *find_table(const char *name)
{
    const brt_kernels *table;
    for (size_t i = 0; (table = brt_kernels_at(i)) != NULL; i++)
        if (!strcmp(table->isa, name))
            return table;
    return NULL;
}

static const brt_kernels *fastest_table(void)
{
    const brt_kernels *fastest = NULL, *table;
    for (size_t i = 0; (table = brt_kernels_at(i)) != NULL; i++)
        fastest = table;
    return fastest;
}

static void choose(void)
{
    const char *name = getenv("BRT_ISA");
    snprintf(asked_for, sizeof asked_for, "%s", name ? name : "");
    chosen = asked_for[0] ? find_table(asked_for) : fastest_table();
}

static void list_tables(char *text, size_t size)
{
    const brt_kernels *table;
    size_t used = 0;
    for (size_t i = 0; (table = brt_kernels_at(i)) != NULL && used < size; i++)
        used += (size_t)snprintf(text + used, size - used, "%s%s", i ? ", " : "", table->isa);
}

brt_status brt_kernels_select(const brt_kernels **out)
{
    pthread_once(&once, choose);
    if (!chosen) {
        char available[128] = "";
        list_tables(available, sizeof available);
        return BRT_FAIL(BRT_ERROR_ARGUMENT, "BRT_ISA=%s: this processor and build have %s", asked_for, available);
    }
    *out = chosen;
    return BRT_OK;
}

const char *brt_isa(void)
{
    const brt_kernels *kernels = NULL;
    return brt_kernels_select(&kernels) == BRT_OK ? kernels->isa : "none";
}

bool brt_kernels_have_bf16(const brt_kernels *kernels)
{
#if defined(__x86_64__) && !defined(BRT_REAL_DOUBLE)
    return kernels == &brt_kernels_avx512_bf16;
#else
    (void)kernels;
    return false;
#endif
}

bool brt_bf16_peak(size_t rounds, float *result)
{
#if defined(__x86_64__) && !defined(BRT_REAL_DOUBLE)
    if (__builtin_cpu_supports("avx512bf16")) {
        brt_bf16_dot_products(rounds, result);
        return true;
    }
#endif
    (void)rounds, (void)result;
    return false;
}
