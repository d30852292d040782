/* Scoring documents: rows of a stream take documents from a queue, a block at a time; a row whose document has ended
 * starts its next one at the following block. */
#include "../model/model.h"

#include "../base/memory.h"
#include "../base/clock.h"
#include "../base/size.h"

#include <math.h>
#include <stdlib.h>

enum {
    most_rows = 4,
    most_logits = 1 << 25, /* floats held at a time */
};

typedef struct reader {
    bool active;
    size_t document;
    uint64_t offset, tokens; /* read so far, and in all */
} reader;

typedef struct scoring {
    const brt_model *model;
    const brt_dataset *dataset;
    const brt_evaluate_options *options;
    brt_stream *stream;
    size_t rows, width, next_document;
    reader *readers;            /* [rows] */
    int32_t *tokens, *targets;  /* [rows, width] */
    int32_t *window;            /* [width + 1] */
    float *logits, *losses;     /* [rows, width, num_tokens], [rows, width] */
    brt_evaluation *out;
} scoring;

brt_evaluate_options brt_evaluate_options_init(void)
{
    return (brt_evaluate_options){.size = sizeof(brt_evaluate_options)};
}

static brt_status check(const scoring *s)
{
    const brt_evaluate_options *options = s->options;
    if (options->size != sizeof *options)
        return BRT_FAIL(BRT_ERROR_ARGUMENT, "evaluation options must be made with brt_evaluate_options_init");
    if (options->clear_every % s->width)
        return BRT_FAIL(BRT_ERROR_ARGUMENT, "clear_every is %zu tokens; it must be a multiple of block_width (%zu)",
                        options->clear_every, s->width);
    if (options->buckets && (!options->bucket_width || !options->bucket_loss || !options->bucket_tokens))
        return BRT_FAIL(BRT_ERROR_ARGUMENT, "loss by position needs a bucket_width and room for the results");
    return BRT_OK;
}

/* The next document with something to predict; false when there is none. */
static bool take_document(scoring *s, reader *r)
{
    while (s->next_document < brt_dataset_documents(s->dataset)) {
        size_t document = s->next_document++;
        uint64_t tokens = brt_dataset_document_tokens(s->dataset, document);
        if (tokens < 2)
            continue;
        *r = (reader){true, document, 0, tokens};
        s->out->documents++;
        return true;
    }
    r->active = false;
    return false;
}

/* A row's next block of tokens and targets; what is past the document's end has no target. */
static brt_status fill_row(scoring *s, size_t row)
{
    reader *r = &s->readers[row];
    int32_t *tokens = s->tokens + row * s->width, *targets = s->targets + row * s->width;
    int32_t ignore = (int32_t)s->model->config.ignore_index;
    uint64_t left = r->active ? r->tokens - r->offset : 0;
    size_t count = left < s->width + 1 ? (size_t)left : s->width + 1;
    if (count)
        BRT_TRY(brt_dataset_read(s->dataset, r->document, r->offset, count, s->window));
    for (size_t i = 0; i < s->width; i++) {
        tokens[i] = i < count ? s->window[i] : 0;
        targets[i] = i + 1 < count ? s->window[i + 1] : ignore;
    }
    return BRT_OK;
}

/* Starts documents and clears rows where it is time; false in *active when nothing is left. */
static brt_status prepare_rows(scoring *s, bool *active)
{
    bool enough = s->options->max_tokens && s->out->tokens >= s->options->max_tokens;
    *active = false;
    for (size_t row = 0; row < s->rows; row++) {
        reader *r = &s->readers[row];
        bool started = false;
        if (enough)
            r->active = false;
        else if (!r->active || r->offset + 1 >= r->tokens)
            started = take_document(s, r);
        bool cleared = r->active && s->options->clear_every && r->offset % s->options->clear_every == 0;
        if (started || cleared)
            BRT_TRY(brt_stream_reset(s->stream, (int64_t)row));
        *active |= r->active;
        BRT_TRY(fill_row(s, row));
    }
    return BRT_OK;
}

static void count_token(scoring *s, uint64_t position, double loss)
{
    const brt_evaluate_options *options = s->options;
    s->out->loss += loss;
    s->out->tokens++;
    if (!options->buckets)
        return;
    size_t bucket = (size_t)(position / options->bucket_width);
    bucket = brt_min_size(bucket, options->buckets - 1);
    options->bucket_loss[bucket] += loss;
    options->bucket_tokens[bucket]++;
}

