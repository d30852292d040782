/* brt bench streams: several streams, a token each in one pass over the weights. */
#include "bench_sections.h"

#include <stdlib.h>

enum { most_streams = 16, steps = 32, rounds = 5 };

static const size_t counts[] = {1, 4, 16};
enum { count_count = sizeof counts / sizeof counts[0] };

typedef struct serving {
    brt_stream *streams[most_streams];
    int32_t tokens[most_streams];
    float *logits; /* [most_streams, num_tokens] */
} serving;

/* Each stream is somewhere else in its block. */
static brt_status open_streams(const bench *b, const brt_model *model, serving *s)
{
    brt_stream_options options = brt_stream_options_init();
    size_t width = (size_t)brt_config_get(brt_model_config(model), "block_width");
    int32_t *text = calloc(2 * width, sizeof *text);
    brt_status status = text ? BRT_OK : cli_out_of_memory("the benchmark");
    options.threads = b->arguments->threads;
    if (text)
        bench_fill_tokens(text, 2 * width, b->num_tokens);
    bench_fill_tokens(s->tokens, most_streams, b->num_tokens);
    for (size_t i = 0; i < most_streams && status == BRT_OK; i++) {
        status = brt_stream_open(&s->streams[i], model, &options);
        if (status == BRT_OK)
            status = brt_stream_feed(s->streams[i], text, width + i * width / most_streams, NULL);
    }
    free(text);
    return status;
}

static brt_status time_round(serving *s, double seconds[count_count])
{
    for (size_t c = 0; c < count_count; c++) {
        double start = cli_seconds_now();
        for (size_t i = 0; i < steps; i++)
            CLI_TRY(brt_streams_feed(s->streams, counts[c], s->tokens, s->logits));
        seconds[c] = cli_seconds_now() - start;
    }
    return BRT_OK;
}

static brt_status measure(bench *b, const brt_model *model, const char *weights, serving *s)
{
    double seconds[count_count], speed[count_count][rounds], gain[count_count][rounds];
    CLI_TRY(open_streams(b, model, s));
    CLI_TRY(time_round(s, seconds)); /* warms up */
    for (size_t round = 0; round < rounds; round++) {
        CLI_TRY(time_round(s, seconds));
        for (size_t c = 0; c < count_count; c++) {
            speed[c][round] = steps * (double)counts[c] / seconds[c];
            gain[c][round] = speed[c][round] / speed[0][round];
        }
    }
    for (size_t c = 0; c < count_count; c++)
        CLI_TRY(bench_add(b, "streams",
                          json_pack("{s:s, s:I, s:f, s:f}", "weights", weights, "streams", (json_int_t)counts[c],
                                    "tokens_per_s", bench_median(speed[c], rounds), "over_one",
                                    bench_median(gain[c], rounds))));
    return BRT_OK;
}

static brt_status serve(bench *b, const brt_model *model, const char *weights)
{
    serving s = {.logits = calloc(most_streams * b->num_tokens, sizeof(float))};
    brt_status status = s.logits ? measure(b, model, weights, &s) : cli_out_of_memory("the benchmark");
    for (size_t i = 0; i < most_streams; i++)
        brt_stream_close(s.streams[i]);
    free(s.logits);
    return status;
}

static brt_status run(bench *b)
{
    return bench_with_weights(b, serve);
}

const bench_section bench_streams = {
    .name = "streams",
    .run = run,
    .tables = {{"streams",
                "Streams fed together, a token each at a time",
                {{"weights", "weights", BENCH_TEXT},
                 {"streams", "streams", BENCH_INTEGER},
                 {"tokens_per_s", "tokens per second", BENCH_COUNT},
                 {"over_one", "over one stream", BENCH_NUMBER}}}},
};
