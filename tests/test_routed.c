/* Models with a routed memory: what a full ring, a reset, a session and a checkpoint do, and what its routes learn. */
#define _GNU_SOURCE
#include "feeding.h"
#include "model/stream_state.h"
#include "train/checkpoint.h"
#include "train/trainer_state.h"

/* Two layers of 24 in blocks of 8; the memory keeps 20 tokens, in three units. */
#define MODEL(more)                                                                                    \
    "{\"num_tokens\": 13, \"dim\": 24, \"depth\": 2, \"dim_head\": 6, \"heads\": 4, \"block_width\": 8,"   \
    " \"max_seq_len\": 8, \"num_state_vectors\": 3, \"recurrent_layers\": [1], \"routed_layers\": [2],"    \
    " \"routed_capacity\": 20, \"routes\": 2" more "}"

enum { rows = 2, blocks = 9 };

/* ---- streams ------------------------------------------------------------------------------------------- */

/* As long as everything is chosen it does not matter how much could be, nor by which routes. */
static void all_of_a_short_memory_is_attended_to(void **state)
{
    (void)state;
    input exactly = make_input(make_model(MODEL(", \"routed_tokens\": 20")), rows, blocks);
    input plenty = make_input(make_model(MODEL(", \"routed_tokens\": 50")), rows, blocks);
    float *one = feed_at_once(&exactly), *other = feed_at_once(&plenty);
    size_t count = rows * exactly.time * exactly.classes;
    assert_true(difference(one, other, count) < 2e-6);
    brt_tensor *route = exactly.model->routers[0].route;
    for (size_t i = 0; i < route->count; i++)
        route->data[i] = -route->data[i] + 1;
    float *again = feed_at_once(&exactly);
    assert_memory_equal(one, again, count * sizeof *one);
    free(one);
    free(other);
    free(again);
    close_input(&exactly);
    close_input(&plenty);
}

/* Routes and what they choose depend on earlier tokens only, at the borders of blocks and of their parts, too. */
static void no_token_changes_what_came_before(void **state)
{
    static const char *const models[] = {MODEL(", \"routed_tokens\": 3, \"route_every\": 4"),
                                         MODEL(", \"routed_tokens\": 3, \"route_every\": 8"),
                                         MODEL(", \"routed_tokens\": 3")};
    (void)state;
    for (size_t i = 0; i < 3; i++) {
        input in = make_input(make_model(models[i]), rows, 5);
        float *before = feed_at_once(&in);
        for (size_t t = 2 * in.width; t < in.time; t++) {
            int32_t token = in.tokens[t];
            in.tokens[t] = (token + 1) % (int32_t)in.classes;
            float *after = feed_at_once(&in);
            assert_true(same_logits(&in, before, after, 0, 0, t));
            assert_false(same_logits(&in, before, after, 0, 0, in.time));
            assert_true(same_logits(&in, before, after, 1, 0, in.time));
            in.tokens[t] = token;
            free(after);
        }
        free(before);
        close_input(&in);
    }
}

static void check_session(const input *in, size_t fed)
{
    brt_stream *saved = open_stream(in->model, rows), *loaded = open_stream(in->model, rows);
    float *expected = new_logits(in), *found = new_logits(in);
    feed_range(saved, in, 0, fed, NULL);
    assert_ok(brt_stream_save(saved, "session", NULL));
    assert_ok(brt_stream_load(loaded, "session", NULL));
    feed_range(saved, in, fed, in->time - fed, expected);
    feed_range(loaded, in, fed, in->time - fed, found);
    assert_memory_equal(expected, found, rows * in->time * in->classes * sizeof *found);
    brt_stream_close(saved);
    brt_stream_close(loaded);
    free(expected);
    free(found);
}

