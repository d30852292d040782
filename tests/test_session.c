/* Sessions: a stream in a file goes on exactly; a file that is not this stream's is refused and changes nothing. */
#define _GNU_SOURCE
#include "feeding.h"

#include "ckpt/safetensors.h"

static const char *const models[] = {"two_recurrent", "odd_sizes", "no_recurrence", "all_qk_rmsnorm",
                                     "read_earlier_two_writers_one_reader"};

/* ---- going on ------------------------------------------------------------------------------------------ */

/* Saved after `fed` tokens and loaded into a stream that was elsewhere, it continues to the bit. */
static void expect_continuation(const char *name, const input *in, size_t fed)
{
    brt_stream *saved = open_stream(in->model, in->rows), *loaded = open_stream(in->model, in->rows);
    char *note;
    feed_range(saved, in, 0, fed, NULL);
    assert_ok(brt_stream_save(saved, "session", "after\n\"so\" many \xc3\xa4"));
    feed_range(loaded, in, 1, in->width + 1, NULL);
    assert_ok(brt_stream_load(loaded, "session", &note));
    assert_string_equal(note, "after\n\"so\" many \xc3\xa4");
    brt_free(note);
    for (size_t row = 0; row < in->rows; row++)
        assert_int_equal(brt_stream_position(loaded, row), fed);
    assert_int_equal(brt_stream_memory_length(loaded), brt_stream_memory_length(saved));
    expect_same_rest(name, in, saved, loaded, fed);
}

static void a_session_goes_on_from_every_position(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof models / sizeof models[0]; i++)
        for (size_t rows = 1; rows <= 2; rows++) {
            input in = make_input(load_golden(models[i]), rows, 3);
            for (size_t fed = 0; fed <= 2 * in.width + 1; fed++)
                expect_continuation(models[i], &in, fed);
            close_input(&in);
        }
}

/* Also where a state's write is under way, or half of it is left to the next block. */
static void a_session_goes_on_in_the_middle_of_a_write(void **state)
{
    (void)state;
    const char *const configs[] = {wide_model, wide_memformer, wide_paper};
    for (size_t i = 0; i < sizeof configs / sizeof configs[0]; i++) {
        input in = make_input(make_model(configs[i]), 2, 2);
        const size_t fed[] = {1, 40, in.width - 5, in.width - 1, in.width, in.width + 1, 2 * in.width};
        for (size_t j = 0; j < sizeof fed / sizeof fed[0]; j++)
            expect_continuation(configs[i], &in, fed[j]);
        close_input(&in);
    }
}

/* Every token in a stream of its own, handed on in a file. */
static void a_chain_of_sessions_is_one_stream(void **state)
{
    (void)state;
    input in = make_input(load_golden("two_recurrent"), 2, 3);
    float *expected = feed_in_parts(&in, 1), *found = new_logits(&in);
    for (size_t t = 0; t < in.time; t++) {
        brt_stream *stream = open_stream(in.model, in.rows);
        if (t > 0)
            assert_ok(brt_stream_load(stream, "session", NULL));
        feed_range(stream, &in, t, 1, found);
        assert_ok(brt_stream_save(stream, "session", NULL));
        brt_stream_close(stream);
    }
    assert_memory_equal(found, expected, in.rows * in.time * in.classes * sizeof *found);
    free(expected);
    free(found);
    close_input(&in);
}

