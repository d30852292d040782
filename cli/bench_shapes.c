/* brt bench shapes: a training step of models of all kinds of shapes over its roofline, the least time that the machine
 * needs for its arithmetic or for its bytes (Williams et al. 2009): no shape may fall off a cliff. */
#include "bench_sections.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* What a shape changes of this model. */
static const char *const base[][2] = {
    {"num_tokens", "256"}, {"dim", "512"}, {"depth", "2"}, {"max_seq_len", "1024"}, {"block_width", "512"}};

enum { most_changes = 5, base_rows = 2 };

static const double least_seconds = 0.05;   /* of a round */
static const double tiny_operation = 10e-6; /* a roofline of less than this per operation is a tiny model's */

typedef struct shape {
    const char *name;
    const char *changes[most_changes][2]; /* arguments of the model */
    size_t rows;                          /* 0: base_rows */
} shape;

static const shape shapes[] = {
    {"dim 512, 8 heads of 64, block 512", {{0}}, 0},
    {"dim 100", {{"dim", "100"}}, 0},
    {"dim 257", {{"dim", "257"}}, 0},
    {"dim 511", {{"dim", "511"}}, 0},
    {"dim 1024", {{"dim", "1024"}}, 0},
    {"1 head", {{"heads", "1"}}, 0},
    {"3 heads", {{"heads", "3"}}, 0},
    {"1 head of 512", {{"heads", "1"}, {"dim_head", "512"}}, 0},
    {"heads of 16", {{"dim_head", "16"}}, 0},
    {"heads of 22", {{"dim_head", "22"}}, 0},
    {"heads of 128", {{"dim_head", "128"}}, 0},
    {"vocabulary 20,000", {{"num_tokens", "20000"}}, 0},
    {"vocabulary 50,257", {{"num_tokens", "50257"}}, 0},
    {"vocabulary 50,257, dim 64", {{"num_tokens", "50257"}, {"dim", "64"}}, 0},
    {"block 16", {{"block_width", "16"}}, 0},
    {"block 32", {{"block_width", "32"}}, 0},
    {"block 64", {{"block_width", "64"}}, 0},
    {"block 100", {{"block_width", "100"}, {"max_seq_len", "1000"}}, 0},
    {"block 128", {{"block_width", "128"}}, 0},
    {"block 256", {{"block_width", "256"}}, 0},
    {"block 1024", {{"block_width", "1024"}}, 0},
    {"block 2048", {{"block_width", "2048"}, {"max_seq_len", "2048"}}, 1},
    {"1 row", {{0}}, 1},
    {"16 rows", {{0}}, 16},
    {"16 rows, block 16", {{"block_width", "16"}}, 16},
    {"1 state vector", {{"num_state_vectors", "1"}}, 0},
    {"no states", {{"recurrent_layers", "[]"}}, 0},
    {"2 states", {{"recurrent_layers", "[1, 2]"}}, 0},
    {"feed-forward 1", {{"ff_mult", "1"}}, 0},
    {"dim 101, 3 heads of 22, block 50",
     {{"dim", "101"}, {"heads", "3"}, {"dim_head", "22"}, {"block_width", "50"}, {"max_seq_len", "1000"}},
     0},
    {"1 row, dim 64, block 16", {{"dim", "64"}, {"block_width", "16"}}, 1},
};

/* ---- one shape --------------------------------------------------------------------------------------------------- */

static brt_status set_arguments(const shape *s, brt_config *config)
{
    for (size_t i = 0; i < sizeof base / sizeof base[0]; i++)
        CLI_TRY(brt_config_set(config, base[i][0], base[i][1]));
    for (size_t i = 0; i < most_changes && s->changes[i][0]; i++)
        CLI_TRY(brt_config_set(config, s->changes[i][0], s->changes[i][1]));
    return BRT_OK;
}

static brt_status make_model(const shape *s, brt_model **out)
{
    brt_config *config;
    CLI_TRY(brt_config_create(&config));
    brt_status status = set_arguments(s, config);
    if (status == BRT_OK)
        status = brt_model_create(out, config, 0);
    brt_config_close(config);
    return status;
}

typedef struct shape_run {
    const bench *b;
    const shape *shape;
    brt_model *model;
    brt_trainer_options options;
    brt_trainer *trainer;
    int32_t *tokens; /* [rows, time] */
    bool *reset;     /* [rows] */
    size_t time, steps;
} shape_run;

static brt_status run_steps(void *context)
{
    const shape_run *r = context;
    brt_segment segment = {
        .time = r->time, .tokens = r->tokens, .targets = r->tokens, .reset = r->reset, .weight = 1};
    double loss;
    for (size_t i = 0; i < r->steps; i++) {
        CLI_TRY(brt_trainer_segment(r->trainer, &segment, &loss, NULL));
        CLI_TRY(brt_trainer_update(r->trainer, 1e-4f, NULL));
    }
    return BRT_OK;
}

