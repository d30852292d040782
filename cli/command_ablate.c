/* brt ablate: runs that differ in one thing each, on the same data, in one table. */
#define _GNU_SOURCE
#include "arms.h"
#include "child.h"
#include "commands.h"
#include "history.h"
#include "interrupt.h"
#include "output.h"
#include "plot.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct ablate_arguments {
    cli_paths arms;
    const char *out;
    uint64_t seed;
    size_t seeds;
    bool paper, list, resume, json;
} ablate_arguments;

#define FIELD(field) offsetof(ablate_arguments, field)

static const cli_option options[] = {
    {"arms", 0, CLI_PATHS, FIELD(arms), "ARM",
     "what to compare, the first one with the others: names of --list, or of your own with options of 'brt train': "
     "'wide=--dim 384 --depth 4'"},
    {"paper", 0, CLI_FLAG, FIELD(paper), NULL,
     "Table 1 of Hutchins et al. (2022), small: all arms that begin with paper-, of the preset paper-tiny"},
    {"list", 0, CLI_FLAG, FIELD(list), NULL, "list the arms that have names"},
    {"out", 'o', CLI_TEXT, FIELD(out), "DIR", "the runs go to DIR/ARM-SEED, the curves to DIR/losses.svg"},
    {"seed", 0, CLI_COUNT, FIELD(seed), "N", "of the first run of each arm"},
    {"seeds", 0, CLI_SIZE, FIELD(seeds), "N", "runs of each arm, of seeds in a row"},
    {"resume", 0, CLI_FLAG, FIELD(resume), NULL, "go on with what an interrupted ablation has left to do"},
    CLI_JSON(ablate_arguments),
    CLI_END,
};

static void set_defaults(void *arguments)
{
    *(ablate_arguments *)arguments = (ablate_arguments){.seeds = 1};
}

/* One run and what it came to. */
typedef struct trial {
    const arm *arm;
    uint64_t seed;
    char dir[4096], result[4096 + 16]; /* the run's directory, and the file with its result */
    double loss;                       /* of the last validation, in the unit of the table */
    uint64_t peak_bytes, steps;
    history history;
} trial;

typedef struct ablation {
    const cli_parsed *parsed;
    ablate_arguments arguments;
    arm *arms;
    trial *trials; /* [arms, seeds] */
    size_t trial_count;
} ablation;

/* ---- the command line of a run ----------------------------------------------------------------------------------- */

enum { longest_name = 64 };

typedef struct command_line {
    const char **words;            /* up to NULL */
    char (*names)[longest_name];   /* "--name" of what is handed on */
    size_t count;
} command_line;

static brt_status open_command_line(command_line *line, size_t given)
{
    *line = (command_line){.words = calloc(2 * given + ARM_MOST_OPTIONS + 16, sizeof *line->words),
                           .names = calloc(given + 1, sizeof *line->names)};
    return line->words && line->names ? BRT_OK : cli_out_of_memory("a command line");
}

static void close_command_line(command_line *line)
{
    free(line->words);
    free(line->names);
}

static void add_word(command_line *line, const char *word)
{
    line->words[line->count++] = word;
}

/* train, the options that are handed on, the arm's, and those that are the trial's own: of two the later counts. */
static void fill_command_line(command_line *line, const ablation *a, const trial *t, const char *seed)
{
    const cli_parsed *parsed = a->parsed;
    add_word(line, "train");
    if (a->arguments.paper) {
        add_word(line, "--preset");
        add_word(line, "paper-tiny");
    }
    for (size_t i = 0; i < parsed->given_count; i++) {
        const cli_given *given = &parsed->given[i];
        if (cli_is_own(parsed->command, given->option))
            continue;
        snprintf(line->names[i], longest_name, "--%s", given->option->name);
        add_word(line, line->names[i]);
        if (given->text)
            add_word(line, given->text);
    }
    for (size_t i = 0; t->arm->options[i]; i++)
        add_word(line, t->arm->options[i]);
    const char *const own[] = {"--out", t->dir, "--seed", seed, "--quiet", "--json"};
    for (size_t i = 0; i < sizeof own / sizeof own[0]; i++)
        add_word(line, own[i]);
    if (a->arguments.resume)
        add_word(line, "--resume");
}

