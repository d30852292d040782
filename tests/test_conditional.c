/* Models with conditional feed-forwards in streams: how many tokens are chosen, and that no later token has a say in
 * it. What holds for all models is in test_variants.c. */
#define _GNU_SOURCE
#include "feeding.h"
#include "model/stream_state.h"

enum { rows = 2, width = 16, wanted = 4 };

#define MODEL_CHOOSING(tokens, more)                                                                            \
    "{\"num_tokens\": 23, \"dim\": 24, \"depth\": 2, \"dim_head\": 6, \"heads\": 4, \"block_width\": 16,"     \
    " \"max_seq_len\": 16, \"num_state_vectors\": 3, \"recurrent_layers\": [1], \"conditional_ff_layers\": [2]," \
    " \"conditional_ff_tokens\": " tokens more "}"
#define MODEL(more) MODEL_CHOOSING("4", more)

/* Of the block at hand. */
static size_t count_chosen(const brt_stream *stream)
{
    const real *price = stream->carried[stream->model->slots.price];
    size_t chosen = 0;
    for (size_t row = 0; row < rows; row++)
        for (size_t i = 0; i < stream->filled; i++)
            chosen += stream->scores[0][row * width + i] >= price[row * BRT_PRICE_NUMBERS];
    return chosen;
}

/* The first block, which has no price, is left out. */
static void as_many_are_chosen_as_are_wanted(void **state)
{
    enum { blocks = 300 };
    (void)state;
    input in = make_input(make_model(MODEL("")), rows, blocks);
    brt_stream *stream = open_stream(in.model, rows);
    feed_range(stream, &in, 0, width, NULL);
    size_t chosen = 0, seen = 0;
    for (size_t block = 1; block < blocks; block++) {
        feed_range(stream, &in, block * width, width - 1, NULL);
        chosen += count_chosen(stream);
        seen += rows * (width - 1);
        feed_range(stream, &in, block * width + width - 1, 1, NULL);
    }
    double share = (double)chosen / (double)seen;
    assert_true(fabs(share - (double)wanted / width) < 0.03);
    brt_stream_close(stream);
    close_input(&in);
}

/* Of feed-forwards alone, and in a layer of CoLT5's, whose keys and values are routed, too. */
static void no_token_changes_what_came_before(void **state)
{
    static const char *const models[] = {
        MODEL(""), MODEL(", \"routed_layers\": [2], \"routed_tokens\": 3, \"route_every\": 4, \"window\": \"exact\"")};
    (void)state;
    for (size_t i = 0; i < sizeof models / sizeof models[0]; i++) {
        input in = make_input(make_model(models[i]), rows, 4);
        float *before = feed_at_once(&in);
        for (size_t t = width; t < in.time; t++) {
            float *after = feed_with_change(&in, t);
            assert_true(same_logits(&in, before, after, 0, 0, t));
            assert_false(same_logits(&in, before, after, 0, 0, in.time));
            assert_true(same_logits(&in, before, after, 1, 0, in.time));
            free(after);
        }
        free(before);
        close_input(&in);
    }
}

static uint64_t bytes_of_a_token(const char *config)
{
    brt_model *model = make_model(config);
    brt_model_costs costs;
    assert_ok(brt_model_measure(model, width, width, &costs));
    brt_model_close(model);
    return costs.decode_bytes_per_token;
}

/* A heavy matrix is counted for the tokens that read it. */
static void more_chosen_tokens_read_more(void **state)
{
    (void)state;
    brt_model *model = make_model(MODEL(""));
    size_t heavy = 3 * 24 * brt_config_ff_inner(&model->config) * sizeof(float);
    brt_model_close(model);
    uint64_t few = bytes_of_a_token(MODEL_CHOOSING("4", "")), many = bytes_of_a_token(MODEL_CHOOSING("12", ""));
    assert_int_equal(many - few, heavy / 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_many_are_chosen_as_are_wanted),
        cmocka_unit_test(no_token_changes_what_came_before),
        cmocka_unit_test(more_chosen_tokens_read_more),
    };
    return cmocka_run_group_tests(tests, enter_scratch, leave_scratch);
}
