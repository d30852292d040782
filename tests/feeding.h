/* Streams and what they answer, for the tests of streams and sessions. */
#ifndef BRT_TESTS_FEEDING_H
#define BRT_TESTS_FEEDING_H

#include "models.h"

#include "base/size.h"

/* Large enough that products are cut into tiles and attention into tasks, for several threads. */
static const char medium_model[] =
    "{\"num_tokens\": 70, \"dim\": 64, \"depth\": 3, \"heads\": 2, \"dim_head\": 32, \"block_width\": 40,"
    " \"max_seq_len\": 80, \"recurrent_layers\": [3, 1]}";

/* Blocks and states so large that a state's write is spread in several parts over a block; `more` arguments. */
#define WIDE_MODEL(more)                                                                                               \
    "{\"num_tokens\": 20, \"dim\": 12, \"depth\": 2, \"heads\": 4, \"kv_heads\": 2, \"dim_head\": 4,"                  \
    " \"ff_mult\": 2, \"block_width\": 70, \"num_state_vectors\": 66, \"max_seq_len\": 140,"                         \
    " \"recurrent_layers\": [2]" more "}"
static const char wide_model[] = WIDE_MODEL(", \"read_recurrent_layers\": [1]");
static const char wide_memformer[] = WIDE_MODEL(", \"state_cell\": \"memformer\"");
static const char wide_paper[] = WIDE_MODEL(", \"arithmetic\": \"paper\", \"position_encoding\": \"t5\","
                                            " \"state_gate\": \"lstm\", \"state_update\": \"dual\"");

/* A model and tokens [rows, time] for it. */
typedef struct input {
    brt_model *model;
    size_t rows, time, classes, width;
    int32_t *tokens;
} input;

/* `blocks` blocks and three tokens. */
static inline input make_input(brt_model *model, size_t rows, size_t blocks)
{
    input in = {.model = model, .rows = rows, .classes = config_of(model, "num_tokens")};
    in.width = config_of(model, "block_width");
    in.time = blocks * in.width + 3;
    in.tokens = draw_tokens(model, rows * in.time, 3);
    return in;
}

/* The model, too. */
static inline void close_input(input *in)
{
    free(in->tokens);
    brt_model_close(in->model);
}

static inline brt_stream *open_stream(const brt_model *model, size_t rows)
{
    brt_stream *stream;
    brt_stream_options options = brt_stream_options_init();
    options.rows = rows;
    options.threads = 2;
    assert_ok(brt_stream_open(&stream, model, &options));
    return stream;
}

/* Feeds positions [first, first + count) of every row; logits [rows, time, classes], or NULL, gets theirs. */
static inline void feed_range(brt_stream *stream, const input *in, size_t first, size_t count, float *logits)
{
    int32_t *tokens = malloc(in->rows * count * sizeof *tokens);
    float *part = malloc(in->rows * count * in->classes * sizeof *part);
    for (size_t row = 0; row < in->rows; row++)
        memcpy(tokens + row * count, in->tokens + row * in->time + first, count * sizeof *tokens);
    assert_ok(brt_stream_feed(stream, tokens, count, logits ? part : NULL));
    for (size_t row = 0; logits && row < in->rows; row++)
        memcpy(logits + (row * in->time + first) * in->classes, part + row * count * in->classes,
               count * in->classes * sizeof *part);
    free(tokens);
    free(part);
}

static inline float *new_logits(const input *in)
{
    return calloc(in->rows * in->time * in->classes, sizeof(float));
}

/* Logits of everything, fed in calls of `part` tokens. */
static inline float *feed_in_parts(const input *in, size_t part)
{
    brt_stream *stream = open_stream(in->model, in->rows);
    float *logits = new_logits(in);
    for (size_t done = 0; done < in->time; done += part)
        feed_range(stream, in, done, brt_min_size(part, in->time - done), logits);
    brt_stream_close(stream);
    return logits;
}

static inline float *feed_at_once(const input *in)
{
    return feed_in_parts(in, in->time);
}

/* The logits of positions [first, end) of one row are the same bits. */
static inline bool same_logits(const input *in, const float *a, const float *b, size_t row, size_t first, size_t end)
{
    size_t at = (row * in->time + first) * in->classes;
    return memcmp(a + at, b + at, (end - first) * in->classes * sizeof *a) == 0;
}

/* Logits of everything, token t of the first row being another. */
static inline float *feed_with_change(const input *in, size_t t)
{
    int32_t token = in->tokens[t];
    in->tokens[t] = (int32_t)((size_t)(token + 1) % in->classes);
    float *logits = feed_at_once(in);
    in->tokens[t] = token;
    return logits;
}

/* Two streams, both after `fed` tokens, go on with the same bits; closes them. */
static inline void expect_same_rest(const char *name, const input *in, brt_stream *saved, brt_stream *loaded,
                                    size_t fed)
{
    float *expected = new_logits(in), *found = new_logits(in);
    feed_range(saved, in, fed, in->time - fed, expected);
    feed_range(loaded, in, fed, in->time - fed, found);
    if (memcmp(expected, found, in->rows * in->time * in->classes * sizeof *found) != 0)
        fail_msg("%s: a session saved after %zu tokens goes on differently", name, fed);
    brt_stream_close(saved);
    brt_stream_close(loaded);
    free(expected);
    free(found);
}

static inline double difference(const float *a, const float *b, size_t count)
{
    double largest = 0;
    for (size_t i = 0; i < count; i++)
        largest = fmax(largest, fabs((double)a[i] - (double)b[i]));
    return largest;
}

#endif
