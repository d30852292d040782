/* brt COMMAND --help. */
#define _GNU_SOURCE
#include "options.h"
#include "values.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { option_column = 2, help_column = 30, last_column = 100 };

static const char *suffix_of(const cli_option *option)
{
    return option->kind == CLI_PATHS ? "..." : "";
}

int cli_option_synopsis(const cli_option *option, char *out, size_t size)
{
    char letter[8] = "";
    if (option->letter)
        snprintf(letter, sizeof letter, "-%c, ", option->letter);
    if (option->kind == CLI_FLAG)
        return snprintf(out, size, "%s--%s", letter, option->name);
    return snprintf(out, size, "%s--%s %s%s", letter, option->name, option->argument, suffix_of(option));
}

static void model_default(const cli_option *option, char *out, size_t size)
{
    for (size_t i = 0; cli_model_option_at(i); i++)
        if (cli_model_option_at(i) == option)
            snprintf(out, size, "%s", brt_config_key_at(i)->default_value);
}

void cli_option_default(const cli_command *command, const cli_option *option, char *out, size_t size)
{
    out[0] = '\0';
    if (option->kind == CLI_MODEL) {
        model_default(option, out, size);
        return;
    }
    if (command->hands_on && !cli_is_own(command, option))
        command = command->hands_on;
    char *arguments = command->set_defaults ? calloc(1, command->arguments_size) : NULL;
    if (!arguments)
        return;
    command->set_defaults(arguments);
    cli_format(option, arguments + option->offset, out, size);
    free(arguments);
}

/* Words from `text` in lines up to the last column; the first line starts at `column`. */
static void print_wrapped(const char *text, int column, int indent)
{
    while (*text) {
        int length = (int)strcspn(text, " ");
        if (column > indent && column + 1 + length > last_column) {
            printf("\n%*s", indent, "");
            column = indent;
        } else if (column > indent) {
            column += printf(" ");
        }
        column += printf("%.*s", length, text);
        text += length;
        text += strspn(text, " ");
    }
    printf("\n");
}

static void print_option(const cli_command *command, const cli_option *option)
{
    char synopsis[128], value[64], text[512];
    cli_option_synopsis(option, synopsis, sizeof synopsis);
    cli_option_default(command, option, value, sizeof value);
    snprintf(text, sizeof text, value[0] ? "%s (default %s)" : "%s", option->help, value);
    int column = printf("%*s%s", option_column, "", synopsis);
    if (column >= help_column - 1) {
        printf("\n");
        column = 0;
    }
    printf("%*s", help_column - column, "");
    print_wrapped(text, help_column, help_column);
}

void cli_print_help(const cli_command *command)
{
    const cli_option *option;
    cli_kind last = CLI_FLAG;
    printf("Usage: brt %s%s%s [OPTION...]\n\n", command->name, command->positional[0] ? " " : "", command->positional);
    print_wrapped(command->description, 0, 0);
    printf("\nOptions:\n");
    for (size_t i = 0; (option = cli_option_at(command, i)) != NULL; i++) {
        if (option->kind == CLI_MODEL && last != CLI_MODEL)
            printf("\nThe model, under the names of the PyTorch reference's arguments:\n");
        if (option->kind != CLI_MODEL && last == CLI_MODEL)
            printf("\n");
        print_option(command, option);
        last = option->kind;
    }
}