/* A row that was reset has no memory, the other has. */
static void a_reset_row_stays_reset(void **state)
{
    (void)state;
    input in = make_input(load_golden("two_recurrent"), 2, 3);
    brt_stream *saved = open_stream(in.model, in.rows), *loaded = open_stream(in.model, in.rows);
    float *expected = new_logits(&in), *found = new_logits(&in);
    feed_range(saved, &in, 0, in.width, NULL);
    assert_ok(brt_stream_reset(saved, 1));
    assert_ok(brt_stream_save(saved, "session", NULL));
    assert_ok(brt_stream_load(loaded, "session", NULL));
    assert_int_equal(brt_stream_position(loaded, 0), in.width);
    assert_int_equal(brt_stream_position(loaded, 1), 0);
    feed_range(saved, &in, in.width, in.time - in.width, expected);
    feed_range(loaded, &in, in.width, in.time - in.width, found);
    assert_memory_equal(found, expected, in.rows * in.time * in.classes * sizeof *found);
    brt_stream_close(saved);
    brt_stream_close(loaded);
    free(expected);
    free(found);
    close_input(&in);
}

/* ---- refusals ------------------------------------------------------------------------------------------ */

static void save_session_of(brt_model *model, size_t rows, const char *path)
{
    input in = make_input(model, rows, 1);
    brt_stream *stream = open_stream(model, rows);
    feed_range(stream, &in, 0, in.time, NULL);
    assert_ok(brt_stream_save(stream, path, NULL));
    brt_stream_close(stream);
    close_input(&in);
}

static const char small[] = "{\"num_tokens\": 17, \"dim\": 16, \"depth\": 4, \"dim_head\": 8, \"heads\": 2,"
                            " \"max_seq_len\": 16, \"block_width\": 8, \"recurrent_layers\": [2]}";

static brt_model *make_variant(const char *key, const char *value, uint64_t seed)
{
    brt_model *model;
    brt_config *config = make_config(small);
    if (key)
        assert_ok(brt_config_set(config, key, value));
    assert_ok(brt_model_create(&model, config, seed));
    brt_config_close(config);
    return model;
}

typedef struct metadata_change {
    const char *key, *value; /* NULL: without the key */
} metadata_change;

/* The session "own" with one entry of its metadata changed. */
static void write_changed(const char *path, metadata_change change)
{
    static const char *const keys[] = {"format", "model", "filled", "note"};
    enum { key_count = sizeof keys / sizeof keys[0] };
    const char *metadata[2 * key_count + 1] = {0};
    brt_safetensors *file;
    assert_ok(brt_safetensors_open(&file, "own"));
    size_t count = brt_safetensors_count(file), at = 0;
    brt_tensor_source *sources = calloc(count, sizeof *sources);
    for (size_t i = 0; i < count; i++) {
        brt_tensor_info info;
        brt_safetensors_at(file, i, &info);
        sources[i] = (brt_tensor_source){.name = info.name, .dtype = info.dtype, .dims = info.dims, .data = info.data};
        memcpy(sources[i].shape, info.shape, info.dims * sizeof info.shape[0]);
    }
    for (size_t i = 0; i < key_count; i++) {
        bool changes = change.key && strcmp(keys[i], change.key) == 0;
        if (changes && !change.value)
            continue;
        metadata[at++] = keys[i];
        metadata[at++] = changes ? change.value : brt_safetensors_metadata(file, keys[i]);
    }
    assert_ok(brt_safetensors_write(path, sources, count, metadata));
    free(sources);
    brt_safetensors_close(file);
}

/* The stream, in the midst of a block, does not notice. */
static void expect_refused(const input *in, const char *path, brt_status status, const char *part)
{
    brt_stream *stream = open_stream(in->model, 1), *control = open_stream(in->model, 1);
    float *expected = new_logits(in), *found = new_logits(in);
    size_t fed = in->width + 3;
    char *note = NULL;
    feed_range(control, in, 0, fed, NULL);
    feed_range(stream, in, 0, fed, NULL);
    expect_failure(brt_stream_load(stream, path, &note), status, part);
    assert_null(note);
    assert_int_equal(brt_stream_position(stream, 0), fed);
    feed_range(control, in, fed, in->time - fed, expected);
    feed_range(stream, in, fed, in->time - fed, found);
    assert_memory_equal(found, expected, in->time * in->classes * sizeof *found);
    brt_stream_close(stream);
    brt_stream_close(control);
    free(expected);
    free(found);
}

