/* brt bench: a training step and decoding, as fractions of what the machine can do. */
#define _GNU_SOURCE
#include "commands.h"
#include "model_arguments.h"
#include "output.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct bench_arguments {
    const char *preset, *config, *dtype, *isa;
    size_t batch, repeats;
    int threads;
    bool json;
} bench_arguments;

#define FIELD(field) offsetof(bench_arguments, field)

static const cli_option options[] = {
    CLI_MODEL_SOURCES(bench_arguments),
    {"batch", 0, CLI_SIZE, FIELD(batch), "N", "rows of a training step; the preset's unless given"},
    {"dtype", 0, CLI_CHOICE, FIELD(dtype), "f32|bf16", "of the products of the training step"},
    {"repeats", 0, CLI_SIZE, FIELD(repeats), "N", "training steps to take the median of"},
    CLI_THREADS(bench_arguments, threads),
    CLI_ISA(bench_arguments),
    CLI_JSON(bench_arguments),
    CLI_END,
};

static void set_defaults(void *arguments)
{
    *(bench_arguments *)arguments = (bench_arguments){.dtype = "f32", .repeats = 5};
}

typedef struct bench {
    const bench_arguments *arguments;
    brt_run_options run; /* rows, segments and window of the preset */
    brt_machine machine;
    brt_model *model;
    brt_model_costs costs;
    size_t num_tokens, segment, sample; /* tokens per row */
    double seconds_per_step, seconds_per_token;
} bench;

/* ---- inputs ------------------------------------------------------------------------------------------------------- */

/* Tokens without a pattern, always the same. */
static void fill_tokens(int32_t *tokens, size_t count, size_t num_tokens)
{
    uint64_t x = 0x9e3779b97f4a7c15u;
    for (size_t i = 0; i < count; i++) {
        x = x * 6364136223846793005u + 1442695040888963407u;
        tokens[i] = (int32_t)((x >> 33) % num_tokens);
    }
}

static int by_value(const void *a, const void *b)
{
    const double *left = a, *right = b;
    return *left < *right ? -1 : *left > *right;
}

static double median(double *values, size_t count)
{
    qsort(values, count, sizeof *values, by_value);
    return count % 2 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
}

/* ---- a training step ------------------------------------------------------------------------------------------------ */

/* One sample per row, read from the start in segments, and the update. */
static brt_status train_step(const bench *b, brt_trainer *trainer, const int32_t *tokens, const bool *reset)
{
    double loss, norm;
    for (size_t first = 0; first < b->sample; first += b->segment) {
        size_t offset = first * b->run.trainer.rows;
        brt_segment segment = {.time = b->segment,
                               .tokens = tokens + offset,
                               .targets = tokens + offset,
                               .reset = first == 0 ? reset : NULL,
                               .weight = (float)b->segment / (float)b->sample};
        CLI_TRY(brt_trainer_segment(trainer, &segment, &loss, NULL));
    }
    return brt_trainer_update(trainer, b->run.trainer.learning_rate, &norm);
}

static brt_status time_steps(bench *b, brt_trainer *trainer, const int32_t *tokens, const bool *reset, double *seconds)
{
    CLI_TRY(train_step(b, trainer, tokens, reset)); /* warms up */
    for (size_t i = 0; i < b->arguments->repeats; i++) {
        double start = cli_seconds_now();
        CLI_TRY(train_step(b, trainer, tokens, reset));
        seconds[i] = cli_seconds_now() - start;
    }
    b->seconds_per_step = median(seconds, b->arguments->repeats);
    return BRT_OK;
}

static brt_status bench_training(bench *b)
{
    size_t rows = b->run.trainer.rows;
    brt_trainer *trainer = NULL;
    CLI_TRY(brt_trainer_open(&trainer, b->model, &b->run.trainer));
    int32_t *tokens = calloc(rows * b->sample, sizeof *tokens);
    bool *reset = calloc(rows, sizeof *reset);
    double *seconds = calloc(b->arguments->repeats, sizeof *seconds);
    brt_status status = cli_out_of_memory("the benchmark");
    if (tokens && reset && seconds) {
        fill_tokens(tokens, rows * b->sample, b->num_tokens);
        memset(reset, true, rows * sizeof *reset);
        status = time_steps(b, trainer, tokens, reset, seconds);
    }
    brt_trainer_close(trainer);
    free(tokens);
    free(reset);
    free(seconds);
    return status;
}

/* ---- decoding ------------------------------------------------------------------------------------------------------- */

/* Token by token through whole blocks that have a memory, their ends included. */
static brt_status time_tokens(bench *b, brt_stream *stream, const int32_t *tokens, size_t width, float *logits)
{
    enum { blocks = 3 };
    double seconds[blocks];
    CLI_TRY(brt_stream_feed(stream, tokens, width, NULL));
    for (size_t block = 0; block < blocks; block++) {
        double start = cli_seconds_now();
        for (size_t i = 0; i < width; i++)
            CLI_TRY(brt_stream_feed_last(stream, tokens + i, 1, logits));
        seconds[block] = (cli_seconds_now() - start) / (double)width;
    }
    b->seconds_per_token = median(seconds, blocks);
    return BRT_OK;
}