static void count_rows(scoring *s)
{
    int32_t ignore = (int32_t)s->model->config.ignore_index;
    s->model->kernels->cross_entropy(s->rows * s->width, (size_t)s->model->config.num_tokens, s->targets, ignore, false,
                                     1, s->logits, s->losses);
    for (size_t row = 0; row < s->rows; row++) {
        reader *r = &s->readers[row];
        for (size_t i = 0; i < s->width; i++)
            if (s->targets[row * s->width + i] != ignore)
                count_token(s, r->offset + i, (double)s->losses[row * s->width + i]);
        r->offset += s->width;
    }
}

static brt_status score(scoring *s)
{
    for (;;) {
        bool active;
        BRT_TRY(prepare_rows(s, &active));
        if (!active)
            return BRT_OK;
        BRT_TRY(brt_stream_feed(s->stream, s->tokens, s->width, s->logits));
        count_rows(s);
    }
}

static brt_status allocate(scoring *s)
{
    size_t block = s->rows * s->width, classes = (size_t)s->model->config.num_tokens;
    BRT_TRY(brt_memory_check((uint64_t)block * classes * sizeof *s->logits, "logits of a block"));
    s->readers = calloc(s->rows, sizeof *s->readers);
    s->tokens = calloc(block, sizeof *s->tokens);
    s->targets = calloc(block, sizeof *s->targets);
    s->window = calloc(s->width + 1, sizeof *s->window);
    s->losses = calloc(block, sizeof *s->losses);
    s->logits = malloc(block * classes * sizeof *s->logits);
    if (!s->readers || !s->tokens || !s->targets || !s->window || !s->losses || !s->logits)
        return BRT_FAIL(BRT_ERROR_MEMORY, "out of memory for an evaluation in blocks of %zu tokens", s->width);
    brt_stream_options options = brt_stream_options_init();
    options.rows = s->rows;
    options.threads = s->options->threads;
    options.no_states = s->options->no_states;
    options.no_memories = s->options->no_memories;
    options.recall_tokens = s->options->recall_tokens;
    options.recall_layer = s->options->recall_layer;
    return brt_stream_open(&s->stream, s->model, &options);
}

static void release(scoring *s)
{
    brt_stream_close(s->stream);
    free(s->readers);
    free(s->tokens);
    free(s->targets);
    free(s->window);
    free(s->losses);
    free(s->logits);
}

static void clear_results(scoring *s)
{
    *s->out = (brt_evaluation){0};
    for (size_t i = 0; i < s->options->buckets; i++) {
        s->options->bucket_loss[i] = 0;
        s->options->bucket_tokens[i] = 0;
    }
}

static void average_results(scoring *s)
{
    for (size_t i = 0; i < s->options->buckets; i++)
        if (s->options->bucket_tokens[i])
            s->options->bucket_loss[i] /= (double)s->options->bucket_tokens[i];
    s->out->loss /= (double)brt_max_size((size_t)s->out->tokens, 1);
}

brt_status brt_evaluate(const brt_model *model, const brt_dataset *dataset, const brt_evaluate_options *options,
                        brt_evaluation *out)
{
    size_t width = (size_t)model->config.block_width, row_logits = width * (size_t)model->config.num_tokens;
    size_t rows = brt_min_size(brt_max_size(most_logits / brt_max_size(row_logits, 1), 1), most_rows);
    scoring s = {.model = model,
                 .dataset = dataset,
                 .options = options,
                 .width = width,
                 .rows = brt_min_size(rows, brt_max_size(brt_dataset_documents(dataset), 1)),
                 .out = out};
    BRT_TRY(check(&s));
    clear_results(&s);
    double start = brt_seconds();
    brt_status status = allocate(&s);
    if (status == BRT_OK)
        status = score(&s);
    release(&s);
    BRT_TRY(status);
    if (!out->tokens)
        return BRT_FAIL(BRT_ERROR_DATA, "there is nothing to score: no document has two tokens or more");
    average_results(&s);
    out->seconds = brt_seconds() - start;
    if (!isfinite(out->loss))
        return BRT_FAIL(BRT_ERROR_NUMERIC, "the loss is not finite (%g): the model's weights are damaged or diverged",
                        out->loss);
    return BRT_OK;
}
