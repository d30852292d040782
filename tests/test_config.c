/* Configurations: those the original package takes and refuses, defaults, keys, sizes beyond any machine. */
#define _GNU_SOURCE
#include "models.h"

static const char base[] = "{\"num_tokens\": 17, \"dim\": 16, \"depth\": 4}";

/* ---- as the original package decides ------------------------------------------------------------------- */

/* What we refuse although the package takes it, and for which argument: a feed-forward without any hidden unit computes
 * nothing, a compressed memory to which a block leaves less than one entry stays empty. */
static const char *const stricter[][2] = {
    {"ff_mult_0", "ff_mult"},
    {"ff_mult_rounds_to_0", "ff_mult"},
    {"compressed_memory_of_block_width_2", "compressed_mem_factor"},
    {"compressed_mem_factor_above_block_width", "compressed_mem_factor"},
};

static const char *find_stricter(const char *name)
{
    for (size_t i = 0; i < sizeof stricter / sizeof stricter[0]; i++)
        if (strcmp(stricter[i][0], name) == 0)
            return stricter[i][1];
    return NULL;
}

/* The arguments as a file, and a model of them. */
static brt_status try_arguments(const json_t *arguments, brt_model **model)
{
    brt_config *config;
    assert_int_equal(json_dump_file(arguments, "arguments.json", 0), 0);
    assert_ok(brt_config_create(&config));
    brt_status status = brt_config_load(config, "arguments.json");
    if (status == BRT_OK)
        status = brt_model_create(model, config, 1);
    brt_config_close(config);
    return status;
}

/* Two blocks and a token give numbers. */
static void expect_it_works(const char *name, brt_model *model)
{
    brt_stream *stream;
    brt_stream_options options = brt_stream_options_init();
    size_t time = 2 * config_of(model, "block_width") + 1, count = time * config_of(model, "num_tokens");
    int32_t *tokens = draw_tokens(model, time, 1);
    float *logits = malloc(count * sizeof *logits);
    assert_ok(brt_stream_open(&stream, model, &options));
    assert_ok(brt_stream_feed(stream, tokens, time, logits));
    for (size_t i = 0; i < count; i++)
        if (!isfinite(logits[i]))
            fail_msg("%s: logit %zu is %g", name, i, (double)logits[i]);
    brt_stream_close(stream);
    free(logits);
    free(tokens);
}

static void expect_refused(const char *name, const json_t *arguments, brt_status expected, const char *argument)
{
    brt_model *model;
    char quoted[64];
    snprintf(quoted, sizeof quoted, "\"%s\"", argument);
    brt_status status = try_arguments(arguments, &model);
    if (status != expected || !strstr(brt_last_error(), quoted))
        fail_msg("%s: %s, \"%s\"; expected %s that names %s", name, brt_status_name(status), brt_last_error(),
                 brt_status_name(expected), quoted);
}

static json_t *load_entries(const char *file)
{
    json_t *entries = json_load_file(fixture_path("", file), 0, NULL);
    assert_true(json_array_size(entries) > 0);
    return entries;
}

static void what_the_package_takes_is_taken(void **state)
{
    (void)state;
    json_t *entries = load_entries("accepted.json"), *entry;
    size_t index;
    json_array_foreach(entries, index, entry)
    {
        const char *name = json_string_value(json_object_get(entry, "name"));
        const json_t *arguments = json_object_get(entry, "arguments");
        brt_model *model = NULL;
        const char *wrong = find_stricter(name);
        if (wrong) {
            expect_refused(name, arguments, BRT_ERROR_CONFIG, wrong);
        } else {
            if (try_arguments(arguments, &model) != BRT_OK)
                fail_msg("%s: %s", name, brt_last_error());
            expect_it_works(name, model);
            brt_model_close(model);
        }
    }
    json_decref(entries);
}

