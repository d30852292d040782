/* A directory of the test's own, and failures with the sentence that is expected. */
#ifndef BRT_TESTS_SCRATCH_H
#define BRT_TESTS_SCRATCH_H

#include "fixture.h"

#include <ftw.h>
#include <unistd.h>

static inline void expect_failure(brt_status status, brt_status expected, const char *part)
{
    if (status != expected || !strstr(brt_last_error(), part))
        fail_msg("%s, \"%s\"; expected %s with \"%s\"", brt_status_name(status), brt_last_error(),
                 brt_status_name(expected), part);
}

static char scratch[] = "/tmp/brt-test-XXXXXX";

static inline int enter_scratch(void **state)
{
    (void)state;
    return mkdtemp(scratch) && chdir(scratch) == 0 ? 0 : -1;
}

static inline int remove_entry(const char *path, const struct stat *info, int type, struct FTW *place)
{
    (void)info, (void)type, (void)place;
    return remove(path);
}

static inline int leave_scratch(void **state)
{
    (void)state;
    return chdir("/") == 0 ? nftw(scratch, remove_entry, 8, FTW_DEPTH | FTW_PHYS) : -1;
}

#endif
