/* brt bench training: a step (forward, backward, clip, update), and where its time goes. */
#include "bench_sections.h"

#include <stdlib.h>
#include <string.h>

enum { most_operations = 64 };

typedef struct training {
    const bench *b;
    brt_trainer_options options;
    brt_trainer *trainer;
    int32_t *tokens; /* [segments, rows, segment] */
    bool *reset;     /* [rows] */
} training;

/* One sample per row, read from the start in segments, and the update. */
static brt_status train_step(void *context)
{
    const training *t = context;
    const bench *b = t->b;
    double loss, norm;
    for (size_t first = 0; first < b->sample; first += b->segment) {
        size_t offset = first * t->options.rows;
        brt_segment segment = {.time = b->segment,
                               .tokens = t->tokens + offset,
                               .targets = t->tokens + offset,
                               .reset = first == 0 ? t->reset : NULL,
                               .weight = (float)b->segment / (float)b->sample};
        CLI_TRY(brt_trainer_segment(t->trainer, &segment, &loss, NULL));
    }
    return brt_trainer_update(t->trainer, t->options.learning_rate, &norm);
}

static brt_status add_step(bench *b, const training *t, const bench_timing *timing)
{
    size_t rows = t->options.rows;
    bool bf16 = strcmp(t->options.dtype, "bf16") == 0;
    double gflop = 1e-9 * (double)b->costs.train_flops_per_sample * (double)rows;
    return bench_add(b, "training",
                     json_pack("{s:s, s:I, s:I, s:i, s:f, s:f, s:f, s:f}", "dtype", t->options.dtype, "batch",
                               (json_int_t)rows, "sample_tokens", (json_int_t)b->sample, "threads",
                               timing->machine.threads, "seconds_per_step", timing->seconds, "tokens_per_s",
                               (double)(rows * b->sample) / timing->seconds, "peak_gflops",
                               bf16 ? timing->machine.peak_bf16_gflops : timing->machine.peak_f32_gflops,
                               "fraction_of_peak",
                               gflop / (bf16 ? timing->possible_bf16_gflop : timing->possible_f32_gflop)));
}

/* ---- where the time goes ----------------------------------------------------------------------------------------- */

static double seconds_of(const brt_profile_entry *entry)
{
    return entry->forward_seconds + entry->backward_seconds;
}

static int by_time(const void *a, const void *b)
{
    double left = seconds_of(a), right = seconds_of(b);
    return left < right ? 1 : left > right ? -1 : 0;
}

static brt_status add_operations(bench *b, const training *t)
{
    brt_profile_entry entries[most_operations];
    size_t count = 0;
    double whole = 0;
    for (; count < most_operations && brt_trainer_profile(t->trainer, count, &entries[count]); count++)
        whole += seconds_of(&entries[count]);
    qsort(entries, count, sizeof entries[0], by_time);
    for (size_t i = 0; i < count; i++) {
        const brt_profile_entry *entry = &entries[i];
        CLI_TRY(bench_add(b, "training_operations",
                          json_pack("{s:s, s:s, s:f, s:o}", "dtype", t->options.dtype, "operation", entry->name,
                                    "fraction_of_step", seconds_of(entry) / whole, "gflops",
                                    entry->flops > 0 ? json_real(1e-9 * entry->flops / seconds_of(entry))
                                                     : json_null())));
    }
    return BRT_OK;
}

/* ---- the section ------------------------------------------------------------------------------------------------- */

static brt_status measure(bench *b, training *t)
{
    size_t rows = t->options.rows;
    bench_timing timing;
    bench_fill_tokens(t->tokens, rows * b->sample, b->num_tokens);
    memset(t->reset, true, rows * sizeof *t->reset);
    CLI_TRY(train_step(t)); /* warms up */
    CLI_TRY(bench_time(b->arguments->threads, b->arguments->repeats, train_step, t, &timing));
    CLI_TRY(add_step(b, t, &timing));
    return add_operations(b, t);
}

static brt_status measure_dtype(bench *b, const char *dtype)
{
    training t = {.b = b, .options = b->run.trainer};
    t.options.dtype = dtype;
    t.options.profile = true;
    CLI_TRY(brt_trainer_open(&t.trainer, b->model, &t.options));
    t.tokens = calloc(t.options.rows * b->sample, sizeof *t.tokens);
    t.reset = calloc(t.options.rows, sizeof *t.reset);
    brt_status status = t.tokens && t.reset ? measure(b, &t) : cli_out_of_memory("the benchmark");
    brt_trainer_close(t.trainer);
    free(t.tokens);
    free(t.reset);
    return status;
}

static brt_status run(bench *b)
{
    const char *dtype;
    for (size_t i = 0; (dtype = bench_dtype_at(b, i)) != NULL; i++)
        CLI_TRY(measure_dtype(b, dtype));
    return BRT_OK;
}

const bench_section bench_training = {
    .name = "training",
    .usual = true,
    .run = run,
    .tables = {{"training",
                "A training step; matrix products counted as the PyTorch package computes them",
                {{"dtype", "type", BENCH_TEXT},
                 {"batch", "batch", BENCH_INTEGER},
                 {"sample_tokens", "tokens per row", BENCH_INTEGER},
                 {"threads", "threads", BENCH_INTEGER},
                 {"seconds_per_step", "seconds per step", BENCH_NUMBER},
                 {"tokens_per_s", "tokens per second", BENCH_COUNT},
                 {"peak_gflops", "peak GFLOP/s", BENCH_NUMBER},
                 {"fraction_of_peak", "of peak", BENCH_PERCENT}}},
               {"training_operations",
                "Where the time goes",
                {{"dtype", "type", BENCH_TEXT},
                 {"operation", "operation", BENCH_TEXT},
                 {"fraction_of_step", "of the step", BENCH_PERCENT},
                 {"gflops", "GFLOP/s", BENCH_NUMBER}}}},
};