/* Of every type of storage, at every position of a block, while it fills and when it has gone round. */
static void a_session_keeps_a_full_memory(void **state)
{
    static const char *const models[] = {
        MODEL(", \"routed_tokens\": 3, \"route_every\": 4, \"routed_dtype\": \"f32\""),
        MODEL(", \"routed_tokens\": 3, \"route_every\": 4, \"routed_dtype\": \"bf16\""),
        MODEL(", \"routed_tokens\": 3, \"routed_dtype\": \"int8\""),
    };
    (void)state;
    for (size_t i = 0; i < 3; i++) {
        input in = make_input(make_model(models[i]), rows, blocks);
        for (size_t t = 0; t < in.time; t += t < 7 * in.width ? in.width : 1)
            check_session(&in, t);
        close_input(&in);
    }
}

/* A row that remembers more than the file's memories hold. */
static void a_session_cannot_remember_what_is_not_there(void **state)
{
    (void)state;
    input in = make_input(make_model(MODEL("")), rows, blocks);
    brt_stream *stream = open_stream(in.model, rows);
    feed_range(stream, &in, 0, in.width, NULL);
    stream->past[1] = 1000;
    assert_ok(brt_stream_save(stream, "session", NULL));
    expect_failure(brt_stream_load(stream, "session", NULL), BRT_ERROR_FORMAT, "20 routed tokens");
    brt_stream_close(stream);
    close_input(&in);
}

/* Letting a row's document go moves no memory. */
static void a_reset_writes_nothing(void **state)
{
    (void)state;
    input in = make_input(make_model(MODEL(", \"routed_tokens\": 3")), rows, blocks);
    brt_stream *stream = open_stream(in.model, rows);
    feed_range(stream, &in, 0, 8 * in.width, NULL);
    const brt_ring *ring = &stream->rings[0];
    size_t bytes = ring->shape.slots * rows * 6 * sizeof(uint16_t);
    void *before = malloc(bytes);
    memcpy(before, ring->key.data, bytes);
    assert_ok(brt_stream_reset(stream, 1));
    assert_memory_equal(before, ring->key.data, bytes);
    assert_int_equal(ring->end, 8 * in.width);
    assert_int_equal(brt_stream_remembered(stream, 0), 20);
    assert_int_equal(brt_stream_remembered(stream, 1), 0);
    free(before);
    brt_stream_close(stream);
    close_input(&in);
}

/* What a layer had as memory, keys of length 1, is in the routed memory a block later; nothing of it after a reset. */
static void a_memory_goes_on_as_routed(void **state)
{
    enum { width = 8, head = 6 };
    float memory[2][rows][width][head], routed[2][rows][width][head];
    (void)state;
    input in = make_input(make_model(MODEL(", \"routed_dtype\": \"f32\"")), rows, 3);
    brt_stream *stream = open_stream(in.model, rows);
    feed_range(stream, &in, 0, width, NULL);
    assert_int_equal(brt_stream_routed_length(stream), 0);
    assert_ok(brt_stream_memories(stream, 1, memory[0][0][0]));
    feed_range(stream, &in, width, width, NULL);
    assert_int_equal(brt_stream_routed_length(stream), width);
    assert_ok(brt_stream_reset(stream, 1));
    assert_ok(brt_stream_routed(stream, 0, routed[0][0][0]));
    for (size_t i = 0; i < width; i++) {
        double length = 0;
        for (size_t d = 0; d < head; d++)
            length += (double)memory[0][0][i][d] * (double)memory[0][0][i][d];
        for (size_t d = 0; d < head; d++) {
            assert_true(fabs((double)memory[0][0][i][d] / sqrt(length) - (double)routed[0][0][i][d]) < 1e-6);
            assert_true(memory[1][0][i][d] == routed[1][0][i][d]);
            assert_true(routed[0][1][i][d] == 0 && routed[1][1][i][d] == 0);
        }
    }
    expect_failure(brt_stream_routed(stream, 1, routed[0][0][0]), BRT_ERROR_ARGUMENT, "no routed memory 1");
    brt_stream_close(stream);
    close_input(&in);
}

/* ---- exact recall --------------------------------------------------------------------------------------- */

static brt_stream *open_recalling(const brt_model *model, size_t stream_rows, size_t tokens, int threads)
{
    brt_stream *stream;
    brt_stream_options options = brt_stream_options_init();
    options.rows = stream_rows;
    options.threads = threads;
    options.recall_tokens = tokens;
    options.recall_capacity = 500;
    assert_ok(brt_stream_open(&stream, model, &options));
    return stream;
}

