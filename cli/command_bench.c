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

/* A shared machine's speed changes from one second to the next: what it can do is measured before each thing timed. */
typedef struct round {
    brt_machine machine;
    double seconds;
} round;

enum { decode_rounds = 3, most_repeats = 1000 };

typedef struct bench {
    const bench_arguments *arguments;
    brt_run_options run; /* rows, segments and window of the preset */
    brt_model *model;
    brt_model_costs costs;
    size_t num_tokens, segment, sample; /* tokens per row */
    round *steps;                       /* [repeats]: of training */
    round blocks[decode_rounds];        /* seconds of one token */
} bench;

/* ---- inputs ------------------------------------------------------------------------------------------------------ */

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

typedef double figure(const bench *b, const round *r);

/* The median of a figure of each round. */
static double median(const bench *b, const round *rounds, size_t count, figure *of)
{
    double values[most_repeats];
    for (size_t i = 0; i < count; i++)
        values[i] = of(b, &rounds[i]);
    qsort(values, count, sizeof values[0], by_value);
    return count % 2 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
}

/* ---- a training step --------------------------------------------------------------------------------------------- */

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

static brt_status time_steps(bench *b, brt_trainer *trainer, const int32_t *tokens, const bool *reset)
{
    CLI_TRY(train_step(b, trainer, tokens, reset)); /* warms up */
    for (size_t i = 0; i < b->arguments->repeats; i++) {
        CLI_TRY(brt_machine_measure(b->arguments->threads, &b->steps[i].machine));
        double start = cli_seconds_now();
        CLI_TRY(train_step(b, trainer, tokens, reset));
        b->steps[i].seconds = cli_seconds_now() - start;
    }
    return BRT_OK;
}

static brt_status bench_training(bench *b)
{
    size_t rows = b->run.trainer.rows;
    brt_trainer *trainer = NULL;
    CLI_TRY(brt_trainer_open(&trainer, b->model, &b->run.trainer));
    int32_t *tokens = calloc(rows * b->sample, sizeof *tokens);
    bool *reset = calloc(rows, sizeof *reset);
    b->steps = calloc(b->arguments->repeats, sizeof *b->steps);
    brt_status status = cli_out_of_memory("the benchmark");
    if (tokens && reset && b->steps) {
        fill_tokens(tokens, rows * b->sample, b->num_tokens);
        memset(reset, true, rows * sizeof *reset);
        status = time_steps(b, trainer, tokens, reset);
    }
    brt_trainer_close(trainer);
    free(tokens);
    free(reset);
    return status;
}

/* ---- decoding ---------------------------------------------------------------------------------------------------- */

/* Token by token through whole blocks that have a memory, their ends included. */
static brt_status time_tokens(bench *b, brt_stream *stream, const int32_t *tokens, size_t width, float *logits)
{
    CLI_TRY(brt_stream_feed(stream, tokens, width, NULL));
    for (size_t block = 0; block < decode_rounds; block++) {
        CLI_TRY(brt_machine_measure(b->arguments->threads, &b->blocks[block].machine));
        double start = cli_seconds_now();
        for (size_t i = 0; i < width; i++)
            CLI_TRY(brt_stream_feed_last(stream, tokens + i, 1, logits));
        b->blocks[block].seconds = (cli_seconds_now() - start) / (double)width;
    }
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

/* ---- the whole --------------------------------------------------------------------------------------------------- */

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
    CLI_TRY(bench_training(b));
    return bench_decoding(b);
}

/* ---- figures ----------------------------------------------------------------------------------------------------- */

static double seconds(const bench *b, const round *r)
{
    (void)b;
    return r->seconds;
}

static double peak_f32(const bench *b, const round *r)
{
    (void)b;
    return r->machine.peak_f32_gflops;
}

static double peak_bf16(const bench *b, const round *r)
{
    (void)b;
    return r->machine.peak_bf16_gflops;
}

