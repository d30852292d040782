/* brt bench routed: what a token costs with routed memories that are full, beside the same model without them. */
#include "bench_sections.h"

#include <stdio.h>
#include <stdlib.h>

/* The model without routed memories, and with. */
enum { without, with, variants };

/* Work on one model after the other, in turn. */
typedef struct pair {
    const bench *b;
    brt_model *model[variants];
    brt_stream *stream[variants];
    brt_trainer *trainer[variants];
    int32_t *tokens;
    float *logits;
    size_t tokens_per_round;
} pair;

typedef brt_status pair_work(pair *p, int variant);

/* ---- the models -------------------------------------------------------------------------------------------------- */

/* As many routes as the default where the heads allow it, else the most that are fewer, or one per head of keys. */
static brt_status choose_routes(brt_config *config)
{
    int64_t heads = brt_config_get(config, "heads"), routes = brt_config_get(config, "routes");
    int64_t key_heads = brt_config_get(config, "kv_heads");
    char text[24];
    routes = routes > key_heads ? routes : key_heads;
    while (heads % routes || routes % key_heads)
        routes--;
    snprintf(text, sizeof text, "%lld", (long long)routes);
    return brt_config_set(config, "routes", text);
}

/* A routed memory after the middle, where the model has none. */
static brt_status add_routed_layer(const brt_config *of, brt_config *config)
{
    char layer[24];
    int64_t depth = brt_config_get(of, "depth"), middle = depth / 2 + 1;
    snprintf(layer, sizeof layer, "%lld", (long long)(middle < depth ? middle : depth));
    CLI_TRY(brt_config_set(config, "routed_layers", layer));
    return choose_routes(config);
}

static brt_status copy_arguments(const brt_config *from, brt_config *to)
{
    char *text;
    const char *key;
    json_t *value;
    CLI_TRY(brt_config_json(from, &text));
    json_t *all = json_loads(text, 0, NULL);
    brt_status status = all ? BRT_OK : cli_out_of_memory("a configuration");
    brt_free(text);
    json_object_foreach(all, key, value)
    {
        char *argument = json_dumps(value, JSON_ENCODE_ANY | JSON_REAL_PRECISION(17));
        if (status == BRT_OK)
            status = argument ? brt_config_set(to, key, argument) : cli_out_of_memory("a configuration");
        brt_free(argument);
    }
    json_decref(all);
    return status;
}

static brt_status make_model(const bench *b, int variant, brt_model **out)
{
    const brt_config *of = brt_model_config(b->model);
    brt_config *config;
    CLI_TRY(brt_config_create(&config));
    brt_status status = copy_arguments(of, config);
    if (status == BRT_OK && variant == without)
        status = brt_config_set(config, "routed_layers", "[]");
    else if (status == BRT_OK && brt_config_get(of, "routed_layers") == 0)
        status = add_routed_layer(of, config);
    if (status == BRT_OK)
        status = brt_model_create(out, config, 0);
    brt_config_close(config);
    return status;
}

/* ---- timing ------------------------------------------------------------------------------------------------------ */

/* Medians, and the median of what one round takes with the memories over what it takes without. */
static brt_status time_pair(pair *p, pair_work *work, const char *what)
{
    enum { most_rounds = 99 };
    size_t rounds = p->b->arguments->repeats < most_rounds ? p->b->arguments->repeats : most_rounds;
    double seconds[variants][most_rounds], ratio[most_rounds];
    for (int variant = 0; variant < variants; variant++)
        CLI_TRY(work(p, variant)); /* warms up */
    for (size_t round = 0; round < rounds; round++) {
        for (int variant = 0; variant < variants; variant++) {
            double start = cli_seconds_now();
            CLI_TRY(work(p, variant));
            seconds[variant][round] = (cli_seconds_now() - start) / (double)p->tokens_per_round;
        }
        ratio[round] = seconds[with][round] / seconds[without][round];
    }
    const brt_config *config = brt_model_config(p->model[with]);
    return bench_add((bench *)p->b, "routed",
                     json_pack("{s:s, s:I, s:I, s:f, s:f, s:f}", "what", what, "remembered",
                               (json_int_t)brt_config_get(config, "routed_capacity"), "memories",
                               (json_int_t)brt_config_get(config, "routed_layers"), "ms_per_token_without",
                               1e3 * bench_median(seconds[without], rounds), "ms_per_token",
                               1e3 * bench_median(seconds[with], rounds), "ratio", bench_median(ratio, rounds)));
}

