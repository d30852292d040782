/* brt's side of bench_peer.py: does what each line of standard input asks for and answers with a line of JSON.
 *
 *   brt_side THREADS train DIR TOKENS ROWS DTYPE  "step": a training step of the model in DIR
 *   brt_side THREADS generate DIR TOKENS          "generate FIRST LAST": tokens FIRST to LAST of a timeline that begins
 *                                                 with those of the file
 *
 * TOKENS is a file of tokens, NAME.bin: for training [ROWS, sample + 1], where a sample is two windows of max_seq_len.
 */
#define _POSIX_C_SOURCE 200809L
#include <brt/brt.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define TRY(call)                                                                                                      \
    do {                                                                                                               \
        brt_status status_ = (call);                                                                                   \
        if (status_ != BRT_OK)                                                                                         \
            return status_;                                                                                            \
    } while (0)

/* As the package's train.py. */
enum { segments_per_sample = 2 };
static const float learning_rate = 1e-4f, filter_thres = 0.9f;

typedef struct side {
    int threads;
    brt_model *model;
    brt_model_costs costs;
    size_t window, num_tokens;
    int32_t *tokens;
    size_t token_count;
    double work; /* of a step in GFLOP, of a token in GB read: what the machine's limits are counted in */
    /* training */
    brt_trainer *trainer;
    size_t rows;
    int32_t *inputs, *targets; /* [segments_per_sample, rows, window] */
    bool *reset;               /* [rows] */
    /* generation */
    brt_stream *stream;
    float *logits; /* [num_tokens] */
} side;

static double seconds_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static void *allocate(size_t count, size_t size)
{
    void *memory = calloc(count, size);
    if (memory)
        return memory;
    fputs("brt_side: out of memory\n", stderr);
    exit(1);
}

/* ---- training ---------------------------------------------------------------------------------------------------- */

/* Forward and backward of a sample per row, read from the start, clipping and Adam. */
static brt_status step(side *s, const char *request)
{
    double start = seconds_now(), loss = 0, norm;
    (void)request;
    for (size_t segment = 0; segment < segments_per_sample; segment++) {
        size_t offset = segment * s->rows * s->window;
        brt_segment part = {.time = s->window,
                            .tokens = s->inputs + offset,
                            .targets = s->targets + offset,
                            .reset = segment == 0 ? s->reset : NULL,
                            .weight = 1.0f / segments_per_sample};
        double part_loss;
        TRY(brt_trainer_segment(s->trainer, &part, &part_loss, NULL));
        loss += part_loss / segments_per_sample;
    }
    TRY(brt_trainer_update(s->trainer, learning_rate, &norm));
    printf("{\"seconds\": %.9f, \"work\": %.9g, \"loss\": %.9g}\n", seconds_now() - start, s->work, loss);
    return BRT_OK;
}

/* From [rows, sample + 1] to segments of inputs and of the tokens that follow them. */
static bool cut_segments(side *s)
{
    size_t stride = segments_per_sample * s->window + 1;
    if (s->token_count != s->rows * stride) {
        fprintf(stderr, "brt_side: %zu tokens; %zu rows need %zu\n", s->token_count, s->rows, s->rows * stride);
        return false;
    }
    s->inputs = allocate(segments_per_sample * s->rows * s->window, sizeof *s->inputs);
    s->targets = allocate(segments_per_sample * s->rows * s->window, sizeof *s->targets);
    for (size_t segment = 0; segment < segments_per_sample; segment++) {
        for (size_t row = 0; row < s->rows; row++) {
            const int32_t *from = s->tokens + row * stride + segment * s->window;
            size_t to = (segment * s->rows + row) * s->window;
            memcpy(s->inputs + to, from, s->window * sizeof *from);
            memcpy(s->targets + to, from + 1, s->window * sizeof *from);
        }
    }
    return true;
}

static brt_status open_trainer(side *s, const char *dtype)
{
    brt_run_options options = brt_run_options_init();
    TRY(brt_run_options_preset(&options, "reference"));
    size_t block_width = (size_t)brt_config_get(brt_model_config(s->model), "block_width");
    s->work = 1e-9 * (double)s->costs.train_flops_per_sample * (double)s->rows;
    options.trainer.rows = s->rows;
    options.trainer.segment_blocks = s->window / block_width;
    options.trainer.dtype = dtype;
    options.trainer.threads = s->threads;
    options.trainer.xl_memories_dropout = options.trainer.state_dropout = 0;
    s->reset = allocate(s->rows, sizeof *s->reset);
    memset(s->reset, true, s->rows * sizeof *s->reset);
    return brt_trainer_open(&s->trainer, s->model, &options.trainer);
}