static brt_status bench_decoding(bench *b)
{
    brt_stream_options stream_options = brt_stream_options_init();
    size_t width = (size_t)brt_config_get(brt_model_config(b->model), "block_width");
    brt_stream *stream = NULL;
    stream_options.threads = b->arguments->threads;
    CLI_TRY(brt_stream_open(&stream, b->model, &stream_options));
    int32_t *tokens = calloc(width, sizeof *tokens);
    float *logits = calloc(b->num_tokens, sizeof *logits);
    brt_status status = cli_out_of_memory("the benchmark");
    if (tokens && logits) {
        fill_tokens(tokens, width, b->num_tokens);
        status = time_tokens(b, stream, tokens, width, logits);
    }
    brt_stream_close(stream);
    free(tokens);
    free(logits);
    return status;
}

/* ---- the whole ------------------------------------------------------------------------------------------------------ */

static brt_status choose_case(bench *b, const cli_parsed *parsed)
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
    b->run.trainer.dtype = a->dtype;
    b->run.trainer.rows = a->batch ? a->batch : b->run.trainer.rows;
    /* Rows sent back to the start would have less to compute. */
    b->run.trainer.xl_memories_dropout = b->run.trainer.state_dropout = 0;
    brt_status status = brt_model_create(&b->model, config, 0);
    brt_config_close(config);
    return status;
}

static brt_status measure(bench *b, const cli_parsed *parsed)
{
    CLI_TRY(cli_choose_isa(b->arguments->isa));
    CLI_TRY(choose_case(b, parsed));
    CLI_TRY(brt_model_measure(b->model, b->sample, b->segment, &b->costs));
    CLI_TRY(brt_machine_measure(b->arguments->threads, &b->machine));
    CLI_TRY(bench_training(b));
    return bench_decoding(b);
}

/* Of the peak of the products' type. */
static double fraction_of_peak(const bench *b)
{
    double flops = (double)b->costs.train_flops_per_sample * (double)b->run.trainer.rows;
    bool bf16 = strcmp(b->arguments->dtype, "bf16") == 0;
    return flops / b->seconds_per_step / (1e9 * (bf16 ? b->machine.peak_bf16_gflops : b->machine.peak_f32_gflops));
}

static double tokens_per_second(const bench *b)
{
    return (double)(b->run.trainer.rows * b->sample) / b->seconds_per_step;
}

static double fraction_of_bandwidth(const bench *b)
{
    return (double)b->costs.decode_bytes_per_token / b->seconds_per_token / (1e9 * b->machine.read_gbytes_per_s);
}

static brt_status print_json(const bench *b)
{
    const char *dtype = b->arguments->dtype;
    const brt_machine *m = &b->machine;
    json_t *bf16 = m->peak_bf16_gflops > 0 ? json_real(m->peak_bf16_gflops) : json_null();
    json_t *train = json_pack("{s:I, s:I, s:s, s:f, s:f, s:f}", "batch", (json_int_t)b->run.trainer.rows,
                              "sample_tokens", (json_int_t)b->sample, "dtype", dtype, "seconds_per_step",
                              b->seconds_per_step, "tokens_per_s", tokens_per_second(b), "fraction_of_peak",
                              fraction_of_peak(b));
    json_t *decode = json_pack("{s:s, s:f, s:f}", "dtype", "f32", "ms_per_token", 1e3 * b->seconds_per_token,
                               "fraction_of_bandwidth", fraction_of_bandwidth(b));
    return cli_print_json(json_pack("{s:i, s:s, s:f, s:o, s:f, s:o, s:o}", "threads", m->threads, "isa", brt_isa(),
                                    "peak_f32_gflops", m->peak_f32_gflops, "peak_bf16_gflops", bf16,
                                    "read_gbytes_per_s", m->read_gbytes_per_s, "train", train, "decode", decode));
}

static brt_status print_result(const bench *b)
{
    const brt_machine *m = &b->machine;
    if (b->arguments->json)
        return print_json(b);
    printf("machine   %d threads, %s: %.0f GFLOP/s f32", m->threads, brt_isa(), m->peak_f32_gflops);
    if (m->peak_bf16_gflops > 0)
        printf(", %.0f GFLOP/s bf16", m->peak_bf16_gflops);
    printf(", reads %.1f GB/s\n", m->read_gbytes_per_s);
    printf("training  %.3f s per step of %zu x %zu tokens, %s tokens/s, %.1f %% of the %s peak\n", b->seconds_per_step,
           b->run.trainer.rows, b->sample, cli_count(tokens_per_second(b)), 100 * fraction_of_peak(b),
           b->arguments->dtype);
    printf("decoding  %.3f ms per token, %.1f %% of the bandwidth\n", 1e3 * b->seconds_per_token,
           100 * fraction_of_bandwidth(b));
    return cli_flush();
}

static int run(const cli_parsed *parsed)
{
    bench_arguments arguments;
    set_defaults(&arguments);
    if (!cli_store(parsed, &arguments))
        return CLI_USAGE;
    if (arguments.repeats == 0)
        return cli_usage_error(parsed->command, "--repeats must be at least 1");
    bench b = {.arguments = &arguments};
    brt_status status = measure(&b, parsed);
    if (status == BRT_OK)
        status = print_result(&b);
    brt_model_close(b.model);
    return cli_exit_status(status);
}

const cli_command cli_bench = {
    .name = "bench",
    .positional = "",
    .summary = "measure training and decoding against the machine",
    .description = "Measures the machine's peak and memory bandwidth, then a training step (forward, backward, clip, "
                   "update) and decoding, of the preset reference unless another model is described. Fractions count "
                   "the matrix products as the PyTorch reference computes them, and the weights read per token.",
    .options = options,
    .model_options = true,
    .arguments_size = sizeof(bench_arguments),
    .set_defaults = set_defaults,
    .run = run,
};
