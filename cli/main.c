/* brt: train, score and generate with Block-Recurrent Transformers. */
#define _GNU_SOURCE
#include "commands.h"
#include "interrupt.h"
#include "manual.h"
#include "output.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const cli_command *const commands[] = {&cli_train, &cli_eval, &cli_generate, &cli_info, &cli_graft, &cli_ablate,
                                              &cli_quantize, &cli_plot, &cli_trace, &cli_bench};

const cli_command *cli_command_at(size_t index)
{
    return index < sizeof commands / sizeof commands[0] ? commands[index] : NULL;
}

static const char *command_name_at(const void *context, size_t index)
{
    const cli_command *command = cli_command_at(index);
    (void)context;
    return command ? command->name : NULL;
}

static const cli_command *find_command(const char *name)
{
    const cli_command *command;
    for (size_t i = 0; (command = cli_command_at(i)) != NULL; i++)
        if (strcmp(command->name, name) == 0)
            return command;
    return NULL;
}

brt_status cli_choose_isa(const char *name)
{
    if (name && setenv("BRT_ISA", name, 1) != 0)
        return cli_out_of_memory("the environment");
    return BRT_OK;
}

static void print_overview(FILE *to)
{
    const cli_command *command;
    fprintf(to, "Usage: brt COMMAND [ARGUMENT...] [OPTION...]\n\n"
                "Train, score and generate with Block-Recurrent Transformers.\n\nCommands:\n");
    for (size_t i = 0; (command = cli_command_at(i)) != NULL; i++)
        fprintf(to, "  %-10s %s\n", command->name, command->summary);
    fprintf(to, "\n'brt COMMAND --help' lists the options of a command; 'brt --version' prints the version.\n");
}

static int unknown_command(const char *name)
{
    const char *nearest = cli_nearest(name, command_name_at, NULL);
    if (nearest)
        cli_say("unknown command '%s'; did you mean '%s'?", name, nearest);
    else
        cli_say("unknown command '%s'", name);
    fprintf(stderr, "See 'brt --help'.\n");
    return CLI_USAGE;
}

static int run_command(const cli_command *command, int argc, char **argv)
{
    cli_parsed parsed;
    int status;
    if (cli_parse(&parsed, command, argc, argv, &status))
        status = command->run(&parsed);
    cli_parsed_close(&parsed);
    return status;
}

/* --man and --completion are for the build. */
static bool print_about(const char *option)
{
    if (strcmp(option, "--help") == 0 || strcmp(option, "-h") == 0 || strcmp(option, "help") == 0)
        print_overview(stdout);
    else if (strcmp(option, "--version") == 0)
        printf("brt %s (%s)\n", brt_version(), brt_isa());
    else if (strcmp(option, "--man") == 0)
        cli_print_manual();
    else if (strcmp(option, "--completion") == 0)
        cli_print_completion();
    else
        return false;
    return true;
}

/* A file opened while one of the three standard descriptors is closed would take its place, and the next message would
 * go into that file. Open for reading only, so that printing results still fails. */
static void fill_standard_descriptors(void)
{
    int descriptor;
    do
        descriptor = open("/dev/null", O_RDONLY);
    while (descriptor >= 0 && descriptor <= STDERR_FILENO);
    if (descriptor >= 0)
        close(descriptor);
}

int main(int argc, char **argv)
{
    fill_standard_descriptors();
    cli_explain_bus_errors();
    if (argc < 2) {
        print_overview(stderr);
        return CLI_USAGE;
    }
    if (print_about(argv[1]))
        return cli_exit_status(cli_flush());
    const cli_command *command = find_command(argv[1]);
    return command ? run_command(command, argc - 1, argv + 1) : unknown_command(argv[1]);
}
