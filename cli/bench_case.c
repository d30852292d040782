/* What brt bench measures, and how it takes times. */
#include "bench_sections.h"
#include "model_arguments.h"

#include <stdlib.h>
#include <string.h>

enum { most_repeats = 1000 };

brt_status bench_choose(bench *b, const cli_parsed *parsed)
{
    const bench_arguments *a = b->arguments;
    const char *preset = a->preset || cli_describes_model(parsed) ? a->preset : "reference";
    brt_config *config;
    b->run = brt_run_options_init();
    if (preset)
        CLI_TRY(brt_run_options_preset(&b->run, preset));
    CLI_TRY(cli_model_config(parsed, preset, a->config, &config));
    b->num_tokens = (size_t)brt_config_get(config, "num_tokens");
    b->segment = b->run.trainer.segment_blocks * (size_t)brt_config_get(config, "block_width");
    b->sample = b->run.crop_segments * (size_t)brt_config_get(config, "max_seq_len");
    b->sample = b->sample / b->segment * b->segment;
    b->sample = b->sample ? b->sample : b->segment;
    b->run.trainer.threads = a->threads;
    b->run.trainer.rows = a->batch ? a->batch : b->run.trainer.rows;
    /* Rows sent back to the start would have less to compute. */
    b->run.trainer.xl_memories_dropout = b->run.trainer.state_dropout = 0;
    brt_status status = brt_model_create(&b->model, config, 0);
    brt_config_close(config);
    return status == BRT_OK ? brt_model_measure(b->model, b->sample, b->segment, &b->costs) : status;
}

const char *bench_dtype_at(const bench *b, size_t index)
{
    static const char *const all[] = {"f32", "bf16"};
    size_t count = strcmp(brt_isa(), "avx512_bf16") == 0 ? 2 : 1;
    if (b->arguments->dtype)
        return index == 0 ? b->arguments->dtype : NULL;
    return index < count ? all[index] : NULL;
}

brt_status bench_with_weights(bench *b, bench_weights_work *work)
{
    static const char *const fewer_bits[] = {"bf16", "int8"};
    brt_status status = work(b, b->model, "f32");
    for (size_t i = 0; i < 2 && status == BRT_OK; i++) {
        brt_model *quantized;
        CLI_TRY(brt_model_quantize(&quantized, b->model, fewer_bits[i]));
        status = work(b, quantized, fewer_bits[i]);
        brt_model_close(quantized);
    }
    return status;
}

void bench_fill_tokens(int32_t *tokens, size_t count, size_t num_tokens)
{
    uint64_t x = 0x9e3779b97f4a7c15u;
    for (size_t i = 0; i < count; i++) {
        x = x * 6364136223846793005u + 1442695040888963407u;
        tokens[i] = (int32_t)((x >> 33) % num_tokens);
    }
}

/* ---- timing ------------------------------------------------------------------------------------------------------ */

static int by_value(const void *a, const void *b)
{
    const double *left = a, *right = b;
    return *left < *right ? -1 : *left > *right;
}

double bench_median(double *values, size_t count)
{
    qsort(values, count, sizeof values[0], by_value);
    return count % 2 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
}

brt_status bench_time(int threads, size_t repeats, bench_work *work, void *context, bench_timing *out)
{
    enum { seconds, peak_f32, peak_bf16, reads, gflop_f32, gflop_bf16, gbytes, figures };
    double of[figures][most_repeats];
    repeats = repeats < most_repeats ? repeats : most_repeats;
    for (size_t i = 0; i < repeats; i++) {
        CLI_TRY(brt_machine_measure(threads, &out->machine));
        double start = cli_seconds_now();
        CLI_TRY(work(context));
        of[seconds][i] = cli_seconds_now() - start;
        of[peak_f32][i] = out->machine.peak_f32_gflops;
        of[peak_bf16][i] = out->machine.peak_bf16_gflops;
        of[reads][i] = out->machine.read_gbytes_per_s;
        for (int figure = 0; figure < 3; figure++)
            of[gflop_f32 + figure][i] = of[seconds][i] * of[peak_f32 + figure][i];
    }
    *out = (bench_timing){.machine = {.threads = out->machine.threads,
                                      .peak_f32_gflops = bench_median(of[peak_f32], repeats),
                                      .peak_bf16_gflops = bench_median(of[peak_bf16], repeats),
                                      .read_gbytes_per_s = bench_median(of[reads], repeats)},
                          .seconds = bench_median(of[seconds], repeats),
                          .possible_f32_gflop = bench_median(of[gflop_f32], repeats),
                          .possible_bf16_gflop = bench_median(of[gflop_bf16], repeats),
                          .possible_gbytes = bench_median(of[gbytes], repeats)};
    return BRT_OK;
}
