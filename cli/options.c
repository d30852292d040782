/* The command line, read by getopt_long from a command's table. */
#define _GNU_SOURCE
#include "options.h"

#include "output.h"
#include "values.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const cli_option help_option = {"help", 'h', CLI_FLAG, 0, NULL, "print this help"};

static size_t own_option_count(const cli_command *command)
{
    size_t count = 0;
    while (command->options[count].name)
        count++;
    return count;
}

bool cli_is_own(const cli_command *command, const cli_option *option)
{
    return option >= command->options && option < command->options + own_option_count(command);
}

static bool has_own(const cli_command *command, const char *name)
{
    for (const cli_option *option = command->options; option->name; option++)
        if (strcmp(option->name, name) == 0)
            return true;
    return false;
}

/* The index-th of the options that are handed on; NULL past the last. */
static const cli_option *handed_on_at(const cli_command *command, size_t index)
{
    const cli_option *option = command->hands_on ? command->hands_on->options : command->options;
    for (; command->hands_on && option->name; option++)
        if (!has_own(command, option->name) && index-- == 0)
            return option;
    return NULL;
}

static size_t handed_on_count(const cli_command *command)
{
    size_t count = 0;
    while (handed_on_at(command, count))
        count++;
    return count;
}

static size_t model_option_count(const cli_command *command)
{
    size_t count = 0;
    while (command->model_options && cli_model_option_at(count))
        count++;
    return count;
}

const cli_option *cli_option_at(const cli_command *command, size_t index)
{
    size_t own = own_option_count(command), handed_on = handed_on_count(command), model = model_option_count(command);
    if (index < own)
        return &command->options[index];
    if (index < own + handed_on)
        return handed_on_at(command, index - own);
    if (index < own + handed_on + model)
        return cli_model_option_at(index - own - handed_on);
    return index == own + handed_on + model ? &help_option : NULL;
}

static const char *option_name_at(const void *command, size_t index)
{
    const cli_option *option = cli_option_at(command, index);
    return option ? option->name : NULL;
}

int cli_usage_error(const cli_command *command, const char *format, ...)
{
    char prefix[32];
    va_list arguments;
    snprintf(prefix, sizeof prefix, "brt %s: ", command->name);
    va_start(arguments, format);
    cli_print_line(prefix, format, arguments);
    va_end(arguments);
    fprintf(stderr, "See 'brt %s --help'.\n", command->name);
    return CLI_USAGE;
}

/* ---- getopt's tables ------------------------------------------------------------------------------------------ */

enum { value_base = 256 }; /* getopt returns value_base + the option's index */

typedef struct getopt_tables {
    struct option *long_options; /* each name, and each name with underscores for dashes */
    char *underscored;
    char letters[128];
} getopt_tables;

static size_t option_count(const cli_command *command)
{
    return own_option_count(command) + handed_on_count(command) + model_option_count(command) + 1;
}

static bool is_true_or_false(const cli_option *option)
{
    return option->kind == CLI_MODEL && strcmp(option->argument, "true|false") == 0;
}

static int argument_need(const cli_option *option)
{
    if (option->kind == CLI_FLAG)
        return no_argument;
    return is_true_or_false(option) ? optional_argument : required_argument;
}

enum { longest_name = 64 };

static void fill_tables(getopt_tables *tables, const cli_command *command, size_t count)
{
    char *letter = tables->letters;
    *letter++ = ':'; /* tells a missing value from an unknown option */
    for (size_t i = 0; i < count; i++) {
        const cli_option *option = cli_option_at(command, i);
        char *alias = tables->underscored + i * longest_name;
        snprintf(alias, longest_name, "%s", option->name);
        for (char *c = alias; *c; c++)
            *c = *c == '-' ? '_' : *c;
        struct option entry = {option->name, argument_need(option), NULL, value_base + (int)i};
        tables->long_options[2 * i] = entry;
        entry.name = alias;
        tables->long_options[2 * i + 1] = entry;
        if (option->letter)
            *letter++ = option->letter;
        if (option->letter && entry.has_arg == required_argument)
            *letter++ = ':';
    }
    *letter = '\0';
}

static bool make_tables(getopt_tables *tables, const cli_command *command)
{
    size_t count = option_count(command);
    *tables = (getopt_tables){calloc(2 * count + 1, sizeof *tables->long_options), calloc(count, longest_name), ""};
    if (!tables->long_options || !tables->underscored)
        return false;
    fill_tables(tables, command, count);
    return true;
}

static void free_tables(getopt_tables *tables)
{
    free(tables->long_options);
    free(tables->underscored);
}

/* The option getopt returned, by index or by letter; NULL when it is none. */
static const cli_option *find_option(const cli_command *command, int returned)
{
    if (returned >= value_base)
        return cli_option_at(command, (size_t)(returned - value_base));
    const cli_option *option;
    for (size_t i = 0; (option = cli_option_at(command, i)) != NULL; i++)
        if (returned && option->letter == returned)
            return option;
    return NULL;
}

/* ---- errors ----------------------------------------------------------------------------------------------------- */

/* `text` is what getopt last looked at. */
static int unknown_option(const cli_command *command, const char *text)
{
    char name[longest_name];
    if (optopt)
        return cli_usage_error(command, "unknown option -%c", optopt);
    snprintf(name, sizeof name, "%.*s", (int)strcspn(text + 2, "="), text + 2);
    const char *nearest = cli_nearest(name, option_name_at, command);
    if (nearest)
        return cli_usage_error(command, "unknown option --%s; did you mean --%s?", name, nearest);
    return cli_usage_error(command, "unknown option --%s", name);
}