/* Operations of a step, forward and backward. */
static double count_operations(const shape_run *r)
{
    brt_profile_entry entry;
    double calls = 0;
    for (size_t i = 0; brt_trainer_profile(r->trainer, i, &entry); i++)
        calls += 2 * (double)entry.calls;
    return calls;
}

static brt_status time_shape(bench *b, shape_run *r)
{
    brt_model_costs costs;
    uint64_t bytes;
    bench_timing timing;
    bool bf16 = strcmp(r->options.dtype, "bf16") == 0;
    bench_fill_tokens(r->tokens, r->options.rows * r->time,
                      (size_t)brt_config_get(brt_model_config(r->model), "num_tokens"));
    memset(r->reset, true, r->options.rows * sizeof *r->reset);
    CLI_TRY(brt_model_measure(r->model, r->time, r->time, &costs));
    CLI_TRY(brt_trainer_measure(r->model, &r->options, &bytes));
    CLI_TRY(brt_trainer_open(&r->trainer, r->model, &r->options));
    CLI_TRY(run_steps(r)); /* warms up */
    double operations = count_operations(r), start = cli_seconds_now();
    CLI_TRY(run_steps(r));
    r->steps = (size_t)fmax(1, least_seconds / (cli_seconds_now() - start));
    CLI_TRY(bench_time(b->arguments->threads, b->arguments->repeats, run_steps, r, &timing));
    /* All that a trainer holds is written and read once in a step. */
    double gflop = 1e-9 * (double)costs.train_flops_per_sample * (double)r->options.rows;
    double gbytes = 2e-9 * (double)(bytes + costs.parameter_bytes), steps = (double)r->steps;
    double arithmetic = steps * gflop / (bf16 ? timing.possible_bf16_gflop : timing.possible_f32_gflop);
    double memory = steps * gbytes / timing.possible_gbytes, seconds = timing.seconds / steps;
    double roofline = fmax(arithmetic, memory) * seconds;
    bool tiny = roofline < tiny_operation * operations;
    return bench_add(b, "shapes",
                     json_pack("{s:s, s:s, s:I, s:f, s:f, s:f, s:f, s:f, s:f, s:s}", "shape", r->shape->name, "dtype",
                               r->options.dtype, "batch", (json_int_t)r->options.rows, "gflop", gflop, "mbytes",
                               1e3 * gbytes, "roofline_ms", 1e3 * roofline, "ms_per_step", 1e3 * seconds,
                               "time_over_roofline", seconds / roofline, "us_per_operation",
                               1e6 * seconds / operations, "bound",
                               tiny ? "launches" : arithmetic > memory ? "arithmetic" : "memory"));
}

static brt_status measure(bench *b, const shape *s, const char *dtype)
{
    shape_run r = {.b = b, .shape = s, .options = b->run.trainer, .steps = 1};
    CLI_TRY(make_model(s, &r.model));
    const brt_config *config = brt_model_config(r.model);
    r.time = (size_t)brt_config_get(config, "max_seq_len");
    r.options.rows = s->rows ? s->rows : base_rows;
    r.options.segment_blocks = r.time / (size_t)brt_config_get(config, "block_width");
    r.options.dtype = dtype;
    r.options.profile = true;
    r.tokens = calloc(r.options.rows * r.time, sizeof *r.tokens);
    r.reset = calloc(r.options.rows, sizeof *r.reset);
    brt_status status = r.tokens && r.reset ? time_shape(b, &r) : cli_out_of_memory("the benchmark");
    brt_trainer_close(r.trainer);
    brt_model_close(r.model);
    free(r.tokens);
    free(r.reset);
    return status;
}

static brt_status run(bench *b)
{
    const char *dtype;
    for (size_t d = 0; (dtype = bench_dtype_at(b, d)) != NULL; d++)
        for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
            CLI_TRY(measure(b, &shapes[i], dtype));
    return BRT_OK;
}

const bench_section bench_shapes = {
    .name = "shapes",
    .run = run,
    .tables = {{"shapes",
                "A training step of 1,024 tokens per row over its roofline",
                {{"shape", "shape", BENCH_TEXT},
                 {"dtype", "type", BENCH_TEXT},
                 {"batch", "rows", BENCH_INTEGER},
                 {"gflop", "GFLOP", BENCH_NUMBER},
                 {"mbytes", "MB", BENCH_NUMBER},
                 {"roofline_ms", "roofline ms", BENCH_NUMBER},
                 {"ms_per_step", "step ms", BENCH_NUMBER},
                 {"time_over_roofline", "over roofline", BENCH_NUMBER},
                 {"us_per_operation", "us per operation", BENCH_NUMBER},
                 {"bound", "bound by", BENCH_TEXT}}}},
};