static void what_the_package_refuses_is_refused(void **state)
{
    (void)state;
    json_t *entries = load_entries("rejected.json"), *entry;
    size_t index;
    json_array_foreach(entries, index, entry)
    {
        const char *name = json_string_value(json_object_get(entry, "name"));
        const char *wrong = json_string_value(json_object_get(entry, "wrong"));
        const json_t *arguments = json_object_get(entry, "arguments");
        expect_refused(name, arguments, BRT_ERROR_CONFIG, wrong);
    }
    json_decref(entries);
}

/* ---- defaults ------------------------------------------------------------------------------------------ */

static json_t *read_back(const brt_config *config)
{
    char *text;
    assert_ok(brt_config_json(config, &text));
    json_t *object = parse_json(text);
    brt_free(text);
    return object;
}

static void expect_values(const brt_config *config, const char *expected_json)
{
    json_t *found = read_back(config), *expected = parse_json(expected_json), *value;
    const char *key;
    json_object_foreach(expected, key, value)
    {
        char *text = json_dumps(json_object_get(found, key), JSON_ENCODE_ANY);
        if (!json_equal(json_object_get(found, key), value))
            fail_msg("\"%s\" is %s; expected %s", key, text, expected_json);
        free(text);
    }
    json_decref(found);
    json_decref(expected);
}

static void set_all(brt_config *config, const char *json)
{
    json_t *object = parse_json(json), *value;
    const char *key;
    json_object_foreach(object, key, value)
    {
        char *text = json_dumps(value, JSON_ENCODE_ANY);
        assert_ok(brt_config_set(config, key, text));
        free(text);
    }
    json_decref(object);
}

