/* Reading the fixtures under tests/golden, and comparing with them. */
#ifndef BRT_TESTS_FIXTURE_H
#define BRT_TESTS_FIXTURE_H

#include <brt/brt.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define assert_ok(expression)                                                                          \
    do {                                                                                               \
        brt_status assert_ok_status_ = (expression);                                                   \
        if (assert_ok_status_ != BRT_OK)                                                               \
            fail_msg("%s: %s: %s", #expression, brt_status_name(assert_ok_status_), brt_last_error()); \
    } while (0)

/* "TEST_DATA/case/file" in a static buffer. */
static inline const char *fixture_path(const char *name, const char *file)
{
    static char path[4][1024];
    static int turn;
    turn = (turn + 1) % 4;
    snprintf(path[turn], sizeof path[turn], "%s/%s/%s", BRT_TEST_DATA, name, file);
    return path[turn];
}

static inline brt_tensors *open_tensors(const char *name, const char *file)
{
    brt_tensors *tensors;
    assert_ok(brt_tensors_open(&tensors, fixture_path(name, file)));
    return tensors;
}

/* Token tensor K, any integer type of 4 or 8 bytes, as a fresh array; NULL past the last. */
static inline int32_t *read_tokens(const brt_tensors *tensors, const char *tensor, size_t *rows, size_t *time)
{
    brt_tensor_info info;
    if (brt_tensors_find(tensors, tensor, &info) != BRT_OK)
        return NULL;
    assert_int_equal(info.dims, 2);
    *rows = info.shape[0];
    *time = info.shape[1];
    int32_t *tokens = malloc(info.count * sizeof *tokens);
    for (size_t i = 0; i < info.count; i++) {
        int64_t wide;
        int32_t narrow;
        if (strcmp(info.dtype, "I64") == 0) {
            memcpy(&wide, (const char *)info.data + i * sizeof wide, sizeof wide);
            narrow = (int32_t)wide;
        } else {
            memcpy(&narrow, (const char *)info.data + i * sizeof narrow, sizeof narrow);
        }
        tokens[i] = narrow;
    }
    return tokens;
}

/* Largest |a - b|, with b from a file. NaN anywhere gives infinity. */
static inline double largest_difference(const float *a, const brt_tensor_info *b)
{
    double largest = 0;
    for (size_t i = 0; i < b->count; i++) {
        float expected;
        memcpy(&expected, (const char *)b->data + i * sizeof expected, sizeof expected);
        double difference = fabs((double)a[i] - (double)expected);
        if (!(difference <= largest))
            largest = isnan(difference) ? (double)INFINITY : difference;
    }
    return largest;
}

/* |a - b| / |b| as vectors; |a| where b is 0. */
static inline double relative_difference(const float *a, const brt_tensor_info *b)
{
    double difference = 0, norm = 0;
    for (size_t i = 0; i < b->count; i++) {
        float expected;
        memcpy(&expected, (const char *)b->data + i * sizeof expected, sizeof expected);
        difference += ((double)a[i] - (double)expected) * ((double)a[i] - (double)expected);
        norm += (double)expected * (double)expected;
    }
    /* However small the tensor, 1e-6 is rounding. */
    return norm > 0 ? sqrt(difference) / fmax(sqrt(norm), 0.01) : sqrt(difference);
}

#endif
