/* brt bench context: what a token costs far into a text. */
#define _GNU_SOURCE
#include "bench_sections.h"
#include "interrupt.h"

#include <stdlib.h>
#include <unistd.h>

enum { near = 2000, rounds = 9, part = 4096 };

/* A stream after so many tokens. */
typedef struct place {
    brt_stream *stream;
    uint64_t tokens;
    double resident; /* bytes of the process at that time */
    double seconds[rounds]; /* of a token, over a whole block */
} place;

/* 0 where the system does not tell. */
static double resident_bytes(void)
{
    unsigned long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (!file)
        return 0;
    if (fscanf(file, "%*u %lu", &pages) != 1)
        pages = 0;
    fclose(file);
    return (double)pages * (double)sysconf(_SC_PAGESIZE);
}

static brt_status read_up_to(place *p, uint64_t tokens, const int32_t *text)
{
    while (p->tokens < tokens) {
        uint64_t left = tokens - p->tokens;
        if (cli_interrupted())
            return cli_fail(BRT_INTERRUPTED, "interrupted after %llu tokens", (unsigned long long)p->tokens);
        size_t count = left < part ? (size_t)left : part;
        CLI_TRY(brt_stream_feed(p->stream, text, count, NULL));
        p->tokens += count;
    }
    p->resident = resident_bytes();
    return BRT_OK;
}

static brt_status time_block(const bench *b, place *p, size_t round, const int32_t *text, float *logits)
{
    size_t width = (size_t)brt_config_get(brt_model_config(b->model), "block_width");
    double start = cli_seconds_now();
    for (size_t i = 0; i < width; i++)
        CLI_TRY(brt_stream_feed_last(p->stream, text + i % part, 1, logits));
    p->seconds[round] = (cli_seconds_now() - start) / (double)width;
    return BRT_OK;
}

static brt_status add(bench *b, place *p, double over_near)
{
    return bench_add(b, "context",
                     json_pack("{s:I, s:f, s:f, s:f}", "tokens", (json_int_t)p->tokens, "ms_per_token",
                               1e3 * bench_median(p->seconds, rounds), "over_first", over_near, "resident_mbytes",
                               1e-6 * p->resident));
}

/* Blocks of both in turn: only what is measured at the same time can be compared. */
static brt_status measure(bench *b, place *far, place *close, const int32_t *text, float *logits)
{
    double ratio[rounds];
    CLI_TRY(read_up_to(far, near, text));
    close->resident = far->resident;
    CLI_TRY(read_up_to(far, b->arguments->context, text));
    double resident_near = close->resident;
    CLI_TRY(read_up_to(close, near, text));
    close->resident = resident_near;
    for (size_t round = 0; round < rounds; round++) {
        CLI_TRY(time_block(b, close, round, text, logits));
        CLI_TRY(time_block(b, far, round, text, logits));
        ratio[round] = far->seconds[round] / close->seconds[round];
    }
    CLI_TRY(add(b, close, 1));
    return add(b, far, bench_median(ratio, rounds));
}

static brt_status run(bench *b)
{
    brt_stream_options options = brt_stream_options_init();
    place far = {0}, close = {0};
    options.threads = b->arguments->threads;
    int32_t *text = calloc(part, sizeof *text);
    float *logits = calloc(b->num_tokens, sizeof *logits);
    brt_status status = text && logits ? brt_stream_open(&far.stream, b->model, &options)
                                       : cli_out_of_memory("the benchmark");
    if (status == BRT_OK)
        status = brt_stream_open(&close.stream, b->model, &options);
    if (status == BRT_OK) {
        bench_fill_tokens(text, part, b->num_tokens);
        cli_catch_interrupts();
        status = measure(b, &far, &close, text, logits);
    }
    brt_stream_close(far.stream);
    brt_stream_close(close.stream);
    free(text);
    free(logits);
    return status;
}

const bench_section bench_context = {
    .name = "context",
    .run = run,
    .tables = {{"context",
                "A token early and late in a text, in f32; memory of the whole process, two streams",
                {{"tokens", "after tokens", BENCH_INTEGER},
                 {"ms_per_token", "ms per token", BENCH_NUMBER},
                 {"over_first", "over the first", BENCH_NUMBER},
                 {"resident_mbytes", "resident MB", BENCH_NUMBER}}}},
};