/* ---- generation -------------------------------------------------------------------------------------------------- */

/* Reads FIRST tokens and then draws the others, one by one, as the package's generate does. */
static brt_status generate(side *s, const char *request)
{
    size_t first, last;
    brt_sampling sampling = brt_sampling_init();
    sampling.filter_thres = filter_thres;
    if (sscanf(request, "generate %zu %zu", &first, &last) != 2 || first < 1 || first > s->token_count) {
        fprintf(stderr, "brt_side: cannot do \"%s\" with %zu tokens\n", request, s->token_count);
        return BRT_ERROR_ARGUMENT;
    }
    TRY(brt_stream_reset(s->stream, -1));
    TRY(brt_stream_feed_last(s->stream, s->tokens, first, s->logits));
    double start = seconds_now();
    for (size_t position = first; position < last; position++) {
        int32_t token;
        TRY(brt_sample(s->logits, s->num_tokens, &sampling, position, &token));
        TRY(brt_stream_feed_last(s->stream, &token, 1, s->logits));
    }
    printf("{\"seconds\": %.9f, \"work\": %.9g}\n", (seconds_now() - start) / (double)(last - first), s->work);
    return BRT_OK;
}

static brt_status open_stream(side *s)
{
    brt_stream_options options = brt_stream_options_init();
    options.threads = s->threads;
    s->work = 1e-9 * (double)s->costs.decode_bytes_per_token;
    s->logits = allocate(s->num_tokens, sizeof *s->logits);
    return brt_stream_open(&s->stream, s->model, &options);
}

/* ---- the whole --------------------------------------------------------------------------------------------------- */

static brt_status load_tokens(side *s, const char *path)
{
    brt_dataset *dataset;
    brt_dataset_options options = brt_dataset_options_init();
    options.paths = &path;
    options.path_count = 1;
    options.num_tokens = s->num_tokens;
    TRY(brt_dataset_open(&dataset, &options));
    s->token_count = (size_t)brt_dataset_tokens(dataset);
    s->tokens = allocate(s->token_count, sizeof *s->tokens);
    brt_status status = brt_dataset_read(dataset, 0, 0, s->token_count, s->tokens);
    brt_dataset_close(dataset);
    return status;
}

static brt_status load(side *s, const char *dir, const char *tokens)
{
    TRY(brt_model_load(&s->model, dir));
    s->window = (size_t)brt_config_get(brt_model_config(s->model), "max_seq_len");
    s->num_tokens = (size_t)brt_config_get(brt_model_config(s->model), "num_tokens");
    TRY(brt_model_measure(s->model, segments_per_sample * s->window, s->window, &s->costs));
    return load_tokens(s, tokens);
}

typedef brt_status answer(side *s, const char *request);

/* What the arguments ask to open, and the function that then answers requests; NULL: they are wrong. */
static answer *open_side(side *s, int count, char **arguments, brt_status *status)
{
    const char *task = count > 2 ? arguments[2] : "";
    s->threads = count > 2 ? atoi(arguments[1]) : 0;
    *status = BRT_OK;
    if (strcmp(task, "train") == 0 && count == 7) {
        s->rows = (size_t)atol(arguments[5]);
        *status = load(s, arguments[3], arguments[4]);
        if (*status == BRT_OK && !cut_segments(s))
            return NULL;
        if (*status == BRT_OK)
            *status = open_trainer(s, arguments[6]);
        return step;
    }
    if (strcmp(task, "generate") == 0 && count == 5) {
        *status = load(s, arguments[3], arguments[4]);
        if (*status == BRT_OK)
            *status = open_stream(s);
        return generate;
    }
    fprintf(stderr, "usage: %s THREADS train DIR TOKENS ROWS DTYPE | generate DIR TOKENS\n", arguments[0]);
    return NULL;
}

int main(int count, char **arguments)
{
    side s = {0};
    brt_status status;
    char request[100];
    answer *answer_to = open_side(&s, count, arguments, &status);
    if (!answer_to)
        return 2;
    while (status == BRT_OK && fgets(request, sizeof request, stdin)) {
        status = answer_to(&s, request);
        fflush(stdout);
    }
    if (status != BRT_OK && brt_last_error()[0])
        fprintf(stderr, "brt_side: %s\n", brt_last_error());
    brt_stream_close(s.stream);
    brt_trainer_close(s.trainer);
    brt_model_close(s.model);
    free(s.logits);
    free(s.reset);
    free(s.inputs);
    free(s.targets);
    free(s.tokens);
    return status == BRT_OK ? 0 : 1;
}