static void defaults_follow_the_other_arguments(void **state)
{
    (void)state;
    static const struct {
        const char *given, *expected;
    } cases[] = {
        {"{}", "{\"dim_head\": 64, \"heads\": 8, \"all_layers_qk_rmsnorm\": false, \"ff_mult\": 4,"
               " \"max_seq_len\": 1024, \"block_width\": 512, \"recurrent_layers\": [2],"
               " \"read_recurrent_layers\": [2], \"num_state_vectors\": 512, \"ignore_index\": -100,"
               " \"use_flash_attn\": false, \"use_compressed_mem\": false, \"compressed_mem_factor\": 4}"},
        {"{\"depth\": 5}", "{\"recurrent_layers\": [2], \"read_recurrent_layers\": [2]}"},
        {"{\"depth\": 7}", "{\"recurrent_layers\": [3], \"read_recurrent_layers\": [3]}"},
        {"{\"recurrent_layers\": [4, 1]}", "{\"read_recurrent_layers\": [4, 1]}"},
        {"{\"recurrent_layers\": []}", "{\"read_recurrent_layers\": []}"},
        {"{\"read_recurrent_layers\": [1]}", "{\"recurrent_layers\": [2], \"read_recurrent_layers\": [1]}"},
        {"{\"block_width\": 250, \"max_seq_len\": 1000}",
         "{\"num_state_vectors\": 250, \"conditional_ff_tokens\": 16}"},
        {"{\"block_width\": 256, \"num_state_vectors\": 3}", "{\"num_state_vectors\": 3}"},
        {"{\"recurrent_layers\": null, \"num_state_vectors\": null}",
         "{\"recurrent_layers\": [2], \"num_state_vectors\": 512}"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        brt_config *config = make_config(base);
        set_all(config, cases[i].given);
        assert_ok(brt_config_check(config));
        expect_values(config, cases[i].expected);
        brt_config_close(config);
    }
}

static void defaults_follow_later_changes(void **state)
{
    (void)state;
    brt_config *config = make_config(base);
    assert_ok(brt_config_check(config));
    set_all(config, "{\"depth\": 10, \"block_width\": 128}");
    assert_ok(brt_config_check(config));
    expect_values(config, "{\"recurrent_layers\": [5], \"read_recurrent_layers\": [5], \"num_state_vectors\": 128}");
    set_all(config, "{\"recurrent_layers\": [7], \"num_state_vectors\": 9}");
    set_all(config, "{\"recurrent_layers\": null, \"num_state_vectors\": null}");
    assert_ok(brt_config_check(config));
    expect_values(config, "{\"recurrent_layers\": [5], \"read_recurrent_layers\": [5], \"num_state_vectors\": 128}");
    brt_config_close(config);
}

static void presets_are_valid(void **state)
{
    (void)state;
    static const char *const presets[] = {"tiny", "small", "reference"};
    brt_config *config;
    for (size_t i = 0; i < sizeof presets / sizeof presets[0]; i++) {
        assert_ok(brt_config_create(&config));
        assert_ok(brt_config_preset(config, presets[i]));
        assert_ok(brt_config_check(config));
        brt_config_close(config);
    }
    assert_ok(brt_config_create(&config));
    expect_failure(brt_config_preset(config, "huge"), BRT_ERROR_ARGUMENT, "\"huge\"");
    brt_config_close(config);
}

static void the_preset_reference_is_the_packages_model(void **state)
{
    (void)state;
    brt_config *config;
    assert_ok(brt_config_create(&config));
    assert_ok(brt_config_preset(config, "reference"));
    assert_ok(brt_config_check(config));
    expect_values(config, "{\"qk_logit_scale\": 0, \"state_gate_bias\": 0, \"position_encoding\": \"xpos\"}");
    brt_config_close(config);
}

/* ---- keys ---------------------------------------------------------------------------------------------- */

static void every_key_is_written_and_read(void **state)
{
    (void)state;
    brt_config *config = make_config(base);
    set_all(config, "{\"ff_mult\": 2.7, \"recurrent_layers\": [4, 2], \"use_flash_attn\": true, \"ignore_index\": -1,"
                    " \"position_encoding\": \"none\"}");
    assert_ok(brt_config_check(config));
    json_t *written = read_back(config);
    size_t count = 0;
    for (const brt_config_key *key; (key = brt_config_key_at(count)); count++)
        assert_non_null(json_object_get(written, key->name));
    assert_int_equal(json_object_size(written), count);
    brt_config_close(config);
    assert_int_equal(json_dump_file(written, "config.json", JSON_REAL_PRECISION(17)), 0);
    assert_ok(brt_config_create(&config));
    assert_ok(brt_config_load(config, "."));
    assert_ok(brt_config_check(config));
    json_t *again = read_back(config);
    assert_true(json_equal(written, again));
    json_decref(written);
    json_decref(again);
    brt_config_close(config);
}

static void integers_are_told_as_numbers_and_lists_as_lengths(void **state)
{
    (void)state;
    brt_config *config = make_config(base);
    static const struct {
        const char *key;
        int64_t value;
    } cases[] = {{"dim", 16}, {"recurrent_layers", 3}, {"all_layers_qk_rmsnorm", 0}, {"ff_mult", 4}, {"no such", -1}};
    assert_ok(brt_config_set(config, "recurrent_layers", "1,3, 4"));
    assert_ok(brt_config_check(config));
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_int_equal(brt_config_get(config, cases[i].key), cases[i].value);
    expect_values(config, "{\"recurrent_layers\": [1, 3, 4]}");
    brt_config_close(config);
}

static void wrong_values_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *key, *text;
        brt_status status;
        const char *part;
    } cases[] = {
        {"qk_rmsnorm_scale", "8", BRT_ERROR_ARGUMENT, "\"qk_rmsnorm_scale\""},
        {"", "8", BRT_ERROR_ARGUMENT, "\"\""},
        {"dim", "", BRT_ERROR_CONFIG, "\"dim\" must be an integer"},
        {"dim", "wide", BRT_ERROR_CONFIG, "\"dim\" must be an integer"},
        {"dim", "16.0", BRT_ERROR_CONFIG, "\"dim\" must be an integer"},
        {"dim", "16 16", BRT_ERROR_CONFIG, "\"dim\" must be an integer"},
        {"dim", "null", BRT_ERROR_CONFIG, "\"dim\" must be an integer"},
        {"dim", "99999999999999999999", BRT_ERROR_CONFIG, "\"dim\""},
        {"dim", "2147483648", BRT_ERROR_CONFIG, "between 1 and 2147483647"},
        {"dim", "-2147483649", BRT_ERROR_CONFIG, "between 1 and 2147483647"},
        {"ff_mult", "1e999", BRT_ERROR_CONFIG, "\"ff_mult\" must be a number"},
        {"ff_mult", "NaN", BRT_ERROR_CONFIG, "\"ff_mult\" must be a number"},
        {"use_flash_attn", "1", BRT_ERROR_CONFIG, "\"use_flash_attn\" must be true or false"},
        {"position_encoding", "sine", BRT_ERROR_CONFIG, "must be one of \"xpos\", \"rotary\", \"t5\""},
        {"position_encoding", "a\"b", BRT_ERROR_CONFIG, "\"position_encoding\" must be a name"},
        {"recurrent_layers", "1, x", BRT_ERROR_CONFIG, "\"recurrent_layers\" must be a list of integers"},
        {"recurrent_layers", "1], [2", BRT_ERROR_CONFIG, "\"recurrent_layers\" must be a list of integers"},
    };
    brt_config *config = make_config(base);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        expect_failure(brt_config_set(config, cases[i].key, cases[i].text), cases[i].status, cases[i].part);
    assert_ok(brt_config_check(config));
    expect_values(config, base);
    brt_config_close(config);
}

