#define _GNU_SOURCE
#include "saved_options.h"

#include "output.h"
#include "values.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Options whose names differ from the names in the file. */
static const char *option_name(const char *saved_name)
{
    static const char *const renamed[][2] = {
        {"learning_rate", "lr"}, {"min_learning_rate", "min-lr"}, {"max_seconds", "max-time"}};
    for (size_t i = 0; i < sizeof renamed / sizeof renamed[0]; i++)
        if (strcmp(saved_name, renamed[i][0]) == 0)
            return renamed[i][1];
    return saved_name;
}

/* Equal, with dashes and underscores alike. */
static bool same_name(const char *a, const char *b)
{
    for (; *a && *b; a++, b++)
        if (*a != *b && !((*a == '-' || *a == '_') && (*b == '-' || *b == '_')))
            return false;
    return *a == *b;
}

static const cli_option *find_option(const cli_command *command, const char *name)
{
    for (const cli_option *option = command->options; option->name; option++)
        if (same_name(option->name, name))
            return option;
    return NULL;
}

static brt_status store(const cli_option *option, const json_t *value, void *arguments, const char *path)
{
    char text[64] = "", problem[256];
    void *field = (char *)arguments + option->offset;
    if (json_is_boolean(value) && option->kind == CLI_FLAG) {
        *(bool *)field = json_is_true(value);
        return BRT_OK;
    }
    if (json_is_integer(value) && option->kind == CLI_COUNT) /* a seed may be above what JSON's integers can hold */
        snprintf(text, sizeof text, "%llu", (unsigned long long)json_integer_value(value));
    else if (json_is_integer(value))
        snprintf(text, sizeof text, "%lld", (long long)json_integer_value(value));
    else if (json_is_number(value))
        snprintf(text, sizeof text, "%.17g", json_number_value(value));
    if (cli_convert(option, json_is_string(value) ? json_string_value(value) : text, field, problem, sizeof problem))
        return BRT_OK;
    return cli_fail(BRT_ERROR_FORMAT, "%s: %s", path, problem);
}

static brt_status store_all(const json_t *options, const cli_command *command, void *arguments, const char *path)
{
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)options, name, value)
    {
        const cli_option *option = find_option(command, option_name(name));
        if (option)
            CLI_TRY(store(option, value, arguments, path));
    }
    return BRT_OK;
}

static void state_path(const char *dir, char *out, size_t size)
{
    snprintf(out, size, "%s/trainer_state.json", dir);
}

brt_status saved_options_load(saved_options *saved, const char *dir, const cli_command *command, void *arguments)
{
    char path[4096], config[4096];
    json_error_t error;
    state_path(dir, path, sizeof path);
    snprintf(config, sizeof config, "%s/config.json", dir);
    saved->has_model = access(config, F_OK) == 0;
    if (access(path, F_OK) != 0)
        return BRT_OK;
    FILE *file;
    CLI_TRY(cli_open_file(path, &file));
    json_t *state = json_loadf(file, JSON_REJECT_DUPLICATES, &error);
    fclose(file);
    saved->state = state;
    if (!state)
        return cli_fail(BRT_ERROR_FORMAT, "%s:%d:%d: %s", path, error.line, error.column, error.text);
    saved->found = true;
    const json_t *options = json_object_get(state, "options");
    CLI_TRY(store_all(json_object_get(options, "fixed"), command, arguments, path));
    return store_all(json_object_get(options, "other"), command, arguments, path);
}

void saved_options_close(saved_options *saved)
{
    json_decref(saved->state);
}

void saved_options_progress(const char *dir, uint64_t *step, double *seconds)
{
    char path[4096];
    state_path(dir, path, sizeof path);
    json_t *state = json_load_file(path, 0, NULL);
    const json_t *steps = json_object_get(state, "step"), *time = json_object_get(state, "seconds");
    if (json_is_integer(steps) && json_is_number(time)) {
        *step = (uint64_t)json_integer_value(steps);
        *seconds = json_number_value(time);
    }
    json_decref(state);
}