/* ---- decoding and training --------------------------------------------------------------------------------------- */

/* A block token by token. */
static brt_status decode(pair *p, int variant)
{
    for (size_t i = 0; i < p->tokens_per_round; i++)
        CLI_TRY(brt_stream_feed_last(p->stream[variant], p->tokens + i, 1, p->logits));
    return BRT_OK;
}

static brt_status time_decoding(pair *p)
{
    brt_stream_options options = brt_stream_options_init();
    options.threads = p->b->arguments->threads;
    p->tokens_per_round = (size_t)brt_config_get(brt_model_config(p->b->model), "block_width");
    for (int variant = 0; variant < variants; variant++) {
        CLI_TRY(brt_stream_open(&p->stream[variant], p->model[variant], &options));
        CLI_TRY(brt_stream_fill_routed(p->stream[variant]));
    }
    return time_pair(p, decode, "decoding");
}

static brt_status train(pair *p, int variant)
{
    size_t rows = p->b->run.trainer.rows;
    brt_segment segment = {
        .time = p->tokens_per_round / rows, .tokens = p->tokens, .targets = p->tokens, .weight = 1};
    double loss, norm;
    CLI_TRY(brt_trainer_segment(p->trainer[variant], &segment, &loss, NULL));
    return brt_trainer_update(p->trainer[variant], 0, &norm);
}

static brt_status time_training(pair *p)
{
    p->tokens_per_round = p->b->segment * p->b->run.trainer.rows;
    for (int variant = 0; variant < variants; variant++) {
        CLI_TRY(brt_trainer_open(&p->trainer[variant], p->model[variant], &p->b->run.trainer));
        CLI_TRY(brt_trainer_fill_routed(p->trainer[variant]));
    }
    return time_pair(p, train, "training");
}

static brt_status measure(pair *p)
{
    size_t tokens = p->b->segment * p->b->run.trainer.rows;
    p->tokens = calloc(tokens, sizeof *p->tokens);
    p->logits = calloc(p->b->num_tokens, sizeof *p->logits);
    if (!p->tokens || !p->logits)
        return cli_out_of_memory("the benchmark");
    bench_fill_tokens(p->tokens, tokens, p->b->num_tokens);
    for (int variant = 0; variant < variants; variant++)
        CLI_TRY(make_model(p->b, variant, &p->model[variant]));
    CLI_TRY(time_decoding(p));
    return time_training(p);
}

static brt_status run(bench *b)
{
    pair p = {.b = b};
    brt_status status = measure(&p);
    for (int variant = 0; variant < variants; variant++) {
        brt_stream_close(p.stream[variant]);
        brt_trainer_close(p.trainer[variant]);
        brt_model_close(p.model[variant]);
    }
    free(p.tokens);
    free(p.logits);
    return status;
}

const bench_section bench_routed = {
    .name = "routed",
    .run = run,
    .tables = {{"routed",
                "Full routed memories, beside the same model without them, in turn",
                {{"what", "what", BENCH_TEXT},
                 {"memories", "memories", BENCH_INTEGER},
                 {"remembered", "tokens in each", BENCH_INTEGER},
                 {"ms_per_token_without", "ms per token without", BENCH_NUMBER},
                 {"ms_per_token", "ms per token", BENCH_NUMBER},
                 {"ratio", "ratio", BENCH_NUMBER}}}},
};
