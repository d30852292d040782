/* A data set: documents whose tokens lie in mapped files or in memory. Handles made by splitting share them. */
#define _GNU_SOURCE
#include "content.h"
#include "source.h"
#include "tokens.h"

#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* What the documents of several handles point into. Handles may be closed by different threads. */
typedef struct store {
    atomic_size_t references;
    brt_sources sources;
    brt_content *contents; /* of each source */
} store;

typedef struct entry {
    const char *name; /* the path, owned by the store */
    brt_tokens tokens;
} entry;

struct brt_dataset {
    store *store;
    entry *documents;
    size_t count;
    uint64_t tokens;
};

brt_dataset_options brt_dataset_options_init(void)
{
    return (brt_dataset_options){.size = sizeof(brt_dataset_options), .format = "auto"};
}

static void release(store *s)
{
    if (!s || atomic_fetch_sub(&s->references, 1) > 1)
        return;
    for (size_t i = 0; s->contents && i < s->sources.count; i++)
        brt_content_free(&s->contents[i]);
    free(s->contents);
    brt_sources_free(&s->sources);
    free(s);
}

void brt_dataset_close(brt_dataset *dataset)
{
    if (!dataset)
        return;
    release(dataset->store);
    free(dataset->documents);
    free(dataset);
}

static void add_document(brt_dataset *dataset, const char *name, brt_tokens tokens)
{
    dataset->documents[dataset->count++] = (entry){name, tokens};
    dataset->tokens += tokens.count;
}

/* ---- the customary parts of enwik8 -------------------------------------------------------------------------- */

enum { enwik8_bytes = 100 * 1000 * 1000 };

static const struct {
    const char *name;
    uint64_t offset, count;
} splits[] = {
    {"enwik8:train", 0, 90 * 1000 * 1000},
    {"enwik8:val", 90 * 1000 * 1000, 5 * 1000 * 1000},
    {"enwik8:test", 95 * 1000 * 1000, 5 * 1000 * 1000},
};

enum { split_count = sizeof splits / sizeof splits[0] };

static size_t find_split(const char *name)
{
    size_t i = 0;
    while (i < split_count && strcmp(splits[i].name, name) != 0)
        i++;
    return i;
}

static brt_status take_split(brt_dataset *dataset, const char *name)
{
    size_t split = find_split(name);
    entry *only = &dataset->documents[0];
    if (dataset->count != 1)
        return BRT_FAIL(BRT_ERROR_DATA, "the split %s is of one file; the data set has %zu that are not empty", name,
                        dataset->count);
    if (only->tokens.count != enwik8_bytes || only->tokens.width != 1)
        return BRT_FAIL(BRT_ERROR_DATA, "%s has %llu tokens of %zu bytes; the split %s needs enwik8: %d bytes",
                        only->name, (unsigned long long)only->tokens.count, only->tokens.width, name, enwik8_bytes);
    only->tokens = brt_tokens_part(&only->tokens, splits[split].offset, splits[split].count);
    dataset->tokens = only->tokens.count;
    return BRT_OK;
}

/* ---- opening ------------------------------------------------------------------------------------------------ */

static brt_status check_options(const brt_dataset_options *options)
{
    if (options->size != sizeof *options)
        return BRT_FAIL(BRT_ERROR_ARGUMENT, "data set options must be made with brt_dataset_options_init");
    if (options->path_count == 0 || !options->paths)
        return BRT_FAIL(BRT_ERROR_ARGUMENT, "a data set needs at least one path");
    if (!options->format || !brt_tokens_format_exists(options->format))
        return BRT_FAIL(BRT_ERROR_ARGUMENT, "there is no data format \"%s\"; there are auto, bytes, uint16 and uint32",
                        options->format ? options->format : "");
    if (options->split && find_split(options->split) == split_count)
        return BRT_FAIL(BRT_ERROR_ARGUMENT,
                        "there is no split \"%s\"; there are enwik8:train, enwik8:val and enwik8:test", options->split);
    return BRT_OK;
}

static brt_status load_document(brt_dataset *dataset, size_t source, const brt_dataset_options *options)
{
    brt_content *content = &dataset->store->contents[source];
    const char *path = dataset->store->sources.paths[source];
    brt_tokens tokens;
    BRT_TRY(brt_content_load(content, path));
    BRT_TRY(brt_tokens_find(&tokens, content->data, content->size, options->format, path));
    BRT_TRY(brt_tokens_check(&tokens, options->num_tokens, path));
    if (tokens.count > 0)
        add_document(dataset, path, tokens);
    return BRT_OK;
}

static brt_status load(brt_dataset *dataset, const brt_dataset_options *options)
{
    store *s = dataset->store;
    for (size_t i = 0; i < options->path_count; i++)
        BRT_TRY(brt_sources_add(&s->sources, options->paths[i]));
    s->contents = calloc(s->sources.count, sizeof *s->contents);
    dataset->documents = calloc(s->sources.count, sizeof *dataset->documents);
    if (!s->contents || !dataset->documents)
        return BRT_FAIL(BRT_ERROR_MEMORY, "out of memory for %zu documents", s->sources.count);
    for (size_t i = 0; i < s->sources.count; i++)
        BRT_TRY(load_document(dataset, i, options));
    if (dataset->count == 0)
        return BRT_FAIL(BRT_ERROR_DATA, "there is nothing to read in %s%s: every file is empty", options->paths[0],
                        options->path_count > 1 ? " and the other paths" : "");
    return options->split ? take_split(dataset, options->split) : BRT_OK;
}

