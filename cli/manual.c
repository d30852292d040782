#define _GNU_SOURCE
#include "manual.h"

#include "options.h"

#include <stdio.h>
#include <string.h>

/* Text for troff: a backslash is escaped, a dash is a minus sign, and a line must not begin with a dot or a quote. */
static void print_troff(const char *text)
{
    if (*text == '.' || *text == '\'')
        printf("\\&");
    for (; *text; text++) {
        if (*text == '\\')
            printf("\\e");
        else if (*text == '-')
            printf("\\-");
        else
            putchar(*text);
    }
}

static void print_option(const cli_command *command, const cli_option *option)
{
    char synopsis[128], value[64];
    cli_option_synopsis(option, synopsis, sizeof synopsis);
    cli_option_default(command, option, value, sizeof value);
    printf(".TP\n.B ");
    print_troff(synopsis);
    printf("\n");
    print_troff(option->help);
    if (value[0]) {
        printf(" (default ");
        print_troff(value);
        printf(")");
    }
    printf(".\n");
}

static void print_command(const cli_command *command)
{
    const cli_option *option;
    printf(".SS brt %s %s [OPTION...]\n", command->name, command->positional);
    print_troff(command->description);
    printf("\n");
    for (size_t i = 0; (option = cli_option_at(command, i)) != NULL; i++)
        if (option->kind != CLI_MODEL)
            print_option(command, option);
    if (command->model_options)
        printf(".PP\nAlso one option for each argument of the model, see\n.BR MODEL .\n");
}

static void print_model_options(void)
{
    printf(".SH MODEL\nThe arguments of the model have the names of the PyTorch reference's; a dash and an underscore "
           "mean the same in an option.\n");
    static const cli_command none;
    for (size_t i = 0; cli_model_option_at(i); i++)
        print_option(&none, cli_model_option_at(i));
}

static const char *const closing_sections =
    ".SH FILES\n"
    "A run's directory holds\n"
    ".TP\n.I config.json\nthe arguments of the model\n"
    ".TP\n.I model.safetensors\nits weights, under the names of the PyTorch reference's state_dict()\n"
    ".TP\n.I optimizer.safetensors\nthe optimiser's averages and what else a checkpoint needs to go on exactly\n"
    ".TP\n.I trainer_state.json\nthe options, the version, and the place in the data\n"
    ".TP\n.I metrics.jsonl\none object per step, with at least\n.I step\nand\n.IR loss ,\n"
    "and the figures of each validation\n"
    ".SH ENVIRONMENT\n"
    ".TP\n.B BRT_ISA\nkernels to use instead of the fastest the processor has: generic, sse2, avx2, avx512,\n"
    "avx512_bf16 or neon\n"
    ".SH EXIT STATUS\n"
    "0 if all went well, 1 if it failed, 2 if the command line was wrong, 130 if it was interrupted after a checkpoint "
    "was written.\n"
    ".SH EXAMPLES\n"
    ".nf\n"
    "brt train \\-\\-data books/ \\-\\-val held\\-out.txt \\-\\-out run \\-\\-preset small \\-\\-max\\-time 1h\n"
    "brt eval run \\-\\-data held\\-out.txt \\-\\-by\\-position\n"
    "brt generate run \\-\\-prompt \\(dqIt is a truth\\(dq \\-n 2000 \\-\\-temperature 0.8\n"
    ".fi\n";

void cli_print_manual(void)
{
    const cli_command *command;
    printf(".TH BRT 1 \"\" \"brt %s\" \"User Commands\"\n", brt_version());
    printf(".SH NAME\nbrt \\- train, score and generate with Block\\-Recurrent Transformers\n");
    printf(".SH SYNOPSIS\n.B brt\n.I COMMAND\n[ARGUMENT...] [OPTION...]\n");
    printf(".SH DESCRIPTION\nA Block\\-Recurrent Transformer reads text of any length in blocks, and carries a state "
           "and the keys and values of the last block from one to the next. Memory and time per token do not grow "
           "with the length of the text.\n");
    printf(".PP\nResults go to standard output, everything else to standard error.\n.SH COMMANDS\n");
    for (size_t i = 0; (command = cli_command_at(i)) != NULL; i++)
        print_command(command);
    print_model_options();
    printf("%s", closing_sections);
}

/* ---- completion ----------------------------------------------------------------------------------------------- */

static void print_words(const char *choices)
{
    for (; *choices; choices++)
        putchar(*choices == '|' ? ' ' : *choices);
}

/* What may follow an option that takes a word of a list. */
static void print_choices(const cli_command *command)
{
    const cli_option *option;
    for (size_t i = 0; (option = cli_option_at(command, i)) != NULL; i++) {
        if (option->kind == CLI_FLAG || !strchr(option->argument, '|'))
            continue;
        printf("        %s:--%s) words=\"", command->name, option->name);
        print_words(option->argument);
        printf("\" ;;\n");
    }
}

static void print_options(const cli_command *command)
{
    const cli_option *option;
    printf("        %s) words=\"", command->name);
    for (size_t i = 0; (option = cli_option_at(command, i)) != NULL; i++)
        printf("%s--%s", i ? " " : "", option->name);
    printf("\" ;;\n");
}

void cli_print_completion(void)
{
    const cli_command *command;
    printf("# bash completion for brt\n"
           "_brt() {\n"
           "    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]}\n"
           "    local command=${COMP_WORDS[1]} words=\n"
           "    COMPREPLY=()\n"
           "    if [ \"$COMP_CWORD\" -eq 1 ]; then\n"
           "        COMPREPLY=($(compgen -W \"");
    for (size_t i = 0; (command = cli_command_at(i)) != NULL; i++)
        printf("%s ", command->name);
    printf("--help --version\" -- \"$word\"))\n"
           "        return\n"
           "    fi\n"
           "    case $command:$before in\n");
    for (size_t i = 0; (command = cli_command_at(i)) != NULL; i++)
        print_choices(command);
    printf("    esac\n"
           "    [ -n \"$words\" ] || case $word in -*) case $command in\n");
    for (size_t i = 0; (command = cli_command_at(i)) != NULL; i++)
        print_options(command);
    printf("        esac ;;\n"
           "    esac\n"
           "    [ -z \"$words\" ] || COMPREPLY=($(compgen -W \"$words\" -- \"$word\"))\n"
           "}\n"
           "complete -o bashdefault -o default -F _brt brt\n");
}
