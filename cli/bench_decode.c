/* brt bench decode: token by token through whole blocks that have a memory, their ends included. */
#include "bench_sections.h"

#include <stdlib.h>

enum { blocks = 9 }; /* of which the median counts, or each place's least time */

typedef struct decoding {
    brt_stream *stream;
    int32_t *tokens;  /* [width] */
    float *logits;
    double *least;    /* [width], or NULL: seconds of each place in the block */
    size_t width;
    size_t place;     /* of the next token */
} decoding;

/* Tokens that are timed together: a block and the token before it, which finds the caches as the machine's measurement
 * left them. So each block starts one place later than the one before. */
static size_t tokens_of_round(size_t width)
{
    return width + 1;
}

static brt_status decode_block(void *context)
{
    decoding *d = context;
    for (size_t i = 0; i < tokens_of_round(d->width); i++, d->place = (d->place + 1) % d->width) {
        double start = cli_seconds_now();
        CLI_TRY(brt_stream_feed_last(d->stream, d->tokens + d->place, 1, d->logits));
        double seconds = cli_seconds_now() - start;
        if (d->least && i > 0 && (d->least[d->place] == 0 || seconds < d->least[d->place]))
            d->least[d->place] = seconds;
    }
    return BRT_OK;
}

static brt_status time_blocks(const bench *b, decoding *d, int threads, bench_timing *out)
{
    bench_fill_tokens(d->tokens, d->width, b->num_tokens);
    CLI_TRY(brt_stream_feed(d->stream, d->tokens, d->width, NULL));
    return bench_time(threads, blocks, decode_block, d, out);
}

brt_status bench_time_decoding(const bench *b, const brt_model *model, int threads, double *least, bench_timing *out)
{
    brt_stream_options options = brt_stream_options_init();
    decoding d = {.width = (size_t)brt_config_get(brt_model_config(model), "block_width"), .least = least};
    options.threads = threads;
    CLI_TRY(brt_stream_open(&d.stream, model, &options));
    d.tokens = calloc(d.width, sizeof *d.tokens);
    d.logits = calloc(b->num_tokens, sizeof *d.logits);
    brt_status status = d.tokens && d.logits ? time_blocks(b, &d, threads, out) : cli_out_of_memory("the benchmark");
    brt_stream_close(d.stream);
    free(d.tokens);
    free(d.logits);
    return status;
}

static brt_status measure(bench *b, const brt_model *model, const char *dtype, double *least, size_t width)
{
    bench_timing timing;
    brt_model_costs costs;
    CLI_TRY(brt_model_measure(model, b->sample, b->segment, &costs));
    CLI_TRY(bench_time_decoding(b, model, b->arguments->threads, least, &timing));
    double tokens = (double)tokens_of_round(width);
    double gbytes = 1e-9 * (double)costs.decode_bytes_per_token * tokens;
    double median = bench_median(least, width), worst = least[width - 1];
    return bench_add(b, "decode",
                     json_pack("{s:s, s:i, s:f, s:f, s:f, s:f, s:f}", "weights", dtype, "threads",
                               timing.machine.threads, "mbytes", 1e-6 * (double)costs.decode_bytes_per_token,
                               "ms_per_token", 1e3 * timing.seconds / tokens, "fraction_of_bandwidth",
                               gbytes / timing.possible_gbytes, "least_ms_median", 1e3 * median,
                               "worst_over_median", worst / median));
}

static brt_status decode(bench *b, const brt_model *model, const char *dtype)
{
    size_t width = (size_t)brt_config_get(brt_model_config(model), "block_width");
    double *least = calloc(width, sizeof *least);
    brt_status status = least ? measure(b, model, dtype, least, width) : cli_out_of_memory("the benchmark");
    free(least);
    return status;
}

static brt_status run(bench *b)
{
    return bench_with_weights(b, decode);
}

const bench_section bench_decode = {
    .name = "decode",
    .usual = true,
    .run = run,
    .tables = {{"decode",
                "Decoding one stream; the bytes are those of the weights that a token reads, the worst token is that "
                "of the place in the block whose least time is longest",
                {{"weights", "weights", BENCH_TEXT},
                 {"threads", "threads", BENCH_INTEGER},
                 {"mbytes", "MB per token", BENCH_NUMBER},
                 {"ms_per_token", "ms per token", BENCH_NUMBER},
                 {"fraction_of_bandwidth", "of bandwidth", BENCH_PERCENT},
                 {"least_ms_median", "median of least ms", BENCH_NUMBER},
                 {"worst_over_median", "worst over median", BENCH_NUMBER}}}},
};