static void sessions_of_other_models_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *key, *value;
        size_t rows;
        uint64_t seed;
        const char *part;
    } cases[] = {
        {NULL, NULL, 2, 1, "\"position\" has another shape"},
        {NULL, NULL, 1, 2, "other weights"},
        {"num_tokens", "18", 1, 1, "other weights"},
        {"heads", "3", 1, 1, "other weights"},
        {"recurrent_layers", "[3]", 1, 1, "other weights"},
        {"recurrent_layers", "[2, 3]", 1, 1, "other weights"},
        {"recurrent_layers", "[]", 1, 1, "no \"state.0\""},
        {"depth", "3", 1, 1, "no \"memory.3\""},
        {"dim", "18", 1, 1, "\"state.0\" has another shape"},
        {"dim_head", "10", 1, 1, "\"memory.0\" has another shape"},
        {"block_width", "16", 1, 1, "\"memory.0\" has another shape"},
        {"num_state_vectors", "7", 1, 1, "\"state.0\" has another shape"},
    };
    input in = make_input(make_variant(NULL, NULL, 1), 1, 3);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        save_session_of(make_variant(cases[i].key, cases[i].value, cases[i].seed), cases[i].rows, "other");
        expect_refused(&in, "other", BRT_ERROR_MISMATCH, cases[i].part);
    }
    close_input(&in);
}

static void damaged_sessions_are_refused(void **state)
{
    (void)state;
    static const struct {
        metadata_change change;
        brt_status status;
        const char *part;
    } cases[] = {
        {{"format", NULL}, BRT_ERROR_FORMAT, "not a session file"},
        {{"format", "brt-session-9"}, BRT_ERROR_FORMAT, "not a session file"},
        {{"model", NULL}, BRT_ERROR_MISMATCH, "other weights"},
        {{"model", "0"}, BRT_ERROR_MISMATCH, "other weights"},
        {{"filled", NULL}, BRT_ERROR_FORMAT, "\"filled\""},
        {{"filled", "8"}, BRT_ERROR_FORMAT, "\"filled\""},
        {{"filled", "-1"}, BRT_ERROR_FORMAT, "\"filled\""},
        {{"filled", "2x"}, BRT_ERROR_FORMAT, "\"filled\""},
    };
    input in = make_input(make_variant(NULL, NULL, 1), 1, 3);
    save_session_of(make_variant(NULL, NULL, 1), 1, "own");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        write_changed("changed", cases[i].change);
        expect_refused(&in, "changed", cases[i].status, cases[i].part);
    }
    expect_refused(&in, "absent", BRT_ERROR_IO, "absent");
    assert_ok(brt_model_save(in.model, "."));
    expect_refused(&in, "model.safetensors", BRT_ERROR_FORMAT, "not a session file");
    assert_int_equal(truncate("own", 400), 0);
    expect_refused(&in, "own", BRT_ERROR_FORMAT, "own");
    close_input(&in);
}

static void a_session_that_cannot_be_written_is_an_error(void **state)
{
    (void)state;
    brt_model *model = make_variant(NULL, NULL, 1);
    brt_stream *stream = open_stream(model, 1);
    expect_failure(brt_stream_save(stream, "no/such/directory/session", NULL), BRT_ERROR_IO, "no/such/directory");
    brt_stream_close(stream);
    brt_model_close(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_session_goes_on_from_every_position),
        cmocka_unit_test(a_session_goes_on_in_the_middle_of_a_write),
        cmocka_unit_test(a_chain_of_sessions_is_one_stream),
        cmocka_unit_test(a_reset_row_stays_reset),
        cmocka_unit_test(sessions_of_other_models_are_refused),
        cmocka_unit_test(damaged_sessions_are_refused),
        cmocka_unit_test(a_session_that_cannot_be_written_is_an_error),
    };
    return cmocka_run_group_tests(tests, enter_scratch, leave_scratch);
}