static void conditional_feed_forwards_need_fitting_arguments(void **state)
{
    (void)state;
    static const struct {
        const char *given, *part; /* NULL: it is fine */
    } cases[] = {
        {"{\"conditional_ff_layers\": [2, 1], \"conditional_ff_tokens\": 512}", NULL},
        {"{\"conditional_ff_layers\": [9]}", "\"conditional_ff_layers\" names layer 9"},
        {"{\"conditional_ff_layers\": [1, 1]}", "\"conditional_ff_layers\" names layer 1 twice"},
        {"{\"conditional_ff_layers\": [1], \"conditional_ff_tokens\": 513}", "a block has block_width (512) tokens"},
        {"{\"conditional_ff_layers\": [1], \"light_ff_mult\": 0.01}", "a light feed-forward width of 0"},
        {"{\"conditional_ff_layers\": [1], \"arithmetic\": \"paper\"}", "\"conditional_ff_layers\""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        brt_config *config = make_config(base);
        set_all(config, cases[i].given);
        if (cases[i].part)
            expect_failure(brt_config_check(config), BRT_ERROR_CONFIG, cases[i].part);
        else
            assert_ok(brt_config_check(config));
        brt_config_close(config);
    }
}

/* Beside what each arithmetic has: no other, and in the ranges that make sense. */
static void what_an_arithmetic_does_not_have_is_refused(void **state)
{
    static const struct {
        const char *arguments, *part;
    } cases[] = {
        {"{\"state_gate\": \"lstm\"}", "\"reference\", which has no state_gate"},
        {"{\"position_encoding\": \"nn\"}", "nn or orthogonal"},
        {"{\"arithmetic\": \"paper\", \"read_recurrent_layers\": [1]}", "\"read_recurrent_layers\""},
        {"{\"arithmetic\": \"paper\", \"feedback\": true, \"recurrent_layers\": []}", "could be fed back"},
        {"{\"arithmetic\": \"paper\", \"position_encoding\": \"xpos\"}", "it has t5, rotary"},
        {"{\"arithmetic\": \"paper\", \"alibi_bound\": 1}", "\"alibi_bound\""},
        {"{\"arithmetic\": \"paper\", \"position_encoding\": \"orthogonal\", \"position_terms\": 17}",
         "\"position_terms\" is 17"},
        {"{\"arithmetic\": \"paper\", \"position_encoding\": \"orthogonal\", \"position_end\": 0}",
         "\"position_end\" is 0"},
        {"{\"arithmetic\": \"paper\", \"use_compressed_mem\": true, \"window\": \"block\"}", "\"use_compressed_mem\""},
        {"{\"arithmetic\": \"paper\", \"enhanced_recurrence\": true}", "\"enhanced_recurrence\""},
        {"{\"arithmetic\": \"paper\", \"residual_gates\": true}", "\"residual_gates\""},
        {"{\"arithmetic\": \"paper\", \"state_cell\": \"memformer\"}", "\"state_cell\""},
        {"{\"arithmetic\": \"paper\", \"routed_layers\": [2], \"routes\": 2}", "\"routes\" is 2"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        brt_config *config = make_config(base);
        set_all(config, cases[i].arguments);
        expect_failure(brt_config_check(config), BRT_ERROR_CONFIG, cases[i].part);
        brt_config_close(config);
    }
}

static void files_with_wrong_keys_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        brt_status status;
        const char *part;
    } cases[] = {
        {"{\"dim\": 16, \"dimm\": 16}", BRT_ERROR_CONFIG, "wrong.json: \"dimm\""},
        {"{\"dim\": 16, \"dim\": 32}", BRT_ERROR_FORMAT, "dim"},
        {"[16]", BRT_ERROR_FORMAT, "wrong.json"},
        {"{\"dim\": 16", BRT_ERROR_FORMAT, "wrong.json"},
    };
    brt_config *config = make_config(base);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        FILE *file = fopen("wrong.json", "w");
        assert_true(fputs(cases[i].text, file) >= 0);
        assert_int_equal(fclose(file), 0);
        expect_failure(brt_config_load(config, "wrong.json"), cases[i].status, cases[i].part);
    }
    expect_failure(brt_config_load(config, "no/such/directory"), BRT_ERROR_IO, "no/such/directory/config.json");
    brt_config_close(config);
}

