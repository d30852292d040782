/* How far back does a state remember? Trains a small model to recall one fact, then asks it ever later:
 *
 *     recall_distance [NAME=VALUE...]
 *
 * A document is a key, one of 8, filler drawn from 16 other symbols, and a question; the answer is the key, and nothing
 * else has a loss. The windows of two layers reach two blocks back; what is further away has gone through the states of
 * all blocks between. So training starts with documents of 2 blocks and takes longer ones, too, whenever all are
 * answered: a state that does not hold the key for 4 blocks learns nothing from a question after 16. Shorter ones stay:
 * a model that only sees one length is lost at others.
 *
 * Names: blocks (of the longest documents to train on), longest (the most blocks to ask after), steps, seed, threads,
 * exact_recall (keys of it per head when asking; 0: none), save (a directory for the model), and the arguments of the
 * model, as in state_gate_bias=-3. recall_arms.sh compares some. */
#include <brt/brt.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { key_count = 8, filler_count = 16, question = key_count + filler_count, symbol_count };
enum { block_width = 16, train_rows = 32, asked_rows = 128 };

typedef struct settings {
    long blocks, longest, steps, seed, threads, exact_recall;
    const char *save;
} settings;

/* ---- documents ----------------------------------------------------------------------------------------------- */

/* A number below `bound`, by Vigna's splitmix64. */
static int32_t draw(uint64_t *random, uint64_t bound)
{
    uint64_t z = *random += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return (int32_t)((z ^ z >> 31) % bound);
}

static void draw_keys(uint64_t *random, size_t rows, int32_t *keys)
{
    for (size_t row = 0; row < rows; row++)
        keys[row] = draw(random, key_count);
}

/* tokens: [rows, time], a part of every row's document: the first one begins with `keys` (else NULL), the last one ends
 * with the question. */
static void write_part(uint64_t *random, size_t rows, size_t time, const int32_t *keys, bool last, int32_t *tokens)
{
    for (size_t i = 0; i < rows * time; i++)
        tokens[i] = key_count + draw(random, filler_count);
    for (size_t row = 0; row < rows; row++) {
        if (keys)
            tokens[row * time] = keys[row];
        if (last)
            tokens[(row + 1) * time - 1] = question;
    }
}

/* ---- training ------------------------------------------------------------------------------------------------ */

/* One update on new documents. */
static brt_status train_step(brt_trainer *trainer, uint64_t *random, size_t blocks, float rate, double *loss)
{
    size_t time = blocks * block_width;
    int32_t keys[train_rows];
    int32_t *tokens = calloc(train_rows * time, sizeof *tokens);
    int32_t *targets = calloc(train_rows * time, sizeof *targets);
    brt_status status = tokens && targets ? BRT_OK : BRT_ERROR_MEMORY;
    if (status == BRT_OK) {
        draw_keys(random, train_rows, keys);
        write_part(random, train_rows, time, keys, true, tokens);
        for (size_t i = 0; i < train_rows * time; i++)
            targets[i] = (i + 1) % time ? -100 : keys[i / time]; /* -100: ignore_index */
        brt_segment segment = {.time = time, .tokens = tokens, .targets = targets, .weight = 1};
        brt_trainer_clear(trainer);
        status = brt_trainer_segment(trainer, &segment, loss, NULL);
    }
    if (status == BRT_OK)
        status = brt_trainer_update(trainer, rate, NULL);
    free(tokens);
    free(targets);
    return status;
}

/* The next length of the curriculum: 2, 3, 4, 6, 8, 12, 16, 24, 32, ... */
static size_t lengthen(size_t blocks)
{
    bool is_power_of_two = !(blocks & (blocks - 1));
    return blocks + (is_power_of_two ? blocks / 2 : blocks / 3);
}

static const double guessing = 2.08; /* the loss of it, log(8) */

/* Each step has documents of one length, 2 to `most` blocks, which are answered when the loss, averaged over about 20
 * steps, is below 0.1. */
static brt_status train(brt_trainer *trainer, const settings *set)
{
    uint64_t random = (uint64_t)set->seed;
    size_t most = 2, longest = (size_t)set->blocks;
    double loss, average = guessing;
    bool answered = false;
    for (long step = 1; step <= set->steps; step++) {
        size_t blocks = 2 + (size_t)draw(&random, most - 1);
        brt_status status = train_step(trainer, &random, blocks, 1e-3f, &loss);
        if (status != BRT_OK)
            return status;
        average += 0.05 * (loss - average);
        if (average >= 0.1 || answered)
            continue;
        printf("%zu blocks answered by step %ld\n", most, step);
        fflush(stdout);
        answered = most >= longest;
        if (!answered) {
            most = lengthen(most) < longest ? lengthen(most) : longest;
            average = guessing;
        }
    }
    printf("loss at the end %.4f, of up to %zu blocks\n", average, most);
    return BRT_OK;
}

static brt_status open_and_train(brt_model *model, const settings *set)
{
    brt_trainer *trainer;
    brt_trainer_options options = brt_trainer_options_init();
    options.rows = train_rows;
    options.segment_blocks = (size_t)set->blocks;
    options.threads = (int)set->threads;
    options.seed = (uint64_t)set->seed;
    brt_status status = brt_trainer_open(&trainer, model, &options);
    if (status != BRT_OK)
        return status;
    status = train(trainer, set);
    brt_trainer_close(trainer);
    return status;
}