static float *feed_recalling(const input *in, size_t tokens, size_t part, int threads)
{
    brt_stream *stream = open_recalling(in->model, in->rows, tokens, threads);
    float *logits = new_logits(in);
    for (size_t done = 0; done < in->time; done += part)
        feed_range(stream, in, done, brt_min_size(part, in->time - done), logits);
    brt_stream_close(stream);
    return logits;
}

/* Where all is chosen or recalled, it is the same. */
static void recalling_everything_is_choosing_everything(void **state)
{
    (void)state;
    input in = make_input(make_model(MODEL(", \"routed_tokens\": 50, \"routed_dtype\": \"f32\"")), rows, blocks);
    float *chosen = feed_at_once(&in), *recalled = feed_recalling(&in, 20, in.time, 2);
    assert_true(difference(chosen, recalled, rows * in.time * in.classes) < 5e-6);
    float *alone = feed_recalling(&in, 20, in.time, 1), *fewer = feed_recalling(&in, 2, in.time, 2);
    assert_memory_equal(recalled, alone, rows * in.time * in.classes * sizeof *alone);
    assert_true(difference(recalled, fewer, rows * in.time * in.classes) > 1e-4);
    free(chosen);
    free(recalled);
    free(alone);
    free(fewer);
    close_input(&in);
}

/* Without positions, a window of 8 and recall of all else is a window of everything, with normalised keys or
 * without. */
static void a_model_without_routes_recalls_with_its_own_attention(void **state)
{
#define DENSE(width, normalised)                                                                       \
    "{\"num_tokens\": 13, \"dim\": 24, \"depth\": 1, \"dim_head\": 6, \"heads\": 4, \"block_width\": " width ", "      \
    "\"max_seq_len\": " width ", \"recurrent_layers\": [], \"position_encoding\": \"none\", \"kv_heads\": 2, "         \
    "\"routed_dtype\": \"f32\", \"all_layers_qk_rmsnorm\": " normalised "}"
    static const char *const models[][2] = {{DENSE("8", "false"), DENSE("80", "false")},
                                            {DENSE("8", "true"), DENSE("80", "true")}};
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        input near = make_input(make_model(models[i][0]), rows, blocks), all = near;
        all.model = make_model(models[i][1]);
        float *recalled = feed_recalling(&near, 80, near.time, 2), *dense = feed_at_once(&all);
        float *forgotten = feed_at_once(&near);
        size_t count = rows * near.time * near.classes;
        assert_true(difference(recalled, dense, count) < 5e-6);
        assert_true(difference(forgotten, dense, count) > 1e-3);
        free(recalled);
        free(dense);
        free(forgotten);
        brt_model_close(all.model);
        close_input(&near);
    }
}

/* In the paper's arithmetic a row sees keys of 0 before its start, and a token the keys of one width before it alone:
 * what ten blocks of 8 and a block of 80 see is the same at the first token after them. */
static void a_model_of_the_paper_recalls_with_its_own_attention(void **state)
{
#define PAPER(width, more)                                                                             \
    "{\"arithmetic\": \"paper\", \"num_tokens\": 13, \"dim\": 24, \"depth\": 1, \"dim_head\": 6, \"heads\": 4,"     \
    " \"block_width\": " width ", \"max_seq_len\": " width ", \"recurrent_layers\": [],"                       \
    " \"position_encoding\": \"none\", \"ignore_index\": -100, \"routed_dtype\": \"f32\"" more "}"
    static const char *const models[][2] = {{PAPER("8", ""), PAPER("80", "")},
                                            {PAPER("8", ", \"cosine_attention\": false"),
                                             PAPER("80", ", \"cosine_attention\": false")}};
    enum { compared = 80 };
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        input near = make_input(make_model(models[i][0]), rows, compared / 8), all = near;
        all.model = make_model(models[i][1]);
        float *recalled = feed_recalling(&near, 80, near.time, 2), *dense = feed_at_once(&all);
        float *singly = feed_recalling(&near, 80, 1, 1), *forgotten = feed_at_once(&near);
        for (size_t row = 0; row < rows; row++) {
            size_t at = (row * near.time + compared) * near.classes;
            assert_true(difference(recalled + at, dense + at, near.classes) < 5e-6);
            assert_true(difference(singly + at, dense + at, near.classes) < 5e-6);
            assert_true(difference(forgotten + at, dense + at, near.classes) > 1e-3);
        }
        free(recalled);
        free(singly);
        free(dense);
        free(forgotten);
        brt_model_close(all.model);
        close_input(&near);
    }
}

