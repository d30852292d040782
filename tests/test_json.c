/* JSON from outside: bounded, without duplicates, errors with file, line and column; typed reads name the key. */
#define _GNU_SOURCE
#include "scratch.h"

#include "base/file.h"
#include "base/json.h"

static brt_status parse(json_t **out, const char *text)
{
    return brt_json_parse(out, text, strlen(text), "file.json");
}

static void bad_texts_are_located(void **state)
{
    (void)state;
    static const struct {
        const char *text, *part;
    } cases[] = {
        {"", "file.json:1:"},
        {"   \n  ", "file.json:2:"},
        {"{\"a\": 1,\n \"b\": }", "file.json:2:7: "},
        {"{\"a\": 1, \"a\": 2}", "duplicate object key"},
        {"{\"a\": {\"b\": 1, \"b\": 2}}", "duplicate object key"},
        {"{\"a\": 1} x", "file.json:1:10: end of file expected"},
        {"[1, 2]", "file.json holds a list; an object was expected"},
        {"3", "file.json:1:1: '[' or '{' expected"},
        {"{\"a\": 123456789012345678901234567890}", "too big"},
        {"{\"a\": 1e999}", "real number overflow"},
        {"{\"a\": NaN}", "invalid token"},
        {"{\"a\": \"\\u0000\"}", "\\u0000"},
        {"{\"a\": \"\xff\"}", "unable to decode byte 0xff"},
        {"{\"a\": \"unfinished", "file.json:1:"},
        {"{\"a\": \"unfinished\\", "file.json:1:"},
        {"{\"a\": 01}", "file.json:1:"},
        {"{'a': 1}", "file.json:1:"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        json_t *value = (json_t *)&cases;
        expect_failure(parse(&value, cases[i].text), BRT_ERROR_FORMAT, cases[i].part);
        assert_null(value);
    }
}

/* {"a":[[...]]} with `depth` levels in all */
static char *nested(size_t depth)
{
    char *text = calloc(2 * depth + 16, 1);
    strcpy(text, "{\"[\": ");
    memset(text + strlen(text), '[', depth - 1);
    memset(text + strlen(text), ']', depth - 1);
    strcat(text, "}");
    return text;
}

static void nesting_is_bounded(void **state)
{
    (void)state;
    json_t *value;
    char *most = nested(64), *more = nested(65);
    assert_ok(parse(&value, most));
    json_decref(value);
    expect_failure(parse(&value, more), BRT_ERROR_FORMAT, "file.json:1:70: more than 64 levels of nesting");
    free(most);
    free(more);
}

static void the_number_of_values_is_bounded(void **state)
{
    (void)state;
    size_t size = 9 << 20;
    char *text = malloc(size);
    memset(text, ',', size);
    text[0] = '{';
    json_t *value;
    expect_failure(brt_json_parse(&value, text, size, "many"), BRT_ERROR_FORMAT, "more than 4194304 values");
    free(text);
}

static void brackets_in_strings_do_not_count(void **state)
{
    (void)state;
    json_t *value;
    char text[300] = "{\"a\\\"";
    memset(text + strlen(text), '[', 200);
    strcat(text, "\": 1}");
    assert_ok(parse(&value, text));
    json_decref(value);
}

static void files_are_loaded(void **state)
{
    (void)state;
    json_t *value;
    assert_ok(brt_file_replace("good.json", "{\"dim\": 512}\n", 13));
    assert_ok(brt_json_load(&value, "good.json"));
    assert_int_equal(json_integer_value(json_object_get(value, "dim")), 512);
    json_decref(value);
    assert_ok(brt_file_replace("empty.json", NULL, 0));
    expect_failure(brt_json_load(&value, "empty.json"), BRT_ERROR_FORMAT, "empty.json:1:");
    expect_failure(brt_json_load(&value, "absent.json"), BRT_ERROR_IO, "absent.json: No such file");
    assert_ok(brt_file_replace("huge.json", "{}", 2));
    assert_int_equal(truncate("huge.json", (64 << 20) + 1), 0);
    expect_failure(brt_json_load(&value, "huge.json"), BRT_ERROR_FORMAT, "huge.json has 67108865 bytes");
}

static void saving_keeps_order_and_digits(void **state)
{
    (void)state;
    double third = 1.0 / 3.0, back;
    json_t *value = json_pack("{s:f, s:I, s:[i, i], s:s}", "z", third, "a", (json_int_t)INT64_MAX, "list", 1, 2, "text",
                              "line\nline");
    assert_ok(brt_json_save(value, "saved.json"));
    brt_mapping file;
    assert_ok(brt_file_map(&file, "saved.json"));
    static const char start[] = "{\n  \"z\": 0.33333333333333331,\n  \"a\": 9223372036854775807,\n";
    assert_memory_equal(file.data, start, sizeof start - 1);
    assert_int_equal(file.data[file.size - 1], '\n');
    assert_int_equal(file.data[file.size - 2], '}');
    brt_file_unmap(&file);
    json_t *loaded;
    assert_ok(brt_json_load(&loaded, "saved.json"));
    assert_true(json_equal(loaded, value));
    assert_ok(brt_json_get_number(loaded, "z", "saved.json", &back));
    assert_true(back == third);
    json_decref(loaded);
    expect_failure(brt_json_save(value, "nowhere/saved.json"), BRT_ERROR_IO, "nowhere/saved.json");
    json_decref(value);
}

static void reads_are_typed(void **state)
{
    (void)state;
    json_t *object;
    int64_t integer;
    double number;
    assert_ok(parse(&object,
                    "{\"i\": -9223372036854775808, \"r\": 2.5, \"s\": \"x\", \"b\": true, \"n\": null, \"o\": {}}"));
    assert_ok(brt_json_get_integer(object, "i", "c.json", &integer));
    assert_true(integer == INT64_MIN);
    assert_ok(brt_json_get_number(object, "r", "c.json", &number));
    assert_true(number == 2.5);
    assert_ok(brt_json_get_number(object, "i", "c.json", &number));
    assert_true(number == -0x1p63);
    expect_failure(brt_json_get_integer(object, "r", "c.json", &integer), BRT_ERROR_FORMAT,
                   "c.json: \"r\" is a real number; an integer was expected");
    expect_failure(brt_json_get_number(object, "b", "c.json", &number), BRT_ERROR_FORMAT,
                   "c.json: \"b\" is a boolean; a number was expected");
    expect_failure(brt_json_get_integer(object, "n", "c.json", &integer), BRT_ERROR_FORMAT,
                   "c.json: \"n\" is null; an integer was expected");
    expect_failure(brt_json_get_number(object, "o", "c.json", &number), BRT_ERROR_FORMAT, "\"o\" is an object;");
    expect_failure(brt_json_get_number(object, "s", "c.json", &number), BRT_ERROR_FORMAT, "\"s\" is a string;");
    expect_failure(brt_json_get_integer(object, "absent", "c.json", &integer), BRT_ERROR_FORMAT,
                   "c.json: \"absent\" is missing; an integer was expected");
    json_decref(object);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bad_texts_are_located),
        cmocka_unit_test(nesting_is_bounded),
        cmocka_unit_test(the_number_of_values_is_bounded),
        cmocka_unit_test(brackets_in_strings_do_not_count),
        cmocka_unit_test(files_are_loaded),
        cmocka_unit_test(saving_keeps_order_and_digits),
        cmocka_unit_test(reads_are_typed),
    };
    return cmocka_run_group_tests_name("json", tests, enter_scratch, leave_scratch);
}
