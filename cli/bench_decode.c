/* brt bench decode: token by token through whole blocks that have a memory, their ends included. */
#include "bench_sections.h"

#include <stdlib.h>

enum { rounds = 3 };

typedef struct decoding {
    brt_stream *stream;
    int32_t *tokens; /* [width] */
    float *logits;
    size_t width;
} decoding;

static brt_status decode_block(void *context)
{
    const decoding *d = context;
    for (size_t i = 0; i < d->width; i++)
        CLI_TRY(brt_stream_feed_last(d->stream, d->tokens + i, 1, d->logits));
    return BRT_OK;
}

static brt_status measure(bench *b, decoding *d)
{
    bench_timing timing;
    bench_fill_tokens(d->tokens, d->width, b->num_tokens);
    CLI_TRY(brt_stream_feed(d->stream, d->tokens, d->width, NULL));
    CLI_TRY(bench_time(b->arguments->threads, rounds, decode_block, d, &timing));
    double gbytes = 1e-9 * (double)b->costs.decode_bytes_per_token * (double)d->width;
    return bench_add(b, "decode",
                     json_pack("{s:s, s:i, s:f, s:f}", "dtype", "f32", "threads", timing.machine.threads,
                               "ms_per_token", 1e3 * timing.seconds / (double)d->width, "fraction_of_bandwidth",
                               gbytes / timing.possible_gbytes));
}

static brt_status run(bench *b)
{
    brt_stream_options options = brt_stream_options_init();
    decoding d = {.width = (size_t)brt_config_get(brt_model_config(b->model), "block_width")};
    options.threads = b->arguments->threads;
    CLI_TRY(brt_stream_open(&d.stream, b->model, &options));
    d.tokens = calloc(d.width, sizeof *d.tokens);
    d.logits = calloc(b->num_tokens, sizeof *d.logits);
    brt_status status = d.tokens && d.logits ? measure(b, &d) : cli_out_of_memory("the benchmark");
    brt_stream_close(d.stream);
    free(d.tokens);
    free(d.logits);
    return status;
}

const bench_section bench_decode = {
    .name = "decode",
    .usual = true,
    .run = run,
    .tables = {{"decode",
                "Decoding one stream; the bytes are those of the weights that a token reads",
                {{"dtype", "type", BENCH_TEXT},
                 {"threads", "threads", BENCH_INTEGER},
                 {"ms_per_token", "ms per token", BENCH_NUMBER},
                 {"fraction_of_bandwidth", "of bandwidth", BENCH_PERCENT}}}},
};