/* With and without routes, of every type of storage; in one call or token by token. */
static void a_recalling_session_goes_on(void **state)
{
    static const char without_routes[] = "{\"num_tokens\": 13, \"dim\": 24, \"depth\": 3, \"dim_head\": 6, \"heads\": "
                                         "4, \"block_width\": 8, \"max_seq_len\": 8, \"num_state_vectors\": 3}";
    static const char bf16[] = MODEL(", \"routed_dtype\": \"bf16\""), int8[] = MODEL(", \"routed_dtype\": \"int8\"");
    static const char *const models[] = {bf16, int8, without_routes, PAPER("8", "")};
    (void)state;
    for (size_t i = 0; i < 4; i++) {
        input in = make_input(make_model(models[i]), rows, blocks);
        size_t fed = 7 * in.width + 3, count = rows * in.time * in.classes;
        brt_stream *saved = open_recalling(in.model, rows, 3, 2), *loaded = open_recalling(in.model, rows, 3, 2);
        float *expected = new_logits(&in), *found = new_logits(&in);
        feed_range(saved, &in, 0, fed, NULL);
        assert_ok(brt_stream_save(saved, "session", NULL));
        assert_ok(brt_stream_load(loaded, "session", NULL));
        for (size_t t = fed; t < in.time; t++) {
            feed_range(saved, &in, t, 1, expected);
            feed_range(loaded, &in, t, 1, found);
        }
        assert_memory_equal(expected, found, count * sizeof *found);
        brt_stream *other = open_stream(in.model, rows);
        if (i < 2)
            expect_failure(brt_stream_load(other, "session", NULL), BRT_ERROR_MISMATCH, "with exact recall");
        brt_stream_close(other);
        brt_stream_close(saved);
        brt_stream_close(loaded);
        free(expected);
        free(found);
        close_input(&in);
    }
}

static void recall_that_cannot_be_is_refused(void **state)
{
    (void)state;
    brt_model *model = make_model(MODEL(""));
    brt_stream *stream;
    brt_stream_options options = brt_stream_options_init();
    options.recall_tokens = 4;
    options.recall_layer = 1;
    expect_failure(brt_stream_open(&stream, model, &options), BRT_ERROR_ARGUMENT, "for models without");
    options.recall_layer = 3;
    expect_failure(brt_stream_open(&stream, model, &options), BRT_ERROR_ARGUMENT, "layers range from 1 to 2");
    options.recall_capacity = 0;
    expect_failure(brt_stream_open(&stream, model, &options), BRT_ERROR_ARGUMENT, "lie between 1 and");
    brt_model_close(model);
}

/* ---- training ------------------------------------------------------------------------------------------ */

static brt_trainer *open_trainer(brt_model *model, bool recompute)
{
    brt_trainer_options options = brt_trainer_options_init();
    options.rows = rows;
    options.segment_blocks = 3;
    options.recompute = recompute;
    options.xl_memories_dropout = options.state_dropout = 0.3f;
    brt_trainer *trainer;
    assert_ok(brt_trainer_open(&trainer, model, &options));
    return trainer;
}

/* Three blocks, then an update. */
static double run(brt_trainer *trainer, uint64_t number)
{
    const brt_model *model = trainer->model;
    size_t time = 3 * config_of(model, "block_width");
    int32_t *tokens = draw_tokens(model, rows * time, number), *targets = draw_tokens(model, rows * time, number + 100);
    const bool reset[rows] = {false, number == 4};
    brt_segment segment = {.time = time, .tokens = tokens, .targets = targets, .weight = 1, .reset = reset};
    double loss;
    assert_ok(brt_trainer_segment(trainer, &segment, &loss, NULL));
    free(tokens);
    free(targets);
    return loss;
}