/* ---- one run ----------------------------------------------------------------------------------------------------- */

/* What the run printed, and the memory it took, kept with it so that an interrupted ablation finds it again. */
static brt_status keep_result(trial *t)
{
    json_t *result = json_load_file(t->result, 0, NULL);
    brt_status status = BRT_OK;
    if (!result || json_object_set_new(result, "peak_bytes", json_integer((json_int_t)t->peak_bytes)) != 0 ||
        json_dump_file(result, t->result, JSON_INDENT(2)) != 0)
        status = cli_fail(BRT_ERROR_IO, "the run %s left no result in %s", t->dir, t->result);
    json_decref(result);
    return status;
}

/* false when the run has not come to its end yet. */
static bool read_result(trial *t)
{
    json_t *result = json_load_file(t->result, 0, NULL);
    json_t *peak = json_object_get(result, "peak_bytes");
    bool complete = json_is_integer(peak);
    t->peak_bytes = (uint64_t)json_integer_value(peak);
    t->steps = (uint64_t)json_integer_value(json_object_get(result, "steps"));
    json_decref(result);
    return complete;
}

static brt_status run_child(const ablation *a, trial *t)
{
    char seed[24];
    int exit_status = 0;
    command_line line;
    snprintf(seed, sizeof seed, "%" PRIu64, t->seed);
    brt_status status = open_command_line(&line, a->parsed->given_count);
    if (status == BRT_OK) {
        fill_command_line(&line, a, t, seed);
        status = child_run(line.words, t->result, &exit_status, &t->peak_bytes);
    }
    close_command_line(&line);
    CLI_TRY(status);
    if (cli_interrupted() || exit_status == CLI_INTERRUPTED)
        return BRT_INTERRUPTED;
    if (exit_status != CLI_OK)
        return cli_fail(BRT_ERROR_ARGUMENT, "the run %s failed: it ended with status %d", t->dir, exit_status);
    return keep_result(t);
}

static brt_status run_trial(const ablation *a, trial *t)
{
    bool complete = read_result(t);
    if (complete && !a->arguments.resume)
        return cli_fail(BRT_ERROR_ARGUMENT, "%s holds the run already: --resume goes on, or name another --out",
                        t->dir);
    if (!complete) {
        cli_say("%s, seed %" PRIu64 ": training", t->arm->name, t->seed);
        CLI_TRY(run_child(a, t));
        read_result(t);
    }
    CLI_TRY(history_read(&t->history, t->dir));
    const history_points *validation = &t->history.validation;
    if (validation->count == 0)
        return cli_fail(BRT_ERROR_DATA, "the run %s was not validated: --val, --val-fraction or --split is needed",
                        t->dir);
    t->loss = validation->y[validation->count - 1];
    cli_say("%s, seed %" PRIu64 ": %.4f", t->arm->name, t->seed, t->loss);
    return BRT_OK;
}

/* ---- the table --------------------------------------------------------------------------------------------------- */

/* The trials of one arm together. */
typedef struct summary {
    const arm *arm;
    double mean, spread; /* of the loss: half of the distance between the best and the worst seed */
    double tokens_per_s; /* the mean over seeds of their medians */
    uint64_t peak_bytes, steps;
} summary;