/* A handle without documents on `s`, or on a new store where s is NULL. */
static brt_dataset *make_handle(store *s)
{
    brt_dataset *dataset = calloc(1, sizeof *dataset);
    if (!dataset)
        return NULL;
    dataset->store = s ? s : calloc(1, sizeof *s);
    if (!dataset->store) {
        free(dataset);
        return NULL;
    }
    atomic_fetch_add(&dataset->store->references, 1);
    return dataset;
}

brt_status brt_dataset_open(brt_dataset **out, const brt_dataset_options *options)
{
    *out = NULL;
    BRT_TRY(check_options(options));
    brt_dataset *dataset = make_handle(NULL);
    if (!dataset)
        return BRT_FAIL(BRT_ERROR_MEMORY, "out of memory for a data set");
    brt_status status = load(dataset, options);
    if (status == BRT_OK)
        *out = dataset;
    else
        brt_dataset_close(dataset);
    return status;
}

/* ---- reading ------------------------------------------------------------------------------------------------ */

size_t brt_dataset_documents(const brt_dataset *dataset)
{
    return dataset->count;
}

uint64_t brt_dataset_tokens(const brt_dataset *dataset)
{
    return dataset->tokens;
}

const char *brt_dataset_document_name(const brt_dataset *dataset, size_t document)
{
    return document < dataset->count ? dataset->documents[document].name : NULL;
}

uint64_t brt_dataset_document_tokens(const brt_dataset *dataset, size_t document)
{
    return document < dataset->count ? dataset->documents[document].tokens.count : 0;
}

brt_status brt_dataset_read(const brt_dataset *dataset, size_t document, uint64_t offset, size_t count,
                            int32_t *tokens)
{
    if (document >= dataset->count)
        return BRT_FAIL(BRT_ERROR_ARGUMENT, "there is no document %zu; the data set has %zu", document, dataset->count);
    const brt_tokens *all = &dataset->documents[document].tokens;
    if (offset > all->count || count > all->count - offset)
        return BRT_FAIL(BRT_ERROR_ARGUMENT, "%s has %llu tokens; %zu from offset %llu on are not there",
                        dataset->documents[document].name, (unsigned long long)all->count, count,
                        (unsigned long long)offset);
    brt_tokens_read(all, offset, count, tokens);
    return BRT_OK;
}

/* ---- splitting ---------------------------------------------------------------------------------------------- */

/* Documents are taken from the end as long as each brings the sum nearer to `wanted`; at least one, and not all. */
static size_t first_of_tail(const brt_dataset *dataset, double wanted)
{
    size_t first = dataset->count - 1;
    double taken = (double)dataset->documents[first].tokens.count;
    while (first > 1) {
        double next = (double)dataset->documents[first - 1].tokens.count;
        if (taken + next / 2 > wanted)
            break;
        taken += next;
        first--;
    }
    return first;
}

static void move_documents(brt_dataset *from, size_t first, brt_dataset *to)
{
    for (size_t i = first; i < from->count; i++) {
        add_document(to, from->documents[i].name, from->documents[i].tokens);
        from->tokens -= from->documents[i].tokens.count;
    }
    from->count = first;
}

/* Both parts can be predicted from: they have two tokens at least. */
static brt_status cut_only_document(brt_dataset *from, double wanted, brt_dataset *to)
{
    entry *only = &from->documents[0];
    uint64_t count = only->tokens.count;
    if (count < 4)
        return BRT_FAIL(BRT_ERROR_DATA, "%s has %llu tokens; a tail can be split off from 4 on", only->name,
                        (unsigned long long)count);
    uint64_t tail = (uint64_t)fmin(fmax(round(wanted), 2), (double)(count - 2));
    add_document(to, only->name, brt_tokens_part(&only->tokens, count - tail, tail));
    only->tokens = brt_tokens_part(&only->tokens, 0, count - tail);
    from->tokens = only->tokens.count;
    return BRT_OK;
}

brt_status brt_dataset_split_tail(brt_dataset *dataset, double fraction, brt_dataset **out)
{
    *out = NULL;
    if (!(fraction > 0 && fraction < 1))
        return BRT_FAIL(BRT_ERROR_ARGUMENT, "the fraction to split off is %g; it must lie between 0 and 1", fraction);
    brt_dataset *tail = make_handle(dataset->store);
    if (tail)
        tail->documents = calloc(dataset->count, sizeof *tail->documents);
    if (!tail || !tail->documents) {
        brt_dataset_close(tail);
        return BRT_FAIL(BRT_ERROR_MEMORY, "out of memory for splitting %zu documents", dataset->count);
    }
    double wanted = fraction * (double)dataset->tokens;
    brt_status status = BRT_OK;
    if (dataset->count == 1)
        status = cut_only_document(dataset, wanted, tail);
    else
        move_documents(dataset, first_of_tail(dataset, wanted), tail);
    if (status == BRT_OK)
        *out = tail;
    else
        brt_dataset_close(tail);
    return status;
}
