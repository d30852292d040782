#include "schedule.h"

#include <math.h>
#include <string.h>

brt_status brt_schedule_parse(const char *name, brt_schedule_kind *out)
{
    static const char *const names[] = {"constant", "cosine", "rsqrt"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(name, names[i]) == 0) {
            *out = (brt_schedule_kind)i;
            return BRT_OK;
        }
    return BRT_FAIL(BRT_ERROR_ARGUMENT, "there is no schedule \"%s\"; there are constant, cosine and rsqrt", name);
}

float brt_schedule_rate(const brt_schedule *schedule, uint64_t step, double fraction)
{
    double peak = (double)schedule->peak, floor = (double)schedule->floor, warmup = (double)schedule->warmup;
    if (step < schedule->warmup)
        return (float)(peak * (double)(step + 1) / warmup);
    switch (schedule->kind) {
    case BRT_SCHEDULE_CONSTANT:
        break;
    case BRT_SCHEDULE_COSINE:
        return (float)(floor + (peak - floor) * 0.5 * (1 + cos(3.14159265358979323846 * fmin(1, fraction))));
    case BRT_SCHEDULE_RSQRT: /* continuous at the end of the warm-up */
        return (float)(peak * sqrt(fmax(warmup, 1) / fmax((double)(step + 1), fmax(warmup, 1))));
    }
    return schedule->peak;
}
