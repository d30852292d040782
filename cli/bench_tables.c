/* Tables of brt bench: rows are kept as JSON objects, and printed as Markdown. */
#define _GNU_SOURCE
#include "bench_sections.h"

#include <string.h>
#include <unistd.h>

enum { longest_cell = 64 };

/* Some sections take minutes: how many rows of the table there are, on a terminal, until the table takes its place. */
static void show_progress(const char *table, size_t rows)
{
    if (isatty(STDERR_FILENO))
        fprintf(stderr, "\r%s: %zu\033[K", table, rows);
}

static void end_progress(void)
{
    if (isatty(STDERR_FILENO))
        fprintf(stderr, "\r\033[K");
}

brt_status bench_add(bench *b, const char *table, json_t *row)
{
    json_t *rows = json_object_get(b->tables, table);
    if (!rows) {
        json_object_set_new(b->tables, table, json_array());
        rows = json_object_get(b->tables, table);
    }
    if (!row || json_array_append_new(rows, row) != 0)
        return cli_out_of_memory("the result");
    show_progress(table, json_array_size(rows));
    return BRT_OK;
}

static void format_number(char *out, double value)
{
    int digits = value >= 99.95 ? 0 : value >= 9.995 ? 1 : value >= 0.9995 ? 2 : 3;
    snprintf(out, longest_cell, value >= 0.0995 || value == 0 ? "%.*f" : "%.*g", digits, value);
}

/* "-" for what was not measured. */
static void format_cell(char *out, const bench_column *column, const json_t *row)
{
    const json_t *value = json_object_get(row, column->key);
    if (!value || json_is_null(value))
        snprintf(out, longest_cell, "-");
    else if (column->kind == BENCH_TEXT)
        snprintf(out, longest_cell, "%s", json_string_value(value));
    else if (column->kind == BENCH_INTEGER)
        snprintf(out, longest_cell, "%lld", (long long)json_integer_value(value));
    else if (column->kind == BENCH_COUNT)
        snprintf(out, longest_cell, "%s", cli_count(json_number_value(value)));
    else if (column->kind == BENCH_PERCENT)
        snprintf(out, longest_cell, "%.1f %%", 100 * json_number_value(value));
    else
        format_number(out, json_number_value(value));
}

static int width_of(const bench_column *column, const json_t *rows)
{
    size_t width = strlen(column->heading), i;
    const json_t *row;
    char cell[longest_cell];
    json_array_foreach(rows, i, row) {
        format_cell(cell, column, row);
        width = strlen(cell) > width ? strlen(cell) : width;
    }
    return (int)width;
}

/* Words stand left, figures right. */
static void print_cell(const bench_column *column, int width, const char *text)
{
    printf(column->kind == BENCH_TEXT ? "| %-*s " : "| %*s ", width, text);
}

static void print_rule(const bench_column *column, int width)
{
    static const char dashes[] = "----------------------------------------------------------------";
    printf("|%.*s%c", width + 1, dashes, column->kind == BENCH_TEXT ? '-' : ':');
}

/* Some row has it: neon is not there on x86. */
static bool is_measured(const bench_column *column, const json_t *rows)
{
    size_t i;
    const json_t *row;
    json_array_foreach(rows, i, row)
        if (json_object_get(row, column->key))
            return true;
    return false;
}

static void print_table(const bench_table *table, const json_t *rows)
{
    const bench_column *column[bench_most_columns];
    int width[bench_most_columns];
    size_t columns = 0, i;
    const json_t *row;
    for (size_t c = 0; c < bench_most_columns && table->columns[c].key; c++)
        if (is_measured(&table->columns[c], rows)) {
            column[columns] = &table->columns[c];
            width[columns++] = width_of(&table->columns[c], rows);
        }
    printf("%s:\n\n", table->title);
    for (size_t c = 0; c < columns; c++)
        print_cell(column[c], width[c], column[c]->heading);
    printf("|\n");
    for (size_t c = 0; c < columns; c++)
        print_rule(column[c], width[c]);
    printf("|\n");
    json_array_foreach(rows, i, row) {
        for (size_t c = 0; c < columns; c++) {
            char cell[longest_cell];
            format_cell(cell, column[c], row);
            print_cell(column[c], width[c], cell);
        }
        printf("|\n");
    }
    printf("\n");
}

brt_status bench_print(const bench *b, const bench_section *section)
{
    end_progress();
    for (size_t i = 0; !b->arguments->json && i < bench_most_tables && section->tables[i].key; i++) {
        const json_t *rows = json_object_get(b->tables, section->tables[i].key);
        if (json_array_size(rows) > 0)
            print_table(&section->tables[i], rows);
    }
    return cli_flush();
}