static summary summarise(const ablation *a, size_t index)
{
    size_t seeds = a->arguments.seeds;
    const trial *trials = a->trials + index * seeds;
    summary s = {.arm = &a->arms[index]};
    double best = trials->loss, worst = best;
    for (size_t i = 0; i < seeds; i++) {
        double loss = trials[i].loss;
        best = loss < best ? loss : best;
        worst = loss > worst ? loss : worst;
        s.mean += loss / (double)seeds;
        s.tokens_per_s += trials[i].history.tokens_per_s / (double)seeds;
        s.peak_bytes = trials[i].peak_bytes > s.peak_bytes ? trials[i].peak_bytes : s.peak_bytes;
        s.steps += trials[i].steps;
    }
    s.steps /= seeds;
    s.spread = (worst - best) / 2;
    return s;
}

static json_t *summary_json(const ablation *a, const summary *s)
{
    json_t *losses = json_array();
    const trial *trials = a->trials + (size_t)(s->arm - a->arms) * a->arguments.seeds;
    for (size_t i = 0; i < a->arguments.seeds; i++)
        json_array_append_new(losses, json_real(trials[i].loss));
    return json_pack("{s:s, s:o, s:f, s:f, s:f, s:I, s:I}", "arm", s->arm->name, "losses", losses,
                     a->trials[0].history.bytes ? "bits_per_byte" : "loss", s->mean, "spread", s->spread,
                     "tokens_per_s", s->tokens_per_s, "peak_bytes", (json_int_t)s->peak_bytes, "steps",
                     (json_int_t)s->steps);
}

static brt_status print_json(const ablation *a)
{
    json_t *rows = json_array();
    for (size_t i = 0; i < a->arguments.arms.count; i++) {
        summary s = summarise(a, i);
        json_array_append_new(rows, summary_json(a, &s));
    }
    return cli_print_json(json_pack("{s:o}", "arms", rows));
}

static brt_status print_table(const ablation *a)
{
    double first = summarise(a, 0).mean;
    printf("| arm | %s | against %s | tokens/s | memory | steps |\n|---|---|---|---|---|---|\n",
           a->trials[0].history.bytes ? "bits per byte" : "nats per token", a->arms[0].name);
    for (size_t i = 0; i < a->arguments.arms.count; i++) {
        summary s = summarise(a, i);
        char spread[32] = "";
        if (a->arguments.seeds > 1)
            snprintf(spread, sizeof spread, " ± %.4f", s.spread);
        printf("| %s | %.4f%s | %+.4f | %s | %s | %llu |\n", s.arm->name, s.mean, spread, s.mean - first,
               cli_count(s.tokens_per_s), cli_bytes(s.peak_bytes), (unsigned long long)s.steps);
    }
    return cli_flush();
}

static brt_status draw(const ablation *a)
{
    char path[4096];
    plot_curve *curves = calloc(a->trial_count, sizeof *curves);
    if (!curves)
        return cli_out_of_memory("the curves");
    for (size_t i = 0; i < a->trial_count; i++) {
        const history_points *p = &a->trials[i].history.train;
        curves[i] = (plot_curve){strrchr(a->trials[i].dir, '/') + 1, p->x, p->y, p->count, false};
    }
    snprintf(path, sizeof path, "%.4000s/losses.svg", a->arguments.out);
    plot picture = {"Training", "step", a->trials[0].history.bytes ? "bits per byte" : "loss (nats per token)", curves,
                    a->trial_count};
    brt_status status = plot_draw(&picture, path);
    free(curves);
    return status;
}

/* ---- all --------------------------------------------------------------------------------------------------------- */

static brt_status print_list(void)
{
    const char *name, *help;
    for (size_t i = 0; (name = arm_name_at(i, &help)) != NULL; i++)
        printf("%-16s %s\n", name, help);
    return cli_flush();
}

enum { most_paper_arms = 32 };
static const char paper_prefix[] = "paper-";

/* The names of the paper's arms, in `names`. */
static cli_paths paper_arms(const char **names)
{
    const char *name, *help;
    cli_paths found = {names, 0};
    for (size_t i = 0; found.count < most_paper_arms && (name = arm_name_at(i, &help)) != NULL; i++)
        if (strncmp(name, paper_prefix, strlen(paper_prefix)) == 0)
            names[found.count++] = name;
    return found;
}

