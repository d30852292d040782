/* What cannot be measured is said; what is measured is all there. */
#include <brt/bench.h>

#include "kernels/kernels.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

static void every_table_has_a_speed(void **state)
{
    (void)state;
    for (size_t i = 0; i < brt_kernel_count(); i++) {
        brt_kernel_speeds speeds;
        assert_int_equal(brt_kernel_measure(i, &speeds), BRT_OK);
        for (size_t set = 0; set < speeds.sets; set++) {
            assert_string_equal(speeds.isa[set], brt_kernels_at(set)->isa);
            assert_true(speeds.speed[set] > 0);
        }
        assert_null(brt_kernels_at(speeds.sets));
    }
}

static void no_kernel_past_the_last(void **state)
{
    brt_kernel_speeds speeds;
    (void)state;
    assert_int_equal(brt_kernel_measure(brt_kernel_count(), &speeds), BRT_ERROR_ARGUMENT);
    assert_non_null(strstr(brt_last_error(), "there is no kernel"));
}

static void impossible_attention_is_refused(void **state)
{
    static const brt_attention_case cases[] = {
        {0, 16, 16, 1, 8, false, "f32", 1},        {1, 16, 0, 1, 8, false, "f32", 1},
        {1, 16, 16, 1, 8, false, "f16", 1},        {1, 16, 15, 1, 8, true, "f32", 1},
        {1, 16, 16, 1, 8, false, "f32", -1},
    };
    brt_attention_speed speed;
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_int_equal(brt_attention_measure(&cases[i], &speed), BRT_ERROR_ARGUMENT);
    brt_attention_case large = {SIZE_MAX / 2, SIZE_MAX / 2, SIZE_MAX / 2, 8, 64, false, "f32", 1};
    assert_int_equal(brt_attention_measure(&large, &speed), BRT_ERROR_MEMORY);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_table_has_a_speed),
        cmocka_unit_test(no_kernel_past_the_last),
        cmocka_unit_test(impossible_attention_is_refused),
    };
    return cmocka_run_group_tests_name("bench", tests, NULL, NULL);
}
