/* Large stretches of memory: whole pages of zeros, or a plain refusal. */
#include "base/memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void pages_are_zero_and_the_callers(void **state)
{
    static const size_t sizes[] = {0, 1, 4096, 4097, (2 << 20) - 1, 2 << 20, (2 << 20) + 1, 5 << 20};
    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        unsigned char *pages = brt_pages_take(sizes[i]);
        assert_non_null(pages);
        assert_int_equal((uintptr_t)pages % 4096, 0);
        for (size_t j = 0; j < sizes[i]; j++) {
            assert_int_equal(pages[j], 0);
            pages[j] = 7;
        }
        brt_pages_give(pages, sizes[i]);
    }
    brt_pages_give(NULL, 1);
}

static void what_no_machine_has_is_refused(void **state)
{
    (void)state;
    assert_null(brt_pages_take(SIZE_MAX / 4));
    assert_null(brt_pages_take(SIZE_MAX));
    assert_int_equal(brt_memory_check(UINT64_MAX / 2, "wishes"), BRT_ERROR_MEMORY);
    assert_int_equal(brt_memory_check(1, "wishes"), BRT_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pages_are_zero_and_the_callers),
        cmocka_unit_test(what_no_machine_has_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