static brt_status open_ablation(ablation *a)
{
    const ablate_arguments *arguments = &a->arguments;
    a->trial_count = arguments->arms.count * arguments->seeds;
    a->arms = calloc(arguments->arms.count, sizeof *a->arms);
    a->trials = calloc(a->trial_count, sizeof *a->trials);
    if (!a->arms || !a->trials)
        return cli_out_of_memory("the runs");
    for (size_t i = 0; i < arguments->arms.count; i++) {
        CLI_TRY(arm_parse(&a->arms[i], arguments->arms.items[i]));
        for (size_t j = 0; j < i; j++)
            if (strcmp(a->arms[i].name, a->arms[j].name) == 0)
                return cli_fail(BRT_ERROR_ARGUMENT, "the arm %s is there twice", a->arms[i].name);
    }
    for (size_t i = 0; i < a->trial_count; i++) {
        trial *t = &a->trials[i];
        t->arm = &a->arms[i / arguments->seeds];
        t->seed = arguments->seed + i % arguments->seeds;
        snprintf(t->dir, sizeof t->dir, "%.3900s/%s-%" PRIu64, arguments->out, t->arm->name, t->seed);
        snprintf(t->result, sizeof t->result, "%s.json", t->dir);
    }
    return BRT_OK;
}

static void close_ablation(ablation *a)
{
    for (size_t i = 0; a->arms && i < a->arguments.arms.count; i++)
        arm_close(&a->arms[i]);
    for (size_t i = 0; a->trials && i < a->trial_count; i++)
        history_close(&a->trials[i].history);
    free(a->arms);
    free(a->trials);
}

/* Seed by seed, so that arms are compared as early as can be, and a machine's changing speed meets all of them. */
static brt_status run_trials(ablation *a)
{
    size_t seeds = a->arguments.seeds;
    if (mkdir(a->arguments.out, 0777) != 0 && access(a->arguments.out, W_OK) != 0)
        return cli_fail(BRT_ERROR_IO, "cannot make the directory %s", a->arguments.out);
    cli_catch_interrupts();
    for (size_t i = 0; i < a->trial_count; i++)
        CLI_TRY(run_trial(a, &a->trials[i / a->arguments.arms.count + i % a->arguments.arms.count * seeds]));
    return BRT_OK;
}

static brt_status ablate(ablation *a)
{
    CLI_TRY(open_ablation(a));
    CLI_TRY(run_trials(a));
    CLI_TRY(a->arguments.json ? print_json(a) : print_table(a));
    return draw(a);
}

static int run(const cli_parsed *parsed)
{
    ablation a = {.parsed = parsed};
    set_defaults(&a.arguments);
    if (!cli_store(parsed, &a.arguments))
        return CLI_USAGE;
    if (a.arguments.list)
        return cli_exit_status(print_list());
    const char *names[most_paper_arms];
    if (a.arguments.paper && a.arguments.arms.count == 0)
        a.arguments.arms = paper_arms(names);
    if (a.arguments.arms.count == 0 || !a.arguments.out || a.arguments.seeds == 0)
        return cli_usage_error(parsed->command, "--arms and --out are needed, and --seeds of at least 1");
    brt_status status = ablate(&a);
    close_ablation(&a);
    return cli_exit_status(status);
}

const cli_command cli_ablate = {
    .name = "ablate",
    .positional = "",
    .summary = "compare variants of a model in one table",
    .description =
        "Trains the arms in turn on the same data with the same options of 'brt train', each in a process of its own, "
        "and prints the losses on the validation data, the speed and the memory of each. With --max-time every arm has "
        "the same time, with --steps the same tokens.",
    .options = options,
    .hands_on = &cli_train,
    .model_options = true,
    .arguments_size = sizeof(ablate_arguments),
    .set_defaults = set_defaults,
    .run = run,
};
