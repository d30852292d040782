#include "schedule.h"

#include <math.h>
#include <string.h>

static const char *const names[] = {
    "constant",        "cosine",      "rsqrt",        "rsqrt_decay_std",
    "rsqrt_decay",     "cosine_decay", "cosine_decay_spike", "linear_decay",
};
static const double pi = 3.14159265358979323846;

brt_status brt_schedule_parse(const char *name, brt_schedule_kind *out)
{
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(name, names[i]) == 0) {
            *out = (brt_schedule_kind)i;
            return BRT_OK;
        }
    return BRT_FAIL(BRT_ERROR_ARGUMENT,
                    "there is no schedule \"%s\"; there are constant, cosine, rsqrt, and the original's: "
                    "rsqrt_decay_std, rsqrt_decay, cosine_decay, cosine_decay_spike and linear_decay",
                    name);
}

static double cosine(double fraction)
{
    return 0.5 * (1 + cos(pi * fmin(1, fraction)));
}

/* ---- the original's ---------------------------------------------------------------------------------------- */

static const double largest = 0.01, smallest = 0.001;

/* From the largest rate to the smallest as `shape` falls from 1 to 0; past the end halved once more in every run's
 * length. */
static double fall(double shape, double ramp)
{
    return ramp < 1 ? smallest + (largest - smallest) * shape : 2 * smallest * pow(0.5, ramp);
}

/* At `step`, a `ramp` part of the run. */
static double original_rate(brt_schedule_kind kind, double step, double ramp)
{
    const double spike = 0.04, spike_steps = 10000;
    switch (kind) {
    case BRT_SCHEDULE_RSQRT_DECAY_STD:
        return 1 / sqrt(fmax(step, 100));
    case BRT_SCHEDULE_RSQRT_DECAY:
        return fmin(0.05, smallest / sqrt(fmax(step, 100) / fmax(step, 1) * ramp));
    case BRT_SCHEDULE_COSINE_DECAY_SPIKE:
        return fmax(fall(cosine(ramp), ramp), spike * (1 - step / spike_steps));
    case BRT_SCHEDULE_LINEAR_DECAY:
        return fall(1 - ramp, ramp);
    default:
        return fall(cosine(ramp), ramp);
    }
}

/* The step stands still during the warm-up; the first update has the rate 0. */
static double warmed_original_rate(const brt_schedule *schedule, double step, double fraction)
{
    double warmup = (double)schedule->warmup, held = fmax(step, warmup);
    double rate = original_rate(schedule->kind, held, schedule->steps ? held / (double)schedule->steps : fraction);
    return rate * (warmup > 0 ? fmin(step, warmup) / warmup : 1);
}

/* ---- rates ------------------------------------------------------------------------------------------------- */

float brt_schedule_rate(const brt_schedule *schedule, uint64_t step, double fraction)
{
    double peak = (double)schedule->peak, floor = (double)schedule->floor, warmup = (double)schedule->warmup;
    if (schedule->kind >= BRT_SCHEDULE_RSQRT_DECAY_STD)
        return (float)(peak * warmed_original_rate(schedule, (double)step, fraction));
    if (step < schedule->warmup)
        return (float)(peak * (double)(step + 1) / warmup);
    if (schedule->kind == BRT_SCHEDULE_COSINE)
        return (float)(floor + (peak - floor) * cosine(fraction));
    if (schedule->kind == BRT_SCHEDULE_RSQRT) /* continuous at the end of the warm-up */
        return (float)(peak * sqrt(fmax(warmup, 1) / fmax((double)(step + 1), fmax(warmup, 1))));
    return schedule->peak;
}
