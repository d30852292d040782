#define _GNU_SOURCE
#include "values.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- text to numbers ------------------------------------------------------------------------------------------ */

static bool parse_count(const char *text, uint64_t most, uint64_t *out)
{
    char *end;
    if (text[0] < '0' || text[0] > '9')
        return false;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    *out = value;
    return errno == 0 && *end == '\0' && value <= most;
}

/* A finite number; *rest is what follows it. */
static bool parse_real(const char *text, double *out, const char **rest)
{
    char *end;
    *out = strtod(text, &end);
    *rest = end;
    return end != text && isfinite(*out);
}

static bool parse_number(const char *text, float *out)
{
    double value;
    const char *rest;
    if (!parse_real(text, &value, &rest) || *rest || fabs(value) > (double)3e38f)
        return false;
    *out = (float)value;
    return true;
}

/* A number at or above 0 times the factor of its suffix: the position in `suffixes`, each `step` times the last. */
static bool parse_scaled(const char *text, const char *suffixes, double step, double *out)
{
    const char *rest;
    if (!parse_real(text, out, &rest) || *out < 0)
        return false;
    if (*rest == '\0')
        return true;
    const char *suffix = strchr(suffixes, *rest);
    for (const char *s = suffixes; suffix && s < suffix; s++)
        *out *= step;
    return suffix && rest[1] == '\0' && isfinite(*out);
}

static bool parse_bytes(const char *text, uint64_t *out)
{
    double value;
    /* The first suffix, a factor of 1, cannot be typed: it stands for no suffix. */
    if (!parse_scaled(text, "\1KMGT", 1024, &value) || value >= 18446744073709551615.0)
        return false;
    *out = (uint64_t)value;
    return true;
}

/* ---- choices ---------------------------------------------------------------------------------------------------- */

/* The i-th word of "stream|crops" in `word`; false past the last. */
static bool choice_at(const char *choices, size_t index, char *word, size_t size)
{
    for (; index > 0 && choices; index--) {
        choices = strchr(choices, '|');
        choices += choices != NULL;
    }
    if (choices)
        snprintf(word, size, "%.*s", (int)strcspn(choices, "|"), choices);
    return choices != NULL;
}

static bool is_choice(const char *choices, const char *text)
{
    char word[64];
    for (size_t i = 0; choice_at(choices, i, word, sizeof word); i++)
        if (strcmp(word, text) == 0)
            return true;
    return false;
}

/* ---- fields ------------------------------------------------------------------------------------------------------ */

static const char *expectation(const cli_option *option)
{
    switch (option->kind) {
    case CLI_COUNT:
    case CLI_SIZE:
        return "a whole number";
    case CLI_INTEGER:
        return "a whole number below 2147483648";
    case CLI_NUMBER:
        return "a number";
    case CLI_SECONDS:
        return "a time such as 90, 90s, 15m or 2h";
    case CLI_BYTES:
        return "a size such as 1000000, 512M or 8G";
    default:
        return option->argument;
    }
}

static bool convert(const cli_option *option, const char *text, void *field)
{
    uint64_t count = 0;
    switch (option->kind) {
    case CLI_FLAG:
        *(bool *)field = true;
        return true;
    case CLI_TEXT:
        *(const char **)field = text;
        return true;
    case CLI_CHOICE:
        *(const char **)field = text;
        return is_choice(option->argument, text);
    case CLI_COUNT:
        return parse_count(text, UINT64_MAX, field);
    case CLI_SIZE:
        if (!parse_count(text, SIZE_MAX, &count))
            return false;
        *(size_t *)field = (size_t)count;
        return true;
    case CLI_INTEGER:
        if (!parse_count(text, INT_MAX, &count))
            return false;
        *(int *)field = (int)count;
        return true;
    case CLI_NUMBER:
        return parse_number(text, field);
    case CLI_SECONDS:
        return parse_scaled(text, "smh", 60, field);
    case CLI_BYTES:
        return parse_bytes(text, field);
    case CLI_PATHS:
    case CLI_MODEL:
        break; /* lists and model arguments are collected by others */
    }
    return false;
}

bool cli_convert(const cli_option *option, const char *text, void *field, char *problem, size_t size)
{
    if (convert(option, text, field))
        return true;
    bool words = option->kind == CLI_CHOICE;
    snprintf(problem, size, "--%s is '%s'; it must be %s%s", option->name, text, words ? "one of " : "",
             expectation(option));
    return false;
}

void cli_format(const cli_option *option, const void *field, char *out, size_t size)
{
    out[0] = '\0';
    if (option->kind == CLI_TEXT || option->kind == CLI_CHOICE) {
        const char *text = *(const char *const *)field;
        snprintf(out, size, "%s", text ? text : "");
    } else if (option->kind == CLI_COUNT && *(const uint64_t *)field) {
        snprintf(out, size, "%llu", (unsigned long long)*(const uint64_t *)field);
    } else if (option->kind == CLI_SIZE && *(const size_t *)field) {
        snprintf(out, size, "%zu", *(const size_t *)field);
    } else if (option->kind == CLI_NUMBER && *(const float *)field > 0) {
        snprintf(out, size, "%g", (double)*(const float *)field);
    }
}
