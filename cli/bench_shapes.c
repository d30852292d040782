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
static const double tiny_operation = 10e-6; /* a roofline below this per operation is bound by their launches */

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

/* ---- steps ------------------------------------------------------------------------------------------------------- */

typedef struct shape_run {
    brt_model *model;
    brt_trainer_options options;
    brt_trainer *trainer;
    int32_t *tokens;    /* [rows, time] */
    bool *reset;        /* [rows] */
    size_t time, steps; /* steps of a round */
} shape_run;

static brt_status run_steps(void *context)
{
    const shape_run *r = context;
    brt_segment segment = {
        .time = r->time, .tokens = r->tokens, .targets = r->tokens, .reset = r->reset, .weight = 1};
    double loss;
    for (size_t i = 0; i < r->steps; i++) {
        CLI_TRY(brt_trainer_segment(r->trainer, &segment, &loss, NULL));
        CLI_TRY(brt_trainer_update(r->trainer, r->options.learning_rate, NULL));
    }
    return BRT_OK;
}

/* The first step warms up and is counted: how many operations it has, forward and backward. */
static brt_status count_operations(const shape_run *r, double *count)
{
    brt_profile_entry entry;
    CLI_TRY(run_steps((void *)r));
    *count = 0;
    for (size_t i = 0; brt_trainer_profile(r->trainer, i, &entry); i++)
        *count += 2 * (double)entry.calls;
    return BRT_OK;
}

static brt_status time_steps(const bench *b, shape_run *r, bench_timing *timing)
{
    double start = cli_seconds_now();
    CLI_TRY(run_steps(r));
    r->steps = (size_t)fmax(1, least_seconds / (cli_seconds_now() - start));
    return bench_time(b->arguments->threads, b->arguments->repeats, run_steps, r, timing);
}

/* ---- against the roofline ---------------------------------------------------------------------------------------- */

typedef struct work {
    double gflop, gbytes, operations; /* of a step */
} work;

static brt_status measure_work(const shape_run *r, work *w)
{
    brt_model_costs costs;
    uint64_t bytes;
    CLI_TRY(brt_model_measure(r->model, r->time, r->time, &costs));
    CLI_TRY(brt_trainer_measure(r->model, &r->options, &bytes));
    w->gflop = 1e-9 * (double)costs.train_flops_per_sample * (double)r->options.rows;
    /* All that a trainer holds is written and read once in a step. */
    w->gbytes = 2e-9 * (double)(bytes + costs.parameter_bytes);
    return BRT_OK;
}

/* "f32" and "ms_per_step": the key "f32_ms_per_step". */
static bool set(json_t *row, const char *dtype, const char *what, json_t *value)
{
    char key[64];
    snprintf(key, sizeof key, "%s_%s", dtype, what);
    return json_object_set_new(row, key, value) == 0;
}

static brt_status set_figures(json_t *row, const shape_run *r, const work *w, const bench_timing *timing)
{
    const char *dtype = r->options.dtype;
    bool bf16 = strcmp(dtype, "bf16") == 0;
    double steps = (double)r->steps, seconds = timing->seconds / steps;
    double arithmetic = steps * w->gflop / (bf16 ? timing->possible_bf16_gflop : timing->possible_f32_gflop);
    double memory = steps * w->gbytes / timing->possible_gbytes, roofline = fmax(arithmetic, memory);
    const char *bound = roofline * seconds < tiny_operation * w->operations ? "launches"
                        : arithmetic > memory                               ? "arithmetic"
                                                                            : "memory";
    bool complete = set(row, dtype, "ms_per_step", json_real(1e3 * seconds)) &&
                    set(row, dtype, "time_over_roofline", json_real(1 / roofline)) &&
                    set(row, dtype, "bound", json_string(bound));
    return complete ? BRT_OK : cli_out_of_memory("the result");
}

static brt_status measure(const bench *b, shape_run *r, json_t *row)
{
    work w;
    bench_timing timing;
    bench_fill_tokens(r->tokens, r->options.rows * r->time,
                      (size_t)brt_config_get(brt_model_config(r->model), "num_tokens"));
    memset(r->reset, true, r->options.rows * sizeof *r->reset);
    CLI_TRY(measure_work(r, &w));
    CLI_TRY(brt_trainer_open(&r->trainer, r->model, &r->options));
    CLI_TRY(count_operations(r, &w.operations));
    CLI_TRY(time_steps(b, r, &timing));
    json_object_set_new(row, "gflop", json_real(w.gflop));
    json_object_set_new(row, "operations", json_integer((json_int_t)w.operations));
    return set_figures(row, r, &w, &timing);
}

static brt_status measure_dtype(const bench *b, const shape *s, const char *dtype, json_t *row)
{
    shape_run r = {.options = b->run.trainer, .steps = 1};
    CLI_TRY(make_model(s, &r.model));
    const brt_config *config = brt_model_config(r.model);
    r.time = (size_t)brt_config_get(config, "max_seq_len");
    r.options.rows = s->rows ? s->rows : base_rows;
    r.options.segment_blocks = r.time / (size_t)brt_config_get(config, "block_width");
    r.options.dtype = dtype;
    r.options.profile = true;
    r.tokens = calloc(r.options.rows * r.time, sizeof *r.tokens);
    r.reset = calloc(r.options.rows, sizeof *r.reset);
    brt_status status = r.tokens && r.reset ? measure(b, &r, row) : cli_out_of_memory("the benchmark");
    brt_trainer_close(r.trainer);
    brt_model_close(r.model);
    free(r.tokens);
    free(r.reset);
    return status;
}

static brt_status measure_shape(bench *b, const shape *s)
{
    json_t *row = json_pack("{s:s, s:I}", "shape", s->name, "batch", (json_int_t)(s->rows ? s->rows : base_rows));
    CLI_TRY(bench_add(b, "shapes", row));
    const char *dtype;
    for (size_t i = 0; (dtype = bench_dtype_at(b, i)) != NULL; i++)
        CLI_TRY(measure_dtype(b, s, dtype, row));
    return BRT_OK;
}

static brt_status run(bench *b)
{
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
        CLI_TRY(measure_shape(b, &shapes[i]));
    return BRT_OK;
}

const bench_section bench_shapes = {
    .name = "shapes",
    .run = run,
    .tables = {{"shapes",
                "A training step of 1,024 tokens per row, over its roofline",
                {{"shape", "shape", BENCH_TEXT},
                 {"batch", "rows", BENCH_INTEGER},
                 {"gflop", "GFLOP", BENCH_NUMBER},
                 {"operations", "operations", BENCH_INTEGER},
                 {"f32_ms_per_step", "f32 ms", BENCH_NUMBER},
                 {"f32_time_over_roofline", "over roofline", BENCH_NUMBER},
                 {"f32_bound", "bound by", BENCH_TEXT},
                 {"bf16_ms_per_step", "bf16 ms", BENCH_NUMBER},
                 {"bf16_time_over_roofline", "over roofline", BENCH_NUMBER},
                 {"bf16_bound", "bound by", BENCH_TEXT}}}},
};
