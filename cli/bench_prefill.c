/* brt bench prefill: reading a long prompt, against the forward pass of training over the same tokens. */
#include "bench_sections.h"

#include <stdlib.h>

enum { rounds = 5 };

typedef struct reading {
    const bench *b;
    brt_trainer *trainer; /* of the float model, one row */
    int32_t *tokens;      /* [segment] */
    float *logits;
} reading;

static brt_status train_forward(const reading *r, double *seconds)
{
    double start = cli_seconds_now(), loss;
    brt_segment segment = {
        .time = r->b->segment, .tokens = r->tokens, .targets = r->tokens, .weight = 1, .forward_only = true};
    CLI_TRY(brt_trainer_segment(r->trainer, &segment, &loss, NULL));
    *seconds = cli_seconds_now() - start;
    return BRT_OK;
}

static brt_status read_prompt(const reading *r, brt_stream *stream, double *seconds)
{
    double start = cli_seconds_now();
    CLI_TRY(brt_stream_feed_last(stream, r->tokens, r->b->segment, r->logits));
    *seconds = cli_seconds_now() - start;
    return BRT_OK;
}

/* In turn, all with memories, the trainer with the float model. */
static brt_status time_rounds(const reading *r, brt_stream *stream, double forward[rounds], double prompt[rounds])
{
    CLI_TRY(train_forward(r, &forward[0]));
    CLI_TRY(read_prompt(r, stream, &prompt[0]));
    for (size_t i = 0; i < rounds; i++) {
        CLI_TRY(train_forward(r, &forward[i]));
        CLI_TRY(read_prompt(r, stream, &prompt[i]));
    }
    return BRT_OK;
}

static brt_status measure(bench *b, const char *weights, const reading *r, brt_stream *stream)
{
    double forward[rounds], prompt[rounds], ratio[rounds], tokens = (double)b->segment;
    CLI_TRY(time_rounds(r, stream, forward, prompt));
    for (size_t i = 0; i < rounds; i++)
        ratio[i] = forward[i] / prompt[i];
    return bench_add(b, "prefill",
                     json_pack("{s:s, s:f, s:f, s:f}", "weights", weights, "tokens_per_s",
                               tokens / bench_median(prompt, rounds), "training_forward_tokens_per_s",
                               tokens / bench_median(forward, rounds), "over_training_forward",
                               bench_median(ratio, rounds)));
}

static brt_status prefill(bench *b, const brt_model *model, const char *weights)
{
    brt_trainer_options training = b->run.trainer;
    brt_stream_options reading_options = brt_stream_options_init();
    brt_stream *stream = NULL;
    reading r = {.b = b,
                 .tokens = calloc(b->segment, sizeof *r.tokens),
                 .logits = calloc(b->num_tokens, sizeof(float))};
    brt_status status = r.tokens && r.logits ? BRT_OK : cli_out_of_memory("the benchmark");
    training.rows = 1;
    reading_options.threads = b->arguments->threads;
    if (status == BRT_OK)
        status = brt_trainer_open(&r.trainer, b->model, &training);
    if (status == BRT_OK)
        status = brt_stream_open(&stream, model, &reading_options);
    if (status == BRT_OK) {
        bench_fill_tokens(r.tokens, b->segment, b->num_tokens);
        status = measure(b, weights, &r, stream);
    }
    brt_stream_close(stream);
    brt_trainer_close(r.trainer);
    free(r.tokens);
    free(r.logits);
    return status;
}

static brt_status run(bench *b)
{
    return bench_with_weights(b, prefill);
}

const bench_section bench_prefill = {
    .name = "prefill",
    .run = run,
    .tables = {{"prefill",
                "Reading a long prompt, and the forward pass of training over the same tokens, one row of each",
                {{"weights", "weights", BENCH_TEXT},
                 {"tokens_per_s", "tokens per second", BENCH_COUNT},
                 {"training_forward_tokens_per_s", "training, forward", BENCH_COUNT},
                 {"over_training_forward", "over training", BENCH_NUMBER}}}},
};