/* ---- sizes --------------------------------------------------------------------------------------------- */

/* A model of these would overflow some product, or need more memory than there is. */
static void immense_models_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *json;
        brt_status status;
        const char *part;
    } cases[] = {
        {"{\"depth\": 1025, \"recurrent_layers\": [1]}", BRT_ERROR_CONFIG, "\"depth\""},
        {"{\"ff_mult\": 1e300}", BRT_ERROR_CONFIG, "\"ff_mult\""},
        {"{\"ff_mult\": 1e9}", BRT_ERROR_CONFIG, "\"ff_mult\""},
        {"{\"num_tokens\": 2147483647, \"dim\": 2147483646, \"ff_mult\": 0.1}", BRT_ERROR_CONFIG, "more parameters"},
        {"{\"heads\": 2147483647, \"dim_head\": 2147483646}", BRT_ERROR_CONFIG, "more parameters"},
        {"{\"dim\": 2147483647, \"ff_mult\": 0.5, \"num_state_vectors\": 2147483647}", BRT_ERROR_CONFIG,
         "more parameters"},
        {"{\"num_tokens\": 2147483647, \"dim\": 1000000}", BRT_ERROR_MEMORY, "bytes of parameters"},
        {"{\"block_width\": 2147483647, \"max_seq_len\": 2147483647, \"num_state_vectors\": 1, \"dim_head\": 65536}",
         BRT_ERROR_MEMORY, "out of memory"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        brt_model *model;
        brt_config *config = make_config(base);
        set_all(config, cases[i].json);
        expect_failure(brt_model_create(&model, config, 1), cases[i].status, cases[i].part);
        brt_config_close(config);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_the_package_takes_is_taken),
        cmocka_unit_test(what_the_package_refuses_is_refused),
        cmocka_unit_test(defaults_follow_the_other_arguments),
        cmocka_unit_test(defaults_follow_later_changes),
        cmocka_unit_test(presets_are_valid),
        cmocka_unit_test(the_preset_reference_is_the_packages_model),
        cmocka_unit_test(every_key_is_written_and_read),
        cmocka_unit_test(integers_are_told_as_numbers_and_lists_as_lengths),
        cmocka_unit_test(wrong_values_are_refused),
        cmocka_unit_test(conditional_feed_forwards_need_fitting_arguments),
        cmocka_unit_test(what_an_arithmetic_does_not_have_is_refused),
        cmocka_unit_test(files_with_wrong_keys_are_refused),
        cmocka_unit_test(immense_models_are_refused),
    };
    return cmocka_run_group_tests(tests, enter_scratch, leave_scratch);
}