static int getopt_error(const cli_command *command, int returned, const char *text)
{
    const cli_option *option = find_option(command, optopt);
    if (!option)
        return unknown_option(command, text);
    if (returned == ':')
        return cli_usage_error(command, "--%s needs a value (%s)", option->name, option->argument);
    return cli_usage_error(command, "--%s takes no value", option->name);
}

static int positional_error(const cli_parsed *parsed)
{
    const cli_command *command = parsed->command;
    if (parsed->positional_count > command->most)
        return cli_usage_error(command, "unexpected argument '%s'", parsed->positional[command->most]);
    if (cli_is_given(parsed, "data"))
        return cli_usage_error(command, "%s is missing; it goes before --data, which takes all names that follow it",
                               command->positional);
    return cli_usage_error(command, "%s is missing", command->positional);
}

/* ---- parsing ----------------------------------------------------------------------------------------------------- */

static void add_given(cli_parsed *parsed, const cli_option *option, const char *text)
{
    parsed->given[parsed->given_count++] = (cli_given){option, text};
}

static bool is_value(int argc, char **argv)
{
    return optind < argc && (argv[optind][0] != '-' || argv[optind][1] == '\0');
}

/* An option and what belongs to it: for lists all names up to the next option. */
static void take_option(cli_parsed *parsed, const cli_option *option, int argc, char **argv)
{
    if (is_true_or_false(option) && !optarg) {
        bool follows = optind < argc && (!strcmp(argv[optind], "true") || !strcmp(argv[optind], "false"));
        add_given(parsed, option, follows ? argv[optind++] : "true");
        return;
    }
    add_given(parsed, option, optarg);
    while (option->kind == CLI_PATHS && is_value(argc, argv))
        add_given(parsed, option, argv[optind++]);
}

static bool read_options(cli_parsed *parsed, const getopt_tables *tables, int argc, char **argv, int *status)
{
    optind = 0;
    opterr = 0;
    for (;;) {
        int returned = getopt_long(argc, argv, tables->letters, tables->long_options, NULL);
        if (returned == -1)
            return true;
        if (returned == '?' || returned == ':') {
            *status = getopt_error(parsed->command, returned, argv[optind - 1]);
            return false;
        }
        const cli_option *option = find_option(parsed->command, returned);
        if (option == &help_option) {
            cli_print_help(parsed->command);
            *status = cli_exit_status(cli_flush());
            return false;
        }
        take_option(parsed, option, argc, argv);
    }
}

bool cli_parse(cli_parsed *parsed, const cli_command *command, int argc, char **argv, int *status)
{
    getopt_tables tables;
    *parsed = (cli_parsed){.command = command,
                           .given = calloc((size_t)argc + 1, sizeof *parsed->given),
                           .paths = calloc((size_t)argc + 1, sizeof *parsed->paths)};
    if (!make_tables(&tables, command) || !parsed->given || !parsed->paths) {
        free_tables(&tables);
        *status = cli_exit_status(cli_out_of_memory("the command line"));
        return false;
    }
    bool parses = read_options(parsed, &tables, argc, argv, status);
    free_tables(&tables);
    if (!parses)
        return false;
    parsed->positional = (const char *const *)argv + optind;
    parsed->positional_count = (size_t)(argc - optind);
    if (parsed->positional_count >= command->least && parsed->positional_count <= command->most)
        return true;
    *status = positional_error(parsed);
    return false;
}

void cli_parsed_close(cli_parsed *parsed)
{
    free(parsed->given);
    free(parsed->paths);
}

/* ---- values ------------------------------------------------------------------------------------------------------ */

/* All values of the list whose first value is given[first], in `room`; returns how many. */
static size_t collect_paths(const cli_parsed *parsed, size_t first, const char **room)
{
    size_t count = 0;
    for (size_t i = first; i < parsed->given_count; i++)
        if (parsed->given[i].option == parsed->given[first].option)
            room[count++] = parsed->given[i].text;
    return count;
}

bool cli_store(const cli_parsed *parsed, void *arguments)
{
    size_t used = 0;
    for (size_t i = 0; i < parsed->given_count; i++) {
        const cli_given *given = &parsed->given[i];
        void *field = (char *)arguments + given->option->offset;
        char problem[256];
        if (!cli_is_own(parsed->command, given->option))
            continue;
        if (given->option->kind == CLI_PATHS) {
            cli_paths *paths = field;
            if (paths->count == 0)
                *paths = (cli_paths){parsed->paths + used, collect_paths(parsed, i, parsed->paths + used)};
            used += paths->items == parsed->paths + used ? paths->count : 0;
        } else if (!cli_convert(given->option, given->text, field, problem, sizeof problem)) {
            cli_usage_error(parsed->command, "%s", problem);
            return false;
        }
    }
    return true;
}

const char *cli_text_of(const cli_parsed *parsed, const char *name)
{
    for (size_t i = parsed->given_count; i > 0; i--)
        if (strcmp(parsed->given[i - 1].option->name, name) == 0)
            return parsed->given[i - 1].text ? parsed->given[i - 1].text : "";
    return NULL;
}

bool cli_is_given(const cli_parsed *parsed, const char *name)
{
    return cli_text_of(parsed, name) != NULL;
}
