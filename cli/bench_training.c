/* brt bench training: a step (forward, backward, clip, update), and where its time goes. */
#include "bench_sections.h"

#include <stdlib.h>
#include <string.h>

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

static brt_status time_steps(training *t, bench_steps *out)
{
    const bench *b = t->b;
    size_t rows = t->options.rows;
    bench_fill_tokens(t->tokens, rows * b->sample, b->num_tokens);
    memset(t->reset, true, rows * sizeof *t->reset);
    CLI_TRY(train_step(t)); /* warms up */
    CLI_TRY(bench_time(t->options.threads, b->arguments->repeats, train_step, t, &out->timing));
    out->count = 0;
    while (out->count < bench_most_operations &&
           brt_trainer_profile(t->trainer, out->count, &out->operations[out->count]))
        out->count++;
    return BRT_OK;
}

brt_status bench_time_training(const bench *b, const char *dtype, int threads, bench_steps *out)
{
    training t = {.b = b, .options = b->run.trainer};
    t.options.dtype = dtype;
    t.options.threads = threads;
    t.options.profile = true;
    CLI_TRY(brt_trainer_open(&t.trainer, b->model, &t.options));
    t.tokens = calloc(t.options.rows * b->sample, sizeof *t.tokens);
    t.reset = calloc(t.options.rows, sizeof *t.reset);
    brt_status status = t.tokens && t.reset ? time_steps(&t, out) : cli_out_of_memory("the benchmark");
    brt_trainer_close(t.trainer);
    free(t.tokens);
    free(t.reset);
    return status;
}

/* ---- figures ----------------------------------------------------------------------------------------------------- */

static brt_status add_step(bench *b, const char *dtype, const bench_timing *timing)
{
    size_t rows = b->run.trainer.rows;
    bool bf16 = strcmp(dtype, "bf16") == 0;
    double gflop = 1e-9 * (double)b->costs.train_flops_per_sample * (double)rows;
    return bench_add(b, "training",
                     json_pack("{s:s, s:I, s:I, s:i, s:f, s:f, s:f, s:f}", "dtype", dtype, "batch", (json_int_t)rows,
                               "sample_tokens", (json_int_t)b->sample, "threads", timing->machine.threads,
                               "seconds_per_step", timing->seconds, "tokens_per_s",
                               (double)(rows * b->sample) / timing->seconds, "peak_gflops",
                               bf16 ? timing->machine.peak_bf16_gflops : timing->machine.peak_f32_gflops,
                               "fraction_of_peak",
                               gflop / (bf16 ? timing->possible_bf16_gflop : timing->possible_f32_gflop)));
}

double bench_operation_seconds(const brt_profile_entry *entry)
{
    return entry->forward_seconds + entry->backward_seconds;
}

static int by_time(const void *a, const void *b)
{
    double left = bench_operation_seconds(a), right = bench_operation_seconds(b);
    return left < right ? 1 : left > right ? -1 : 0;
}

/* Per second, or nothing where there is none of it. */
static json_t *rate(double amount, double seconds)
{
    return amount > 0 ? json_real(1e-9 * amount / seconds) : json_null();
}

static brt_status add_operations(bench *b, const char *dtype, bench_steps *steps)
{
    double whole = 0;
    for (size_t i = 0; i < steps->count; i++)
        whole += bench_operation_seconds(&steps->operations[i]);
    qsort(steps->operations, steps->count, sizeof steps->operations[0], by_time);
    for (size_t i = 0; i < steps->count; i++) {
        const brt_profile_entry *entry = &steps->operations[i];
        double seconds = bench_operation_seconds(entry);
        CLI_TRY(bench_add(b, "training_operations",
                          json_pack("{s:s, s:s, s:f, s:o, s:o}", "dtype", dtype, "operation", entry->name,
                                    "fraction_of_step", seconds / whole, "gflops", rate(entry->flops, seconds),
                                    "gbytes_per_s", rate(entry->bytes, seconds))));
    }
    return BRT_OK;
}

static brt_status run(bench *b)
{
    const char *dtype;
    for (size_t i = 0; (dtype = bench_dtype_at(b, i)) != NULL; i++) {
        bench_steps steps;
        CLI_TRY(bench_time_training(b, dtype, b->arguments->threads, &steps));
        CLI_TRY(add_step(b, dtype, &steps.timing));
        CLI_TRY(add_operations(b, dtype, &steps));
    }
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
                 {"gflops", "GFLOP/s", BENCH_NUMBER},
                 {"gbytes_per_s", "GB/s", BENCH_NUMBER}}}},
};
