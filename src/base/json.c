#include "json.h"

#include "file.h"

#include <stdlib.h>
#include <string.h>

/* A parsed value takes up to some 150 bytes, however few its text has; these bound what a hostile text can take. */
enum { most_nesting = 64, most_values = 1 << 22, most_file_bytes = 64 << 20 };

/* ---- parsing ------------------------------------------------------------------------------------------------ */

static brt_status fail_too_many(const char *text, size_t position, const char *what, int most, const char *things)
{
    size_t line = 1, column = 1;
    for (size_t i = 0; i < position; i++) {
        column = text[i] == '\n' ? 1 : column + 1;
        line += text[i] == '\n';
    }
    return BRT_FAIL(BRT_ERROR_FORMAT, "%s:%zu:%zu: more than %d %s", what, line, column, most, things);
}

/* The position of the quote that ends the string begun at `start`, or `size`. */
static size_t end_of_string(const char *text, size_t size, size_t start)
{
    size_t i = start + 1;
    while (i < size && text[i] != '"')
        i += text[i] == '\\' ? 2 : 1;
    return i < size ? i : size;
}

/* Counts only; whether the text is JSON is for the parser to say. */
static brt_status check_extent(const char *text, size_t size, const char *what)
{
    size_t depth = 0, values = 0;
    for (size_t i = 0; i < size; i++) {
        char c = text[i];
        if (c == '"')
            i = end_of_string(text, size, i);
        else if (c == '[' || c == '{')
            depth++;
        else if ((c == ']' || c == '}') && depth > 0)
            depth--;
        values += c == '[' || c == '{' || c == ',';
        if (depth > most_nesting)
            return fail_too_many(text, i, what, most_nesting, "levels of nesting");
        if (values > most_values)
            return fail_too_many(text, i, what, most_values, "values");
    }
    return BRT_OK;
}

static const char *type_name(const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "a list";
    case JSON_STRING:
        return "a string";
    case JSON_INTEGER:
        return "an integer";
    case JSON_REAL:
        return "a real number";
    case JSON_TRUE:
    case JSON_FALSE:
        return "a boolean";
    case JSON_NULL:
        return "null";
    }
    return "nothing";
}

brt_status brt_json_parse(json_t **out, const char *text, size_t size, const char *what)
{
    *out = NULL;
    BRT_TRY(check_extent(text, size, what));
    json_error_t error;
    json_t *value = json_loadb(text, size, JSON_REJECT_DUPLICATES, &error);
    if (!value && !error.text[0]) /* all that jansson tells of memory that ran out */
        return BRT_FAIL(BRT_ERROR_MEMORY, "out of memory for reading %s", what);
    if (!value)
        return BRT_FAIL(BRT_ERROR_FORMAT, "%s:%d:%d: %s", what, error.line, error.column, error.text);
    if (!json_is_object(value)) {
        brt_status status =
            BRT_FAIL(BRT_ERROR_FORMAT, "%s holds %s; an object was expected", what, type_name(value));
        json_decref(value);
        return status;
    }
    *out = value;
    return BRT_OK;
}

brt_status brt_json_load(json_t **out, const char *path)
{
    *out = NULL;
    brt_mapping file;
    BRT_TRY(brt_file_map(&file, path));
    brt_status status;
    if (file.size > most_file_bytes)
        status = BRT_FAIL(BRT_ERROR_FORMAT, "%s has %zu bytes; a JSON file of at most %d was expected", path, file.size,
                          most_file_bytes);
    else
        status = brt_json_parse(out, file.size ? (const char *)file.data : "", file.size, path);
    brt_file_unmap(&file);
    return status;
}

brt_status brt_json_save(const json_t *value, const char *path)
{
    char *text = json_dumps(value, JSON_INDENT(2) | JSON_REAL_PRECISION(17));
    if (!text)
        return BRT_FAIL(BRT_ERROR_MEMORY, "out of memory for writing %s", path);
    size_t length = strlen(text);
    text[length] = '\n'; /* in the place of the final NUL: no copy for one character */
    brt_status status = brt_file_replace(path, text, length + 1);
    free(text);
    return status;
}

/* ---- typed reads -------------------------------------------------------------------------------------------- */

static brt_status wrong_type(const json_t *value, const char *key, const char *what, const char *expected)
{
    if (!value)
        return BRT_FAIL(BRT_ERROR_FORMAT, "%s: \"%s\" is missing; %s was expected", what, key, expected);
    return BRT_FAIL(BRT_ERROR_FORMAT, "%s: \"%s\" is %s; %s was expected", what, key, type_name(value), expected);
}

brt_status brt_json_get_integer(const json_t *object, const char *key, const char *what, int64_t *out)
{
    const json_t *value = json_object_get(object, key);
    if (!json_is_integer(value))
        return wrong_type(value, key, what, "an integer");
    *out = json_integer_value(value);
    return BRT_OK;
}

brt_status brt_json_get_number(const json_t *object, const char *key, const char *what, double *out)
{
    const json_t *value = json_object_get(object, key);
    if (!json_is_number(value))
        return wrong_type(value, key, what, "a number");
    *out = json_number_value(value);
    return BRT_OK;
}