static void expect_resumption(bool recompute)
{
    static const char json[] = MODEL(", \"routed_tokens\": 3, \"route_every\": 4, \"routed_dtype\": \"int8\"");
    brt_model *model = make_model(json), *other = make_model(json);
    brt_trainer *trainer = open_trainer(model, recompute), *resumed = open_trainer(other, recompute);
    json_t *state = json_object();
    for (uint64_t i = 0; i < 6; i++) {
        run(trainer, i);
        assert_ok(brt_trainer_update(trainer, 1e-2f, NULL));
    }
    assert_ok(brt_checkpoint_save(trainer, state, "checkpoint"));
    run(resumed, 50);
    assert_ok(brt_trainer_update(resumed, 1e-2f, NULL));
    assert_ok(brt_checkpoint_load(resumed, "checkpoint"));
    for (uint64_t i = 6; i < 12; i++) {
        assert_true(run(trainer, i) == run(resumed, i));
        assert_ok(brt_trainer_update(trainer, 1e-2f, NULL));
        assert_ok(brt_trainer_update(resumed, 1e-2f, NULL));
    }
    json_decref(state);
    brt_trainer_close(trainer);
    brt_trainer_close(resumed);
    brt_model_close(model);
    brt_model_close(other);
}

static void a_checkpoint_keeps_a_full_memory(void **state)
{
    (void)state;
    expect_resumption(false);
    expect_resumption(true);
}

static bool has_gradient(const brt_trainer *trainer, const char *name)
{
    const brt_parameter *parameter = brt_parameters_find(&trainer->model->parameters, "layers.%s", name);
    assert_non_null(parameter);
    for (size_t i = 0; i < parameter->tensor.count; i++)
        if (parameter->tensor.gradient[i] != 0)
            return true;
    return false;
}

/* What routes are made of, the states included, learns what to look up; chosen at random, nothing of it does. */
static void routes_learn_through_what_they_choose(void **state)
{
    static const char *const names[] = {"1.0.routed.route", "1.0.routed.from_states.weight",
                                        "1.0.routed.from_input.weight", "1.0.routed.temperature",
                                        "1.0.routed.state_norm.gamma"};
    static const char *const models[] = {
        MODEL(", \"routed_tokens\": 3, \"route_every\": 4"),
        MODEL(", \"routed_tokens\": 3, \"route_every\": 4, \"random_routes\": true"),
    };
    (void)state;
    for (int random = 0; random < 2; random++) {
        brt_model *model = make_model(models[random]);
        brt_trainer *trainer = open_trainer(model, false);
        for (uint64_t i = 0; i < 3; i++)
            run(trainer, i);
        for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
            if (has_gradient(trainer, names[i]) == random)
                fail_msg("%s has %s gradient", names[i], random ? "a" : "no");
        assert_true(has_gradient(trainer, "1.0.routed.gate") && has_gradient(trainer, "1.0.routed.null_key"));
        brt_trainer_close(trainer);
        brt_model_close(model);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_of_a_short_memory_is_attended_to),
        cmocka_unit_test(no_token_changes_what_came_before),
        cmocka_unit_test(a_session_keeps_a_full_memory),
        cmocka_unit_test(a_session_cannot_remember_what_is_not_there),
        cmocka_unit_test(a_reset_writes_nothing),
        cmocka_unit_test(a_memory_goes_on_as_routed),
        cmocka_unit_test(recalling_everything_is_choosing_everything),
        cmocka_unit_test(a_model_without_routes_recalls_with_its_own_attention),
        cmocka_unit_test(a_model_of_the_paper_recalls_with_its_own_attention),
        cmocka_unit_test(a_recalling_session_goes_on),
        cmocka_unit_test(recall_that_cannot_be_is_refused),
        cmocka_unit_test(a_checkpoint_keeps_a_full_memory),
        cmocka_unit_test(routes_learn_through_what_they_choose),
    };
    return cmocka_run_group_tests(tests, enter_scratch, leave_scratch);
}
