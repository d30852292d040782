/* Backward passes that compute activations again have the numbers of those that keep them, bit by bit. */
#define _GNU_SOURCE
#include "training.h"

#define SIZES "{\"num_tokens\": 31, \"dim\": 24, \"depth\": 3, \"dim_head\": 8, \"heads\": 3, "

typedef struct shape {
    const char *name, *model;
    size_t rows, blocks;
    float reconstruction_weight;
} shape;

static const shape shapes[] = {
    {"one recurrent layer",
     SIZES "\"max_seq_len\": 16, \"block_width\": 16, \"num_state_vectors\": 8, \"recurrent_layers\": [2]}", 2, 4, 0},
    {"read earlier, two writers",
     SIZES "\"max_seq_len\": 12, \"block_width\": 12, \"num_state_vectors\": 5, \"recurrent_layers\": [3, 2],"
           " \"read_recurrent_layers\": [1, 1]}",
     3, 3, 0},
    {"first and last layer",
     SIZES "\"max_seq_len\": 7, \"block_width\": 7, \"num_state_vectors\": 9, \"recurrent_layers\": [1, 3],"
           " \"read_recurrent_layers\": [1, 2]}",
     1, 6, 0},
    {"no recurrence",
     SIZES "\"max_seq_len\": 10, \"block_width\": 10, \"num_state_vectors\": 4, \"recurrent_layers\": []}", 2, 3, 0},
    {"routed memories that go round",
     SIZES "\"max_seq_len\": 4, \"block_width\": 4, \"num_state_vectors\": 3, \"recurrent_layers\": [1],"
           " \"routed_layers\": [2, 3], \"routed_capacity\": 12, \"routes\": 3, \"routed_tokens\": 5,"
           " \"route_every\": 2}",
     2, 5, 0},
    {"narrow blocks",
     SIZES "\"max_seq_len\": 3, \"block_width\": 3, \"num_state_vectors\": 2, \"recurrent_layers\": [2],"
           " \"read_recurrent_layers\": [1]}",
     2, 8, 0},
    {"compressed memory",
     SIZES "\"max_seq_len\": 8, \"block_width\": 8, \"num_state_vectors\": 3, \"recurrent_layers\": [2],"
           " \"use_compressed_mem\": true}",
     2, 5, 0.5f},
};

static brt_trainer *open_dropping(brt_model *model, const shape *s, bool recompute)
{
    brt_trainer_options options = brt_trainer_options_init();
    options.rows = s->rows;
    options.segment_blocks = s->blocks;
    options.recompute = recompute;
    options.xl_memories_dropout = options.state_dropout = 0.3f;
    options.reconstruction_weight = s->reconstruction_weight;
    return open_trainer(model, &options);
}

/* Tokens that depend on `number`; every fifth target is ignored, row 0 starts anew in segment 2. */
static double run_numbered(brt_trainer *trainer, const brt_model *model, const shape *s, size_t time, uint64_t number)
{
    batch b = make_batch(model, s->rows, time, number);
    bool *reset = calloc(s->rows, sizeof *reset);
    for (size_t i = number; i < s->rows * time; i += 5)
        b.targets[i] = -100;
    reset[0] = number == 2;
    brt_segment segment = segment_of(&b);
    segment.reset = reset;
    double loss;
    assert_ok(brt_trainer_segment(trainer, &segment, &loss, NULL));
    close_batch(&b);
    free(reset);
    return loss;
}

/* Segments of several lengths, the second ending inside a block, with what they carry on. */
static void check(const shape *s)
{
    brt_model *model_a = make_model(s->model), *model_b = make_model(s->model);
    brt_trainer *kept = open_dropping(model_a, s, false), *again = open_dropping(model_b, s, true);
    size_t width = config_of(model_a, "block_width");
    const size_t times[] = {s->blocks * width, s->blocks * width - 1, s->blocks * width, 1, width};
    for (size_t i = 0; i < sizeof times / sizeof times[0]; i++) {
        double a = run_numbered(kept, model_a, s, times[i], i), b = run_numbered(again, model_b, s, times[i], i);
        if (a != b)
            fail_msg("%s: the loss of segment %zu is %.17g kept, %.17g computed again", s->name, i, a, b);
        assert_true(brt_trainer_reconstruction_loss(kept) == brt_trainer_reconstruction_loss(again));
    }
    expect_same_gradients(s->name, model_a, kept, again);
    brt_trainer_close(kept);
    brt_trainer_close(again);
    brt_model_close(model_a);
    brt_model_close(model_b);
}

static void numbers_are_the_same(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
        check(&shapes[i]);
}

static uint64_t bytes_of(const brt_model *model, size_t blocks, bool recompute)
{
    brt_trainer_options options = brt_trainer_options_init();
    options.segment_blocks = blocks;
    options.recompute = recompute;
    uint64_t bytes;
    assert_ok(brt_trainer_measure(model, &options, &bytes));
    return bytes;
}

/* Only what a block starts from grows with the blocks. */
static void memory_hardly_grows(void **state)
{
    (void)state;
    brt_model *model = make_model(shapes[0].model);
    uint64_t carry = 4 * (3 * 16 * 2 * 8 + 8 * 24) * sizeof(float); /* [rows, layers, width, 2 * dim_head], states */
    assert_int_equal(bytes_of(model, 64, true) - bytes_of(model, 4, true), 60 * carry);
    assert_true(bytes_of(model, 64, false) > 5 * bytes_of(model, 64, true));
    brt_model_close(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_are_the_same),
        cmocka_unit_test(memory_hardly_grows),
    };
    return cmocka_run_group_tests_name("recompute", tests, NULL, NULL);
}
