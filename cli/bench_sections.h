/* brt bench: sections that each measure something and add rows to their tables. A table is Markdown as text, and a list
 * of objects as JSON. */
#ifndef BRT_CLI_BENCH_SECTIONS_H
#define BRT_CLI_BENCH_SECTIONS_H

#include "options.h"
#include "output.h"

#include <brt/bench.h>

typedef struct bench_arguments {
    const char *preset, *config, *dtype, *isa;
    size_t batch, repeats;
    uint64_t context;
    int threads;
    bool all, json;
} bench_arguments;

/* What is measured. */
typedef struct bench {
    const bench_arguments *arguments;
    brt_run_options run; /* rows, segments and window of the preset */
    brt_model *model;
    brt_model_costs costs;
    size_t num_tokens, segment, sample; /* tokens per row */
    json_t *tables;                     /* the rows of each, by the table's key */
} bench;

/* ---- sections ---------------------------------------------------------------------------------------------------- */

typedef enum bench_kind {
    BENCH_TEXT,
    BENCH_INTEGER,
    BENCH_NUMBER,  /* three significant digits */
    BENCH_COUNT,   /* "2.9 k" */
    BENCH_PERCENT, /* of a fraction */
} bench_kind;

typedef struct bench_column {
    const char *key; /* in JSON: the quantity and its unit */
    const char *heading;
    bench_kind kind;
} bench_column;

enum { bench_most_columns = 12, bench_most_tables = 2 };

typedef struct bench_table {
    const char *key, *title;
    bench_column columns[bench_most_columns]; /* up to the first without a key */
} bench_table;

typedef struct bench_section {
    const char *name; /* the word on the command line */
    bool usual;       /* measured when no section is named */
    brt_status (*run)(bench *b);
    bench_table tables[bench_most_tables]; /* up to the first without a key */
} bench_section;

extern const bench_section bench_machine, bench_training, bench_attention, bench_kernels, bench_shapes, bench_scaling,
    bench_decode, bench_streams, bench_prefill, bench_context, bench_routed;

/* Takes a row, an object that json_pack made with the keys of the table's columns. */
brt_status bench_add(bench *b, const char *table, json_t *row);
/* Prints the section's tables as Markdown; with --json nothing yet. */
brt_status bench_print(const bench *b, const bench_section *section);

/* ---- the case at hand -------------------------------------------------------------------------------------------- */

/* The model and how it is trained, from the command line. */
brt_status bench_choose(bench *b, const cli_parsed *parsed);
/* The types of products to measure, one after the other: --dtype, or all that the kernels in use have. */
const char *bench_dtype_at(const bench *b, size_t index);
/* The model as it is, and with its weights in fewer bits, one after the other. */
typedef brt_status bench_weights_work(bench *b, const brt_model *model, const char *weights);
brt_status bench_with_weights(bench *b, bench_weights_work *work);
/* Tokens without a pattern, always the same. */
void bench_fill_tokens(int32_t *tokens, size_t count, size_t num_tokens);

/* ---- timing ------------------------------------------------------------------------------------------------------ */

/* Medians of rounds, in each of which the machine was measured right before the work: a shared machine's speed changes
 * from one second to the next. */
typedef struct bench_timing {
    brt_machine machine;
    double seconds;
    /* What the machine could have done in the time of the work: fractions of these are what to compare. */
    double possible_f32_gflop, possible_bf16_gflop, possible_gbytes;
} bench_timing;

typedef brt_status bench_work(void *context);
brt_status bench_time(int threads, size_t repeats, bench_work *work, void *context, bench_timing *out);
/* Sorts the values. */
double bench_median(double *values, size_t count);

/* ---- what several sections time ---------------------------------------------------------------------------------- */

enum { bench_most_operations = 64 };

/* Training steps, and where their time went: operations in no particular order. */
typedef struct bench_steps {
    bench_timing timing;
    brt_profile_entry operations[bench_most_operations];
    size_t count;
} bench_steps;
brt_status bench_time_training(const bench *b, const char *dtype, int threads, bench_steps *out);
/* Forward and backward. */
double bench_operation_seconds(const brt_profile_entry *entry);
/* A block of single tokens of one stream, its end included, and the token before; `least`, [block_width], or NULL,
 * takes the least time of each place in a block. */
brt_status bench_time_decoding(const bench *b, const brt_model *model, int threads, double *least, bench_timing *out);

#endif