/* ---- asking -------------------------------------------------------------------------------------------------- */

static int32_t most_likely_key(const float *logits)
{
    int32_t best = 0;
    for (int32_t key = 1; key < key_count; key++)
        if (logits[key] > logits[best])
            best = key;
    return best;
}

/* The share of right answers in new documents of `blocks` blocks. */
static brt_status ask(brt_stream *stream, size_t blocks, uint64_t random, double *recall)
{
    int32_t keys[asked_rows], tokens[asked_rows * block_width];
    static float logits[asked_rows * symbol_count];
    brt_status status = brt_stream_reset(stream, -1);
    draw_keys(&random, asked_rows, keys);
    for (size_t block = 0; block < blocks && status == BRT_OK; block++) {
        bool last = block + 1 == blocks;
        write_part(&random, asked_rows, block_width, block ? NULL : keys, last, tokens);
        status = last ? brt_stream_feed_last(stream, tokens, block_width, logits)
                      : brt_stream_feed(stream, tokens, block_width, NULL);
    }
    *recall = 0;
    for (size_t row = 0; row < asked_rows; row++)
        *recall += (most_likely_key(logits + row * symbol_count) == keys[row]) / (double)asked_rows;
    return status;
}

static brt_status ask_and_print(const brt_model *model, const settings *set, bool no_states, size_t blocks)
{
    brt_stream *stream;
    double recall;
    brt_stream_options options = brt_stream_options_init();
    options.rows = asked_rows;
    options.threads = (int)set->threads;
    options.no_states = no_states;
    options.recall_tokens = (size_t)set->exact_recall;
    options.recall_capacity = blocks * block_width;
    brt_status status = brt_stream_open(&stream, model, &options);
    if (status != BRT_OK)
        return status;
    status = ask(stream, blocks, ~(uint64_t)set->seed, &recall);
    if (status == BRT_OK)
        printf("recall after %zu blocks%s: %.2f\n", blocks, no_states ? " without states" : "", recall);
    fflush(stdout);
    brt_stream_close(stream);
    return status;
}

static brt_status ask_ever_later(const brt_model *model, const settings *set)
{
    static const size_t distances[] = {2, 4, 8, 16, 32, 64, 128, 256, 1024, 3750};
    brt_status status = ask_and_print(model, set, true, (size_t)set->blocks);
    for (size_t i = 0; i < sizeof distances / sizeof distances[0] && status == BRT_OK; i++)
        if (distances[i] <= (size_t)set->longest)
            status = ask_and_print(model, set, false, distances[i]);
    return status;
}

/* ---- settings ------------------------------------------------------------------------------------------------ */

/* Takes NAME=VALUE, ours or the model's. */
static brt_status take(settings *set, brt_config *config, char *argument)
{
    const struct {
        const char *name;
        long *to;
    } numbers[] = {{"blocks", &set->blocks}, {"longest", &set->longest}, {"steps", &set->steps},
                   {"seed", &set->seed},     {"threads", &set->threads}, {"exact_recall", &set->exact_recall}};
    char *value = strchr(argument, '=');
    if (!value)
        return brt_config_set(config, argument, "");
    *value++ = '\0';
    if (strcmp(argument, "save") == 0) {
        set->save = value;
        return BRT_OK;
    }
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        if (strcmp(argument, numbers[i].name) == 0) {
            *numbers[i].to = strtol(value, NULL, 10);
            return BRT_OK;
        }
    return brt_config_set(config, argument, value);
}

static brt_status configure(brt_config *config, settings *set, int count, char **arguments)
{
    static const char *const defaults[][2] = {{"dim", "64"},     {"depth", "2"},        {"dim_head", "16"},
                                              {"heads", "4"},    {"block_width", "16"}, {"num_state_vectors", "16"},
                                              {"num_tokens", "25"}, {"recurrent_layers", "1"}};
    char length[32];
    brt_status status = BRT_OK;
    for (size_t i = 0; i < sizeof defaults / sizeof defaults[0] && status == BRT_OK; i++)
        status = brt_config_set(config, defaults[i][0], defaults[i][1]);
    for (int i = 0; i < count && status == BRT_OK; i++)
        status = take(set, config, arguments[i]);
    snprintf(length, sizeof length, "%ld", set->blocks * block_width);
    return status == BRT_OK ? brt_config_set(config, "max_seq_len", length) : status;
}

static brt_status run(settings *set, int count, char **arguments)
{
    brt_config *config;
    brt_model *model = NULL;
    brt_status status = brt_config_create(&config);
    if (status != BRT_OK)
        return status;
    status = configure(config, set, count, arguments);
    if (status == BRT_OK)
        status = brt_model_create(&model, config, (uint64_t)set->seed);
    if (status == BRT_OK)
        status = open_and_train(model, set);
    if (status == BRT_OK)
        status = ask_ever_later(model, set);
    if (status == BRT_OK && set->save)
        status = brt_model_save(model, set->save);
    brt_model_close(model);
    brt_config_close(config);
    return status;
}

int main(int argc, char **argv)
{
    settings set = {.blocks = 8, .longest = 3750, .steps = 3000, .seed = 1, .threads = 1};
    if (run(&set, argc - 1, argv + 1) == BRT_OK)
        return EXIT_SUCCESS;
    fprintf(stderr, "%s\n", brt_last_error());
    return EXIT_FAILURE;
}