static double bandwidth(const bench *b, const round *r)
{
    (void)b;
    return r->machine.read_gbytes_per_s;
}

/* Of the peak of the products' type. */
static double fraction_of_peak(const bench *b, const round *r)
{
    double flops = (double)b->costs.train_flops_per_sample * (double)b->run.trainer.rows;
    bool bf16 = strcmp(b->arguments->dtype, "bf16") == 0;
    return flops / r->seconds / (1e9 * (bf16 ? peak_bf16(b, r) : peak_f32(b, r)));
}

static double fraction_of_bandwidth(const bench *b, const round *r)
{
    return (double)b->costs.decode_bytes_per_token / r->seconds / (1e9 * bandwidth(b, r));
}

static double of_steps(const bench *b, figure *of)
{
    return median(b, b->steps, b->arguments->repeats, of);
}

static double of_blocks(const bench *b, figure *of)
{
    return median(b, b->blocks, decode_rounds, of);
}

static double tokens_per_second(const bench *b)
{
    return (double)(b->run.trainer.rows * b->sample) / of_steps(b, seconds);
}

static brt_status print_json(const bench *b)
{
    double bf16 = of_steps(b, peak_bf16);
    json_t *train = json_pack("{s:I, s:I, s:s, s:f, s:f, s:f}", "batch", (json_int_t)b->run.trainer.rows,
                              "sample_tokens", (json_int_t)b->sample, "dtype", b->arguments->dtype, "seconds_per_step",
                              of_steps(b, seconds), "tokens_per_s", tokens_per_second(b), "fraction_of_peak",
                              of_steps(b, fraction_of_peak));
    json_t *decode = json_pack("{s:s, s:f, s:f}", "dtype", "f32", "ms_per_token", 1e3 * of_blocks(b, seconds),
                               "fraction_of_bandwidth", of_blocks(b, fraction_of_bandwidth));
    return cli_print_json(json_pack("{s:i, s:s, s:f, s:o, s:f, s:o, s:o}", "threads", b->steps[0].machine.threads,
                                    "isa", brt_isa(), "peak_f32_gflops", of_steps(b, peak_f32), "peak_bf16_gflops",
                                    bf16 > 0 ? json_real(bf16) : json_null(), "read_gbytes_per_s",
                                    of_blocks(b, bandwidth), "train", train, "decode", decode));
}

static brt_status print_result(const bench *b)
{
    if (b->arguments->json)
        return print_json(b);
    printf("machine   %d threads, %s: %.0f GFLOP/s f32", b->steps[0].machine.threads, brt_isa(), of_steps(b, peak_f32));
    if (of_steps(b, peak_bf16) > 0)
        printf(", %.0f GFLOP/s bf16", of_steps(b, peak_bf16));
    printf(", reads %.1f GB/s\n", of_blocks(b, bandwidth));
    printf("training  %.3f s per step of %zu x %zu tokens, %s tokens/s, %.1f %% of the %s peak\n",
           of_steps(b, seconds), b->run.trainer.rows, b->sample, cli_count(tokens_per_second(b)),
           100 * of_steps(b, fraction_of_peak), b->arguments->dtype);
    printf("decoding  %.3f ms per token, %.1f %% of the bandwidth\n", 1e3 * of_blocks(b, seconds),
           100 * of_blocks(b, fraction_of_bandwidth));
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
    free(b.steps);
    return cli_exit_status(status);
}

const cli_command cli_bench = {
    .name = "bench",
    .positional = "",
    .summary = "measure training and decoding against the machine",
    .description = "Measures a training step (forward, backward, clip, update) and decoding, of the preset reference "
                   "unless another model is described, and before each of them what the machine can do at that moment. "
                   "Figures are medians. Fractions count "
                   "the matrix products as the PyTorch reference computes them, and the weights read per token.",
    .options = options,
    .model_options = true,
    .arguments_size = sizeof(bench_arguments),
    .set_defaults = set_defaults,
    .run = run,
};
