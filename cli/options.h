/* Commands and their options as tables: parsing, help, manual page and shell completion all read them. */
#ifndef BRT_CLI_OPTIONS_H
#define BRT_CLI_OPTIONS_H

#include <brt/brt.h>

/* What an option's value is, and the type of the field that takes it. */
typedef enum cli_kind {
    CLI_FLAG,    /* bool; no value */
    CLI_TEXT,    /* const char * */
    CLI_CHOICE,  /* const char *; one of the words in `argument` ("stream|crops") */
    CLI_COUNT,   /* uint64_t */
    CLI_SIZE,    /* size_t */
    CLI_INTEGER, /* int */
    CLI_NUMBER,  /* float */
    CLI_SECONDS, /* double; 90, 90s, 1.5m, 2h */
    CLI_BYTES,   /* uint64_t; 1000, 512M, 8G */
    CLI_PATHS,   /* cli_paths; one or more values */
    CLI_MODEL,   /* an argument of the model, read with cli_model_arguments */
} cli_kind;

typedef struct cli_paths {
    const char **items;
    size_t count;
} cli_paths;

typedef struct cli_option {
    const char *name; /* without the dashes */
    char letter;      /* of a short form, or 0 */
    cli_kind kind;
    size_t offset;        /* of the field in the command's arguments */
    const char *argument; /* its name in help, or the choices */
    const char *help;
} cli_option;

#define CLI_END {0}

typedef struct cli_parsed cli_parsed;

typedef struct cli_command cli_command;

struct cli_command {
    const char *name;
    const char *positional; /* "RUN", "RUN...", "[RUN]" or "" */
    size_t least, most;     /* how many positional arguments */
    const char *summary;    /* a line without a full stop */
    const char *description;
    const cli_option *options; /* up to CLI_END */
    const cli_command *hands_on; /* whose options it takes, too, those of other names, to hand them on; or NULL */
    bool model_options;        /* also takes one option per argument of the model */
    size_t arguments_size;
    void (*set_defaults)(void *arguments);
    int (*run)(const cli_parsed *parsed); /* returns the exit status */
};

/* NULL past the last one. */
const cli_command *cli_command_at(size_t index);
/* The options of a command in the order of its help: its own, those it hands on, the model's, --help. */
const cli_option *cli_option_at(const cli_command *command, size_t index);
/* Whether it is one of the command's own, whose value cli_store puts into its arguments. */
bool cli_is_own(const cli_command *command, const cli_option *option);
/* The i-th argument of the model as an option. */
const cli_option *cli_model_option_at(size_t index);

/* ---- parsing --------------------------------------------------------------------------------------------- */

typedef struct cli_given {
    const cli_option *option;
    const char *text;
} cli_given;

/* A command line, not yet converted. */
struct cli_parsed {
    const cli_command *command;
    cli_given *given;
    size_t given_count;
    const char *const *positional;
    size_t positional_count;
    const char **paths; /* room for the lists of paths */
};

/* Sets *parsed and returns true; or prints what is wrong, or the help asked for, sets *status and returns false.
 * argv[0] is the command's name. */
bool cli_parse(cli_parsed *parsed, const cli_command *command, int argc, char **argv, int *status);
void cli_parsed_close(cli_parsed *parsed);
/* Converts the values into the fields of `arguments`. false after printing what is wrong with one. */
bool cli_store(const cli_parsed *parsed, void *arguments);
/* Prints "brt COMMAND: ..." and where help is; returns the exit status. */
int cli_usage_error(const cli_command *command, const char *format, ...) __attribute__((format(printf, 2, 3)));
bool cli_is_given(const cli_parsed *parsed, const char *name);
/* The text of the last occurrence, or NULL. */
const char *cli_text_of(const cli_parsed *parsed, const char *name);

/* ---- texts ------------------------------------------------------------------------------------------------- */

/* The names of all commands or of a command's options, for suggestions; called until it returns NULL. */
typedef const char *cli_name_at(const void *context, size_t index);
/* The closest name, or NULL when none is close. */
const char *cli_nearest(const char *wrong, cli_name_at *name_at, const void *context);

void cli_print_help(const cli_command *command);
/* "--batch N" or "-n, --tokens N"; the length as snprintf. */
int cli_option_synopsis(const cli_option *option, char *out, size_t size);
/* The default as text; "" when there is none to show. */
void cli_option_default(const cli_command *command, const cli_option *option, char *out, size_t size);

#endif
