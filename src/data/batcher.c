#include "batcher.h"

#include "../base/size.h"
#include "crops.h"
#include "pieces.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What a row reads: tokens [at, end) of a document are left. The last one is only a target, so one token is the end. */
typedef struct reader {
    size_t document;
    uint64_t at, end;
} reader;

struct brt_batcher {
    const brt_dataset *dataset;
    brt_batcher_options options;
    bool crops;
    brt_pieces pieces;  /* of "stream" */
    brt_crops windows;  /* of "crops" */
    uint64_t epoch;     /* whose order the pieces are in */
    uint64_t taken;     /* pieces or windows so far, by all rows */
    reader *readers;    /* [rows] */
    int32_t *segment;   /* [time + 1] */
    char data_hash[17]; /* of the documents' names and sizes */
};

/* ---- opening ------------------------------------------------------------------------------------------------ */

static brt_status check_options(const brt_batcher_options *options, bool crops)
{
    if (!crops && strcmp(options->sampling, "stream") != 0)
        return BRT_FAIL(BRT_ERROR_ARGUMENT, "there is no sampling \"%s\"; there are stream and crops",
                        options->sampling);
    if (options->rows == 0 || options->time == 0)
        return BRT_FAIL(BRT_ERROR_ARGUMENT, "a batch has %zu rows of %zu tokens; at least 1 of each was expected",
                        options->rows, options->time);
    if (crops && (options->crop_tokens == 0 || options->crop_tokens % options->time != 0))
        return BRT_FAIL(BRT_ERROR_ARGUMENT, "crops have %zu tokens; a multiple of the segment (%zu) was expected",
                        options->crop_tokens, options->time);
    return BRT_OK;
}

static brt_status open_sampling(brt_batcher *batcher)
{
    const brt_batcher_options *options = &batcher->options;
    uint64_t tokens = brt_dataset_tokens(batcher->dataset);
    if (batcher->crops)
        return brt_crops_open(&batcher->windows, batcher->dataset, (uint64_t)options->crop_tokens + 1);
    if (tokens <= options->time)
        return BRT_FAIL(BRT_ERROR_DATA, "the data has %" PRIu64 " tokens in all; one segment takes %zu", tokens,
                        options->time + 1);
    return brt_pieces_cut(&batcher->pieces, batcher->dataset, options->rows);
}

static uint64_t hash_bytes(uint64_t hash, const void *data, size_t size)
{
    const unsigned char *bytes = data;
    for (size_t i = 0; i < size; i++)
        hash = (hash ^ bytes[i]) * 0x100000001B3u;
    return hash;
}

/* FNV-1a. Names without their directories: data may be moved between two sessions of a run. */
static void hash_documents(const brt_dataset *dataset, char out[static 17])
{
    uint64_t hash = 0xCBF29CE484222325u;
    for (size_t i = 0; i < brt_dataset_documents(dataset); i++) {
        const char *path = brt_dataset_document_name(dataset, i), *slash = strrchr(path, '/');
        const char *name = slash ? slash + 1 : path;
        uint64_t tokens = brt_dataset_document_tokens(dataset, i);
        hash = hash_bytes(hash, name, strlen(name) + 1);
        hash = hash_bytes(hash, &tokens, sizeof tokens);
    }
    snprintf(out, 17, "%016" PRIx64, hash);
}

static brt_status open_batcher(brt_batcher *batcher)
{
    BRT_TRY(check_options(&batcher->options, batcher->crops));
    batcher->options.sampling = batcher->crops ? "crops" : "stream"; /* the caller's string may go */
    BRT_TRY(open_sampling(batcher));
    hash_documents(batcher->dataset, batcher->data_hash);
    batcher->epoch = UINT64_MAX;
    batcher->readers = calloc(batcher->options.rows, sizeof *batcher->readers);
    batcher->segment = calloc(batcher->options.time + 1, sizeof *batcher->segment);
    if (!batcher->readers || !batcher->segment)
        return BRT_FAIL(BRT_ERROR_MEMORY, "out of memory for batches of %zu rows of %zu tokens", batcher->options.rows,
                        batcher->options.time);
    return BRT_OK;
}

brt_status brt_batcher_open(brt_batcher **out, const brt_dataset *dataset, const brt_batcher_options *options)
{
    *out = NULL;
    brt_batcher *batcher = calloc(1, sizeof *batcher);
    if (!batcher)
        return BRT_FAIL(BRT_ERROR_MEMORY, "out of memory for a batcher");
    batcher->dataset = dataset;
    batcher->options = *options;
    batcher->crops = strcmp(options->sampling, "crops") == 0;
    brt_status status = open_batcher(batcher);
    if (status == BRT_OK)
        *out = batcher;
    else
        brt_batcher_close(batcher);
    return status;
}

void brt_batcher_close(brt_batcher *batcher)
{
    if (!batcher)
        return;
    brt_pieces_free(&batcher->pieces);
    brt_crops_free(&batcher->windows);
    free(batcher->readers);
    free(batcher->segment);
    free(batcher);
}

/* ---- segments ----------------------------------------------------------------------------------------------- */

static reader take_piece(brt_batcher *batcher)
{
    brt_pieces *pieces = &batcher->pieces;
    uint64_t epoch = batcher->taken / pieces->count;
    if (epoch != batcher->epoch)
        brt_pieces_shuffle(pieces, batcher->options.seed, epoch);
    batcher->epoch = epoch;
    const brt_piece *piece = &pieces->items[pieces->order[batcher->taken % pieces->count]];
    return (reader){piece->document, piece->offset, piece->offset + piece->count};
}

static reader take_window(const brt_batcher *batcher)
{
    reader r;
    brt_crops_draw(&batcher->windows, batcher->options.seed, batcher->taken, &r.document, &r.at);
    r.end = r.at + batcher->windows.window;
    return r;
}

static bool is_finished(const reader *r)
{
    return r->end - r->at < 2;
}

static brt_status fill_row(brt_batcher *batcher, reader *r, int32_t *tokens, int32_t *targets)
{
    size_t time = batcher->options.time;
    size_t count = r->end - r->at > time ? time + 1 : (size_t)(r->end - r->at);
    BRT_TRY(brt_dataset_read(batcher->dataset, r->document, r->at, count, batcher->segment));
    for (size_t i = 0; i < time; i++) {
        tokens[i] = i < count ? batcher->segment[i] : 0;
        targets[i] = i + 1 < count ? batcher->segment[i + 1] : batcher->options.ignore_index;
    }
    r->at += count - 1;
    return BRT_OK;
}

brt_status brt_batcher_next(brt_batcher *batcher, int32_t *tokens, int32_t *targets, bool *reset)
{
    size_t time = batcher->options.time;
    for (size_t row = 0; row < batcher->options.rows; row++) {
        reader *r = &batcher->readers[row];
        reset[row] = is_finished(r);
        if (reset[row]) {
            *r = batcher->crops ? take_window(batcher) : take_piece(batcher);
            batcher->taken++;
        }
        BRT_TRY(fill_row(batcher, r, tokens + row * time, targets + row * time));
    }
    return BRT_OK;
}

/* ---- cursor ------------------------------------------------------------------------------------------------- */

static json_t *reader_to_json(const reader *r)
{
    return json_pack("[I, I, I]", (json_int_t)r->document, (json_int_t)r->at, (json_int_t)r->end);
}

/* NULL unless it is complete. */
static json_t *readers_to_json(const brt_batcher *batcher)
{
    json_t *list = json_array();
    for (size_t row = 0; row < batcher->options.rows; row++)
        if (json_array_append_new(list, reader_to_json(&batcher->readers[row])) != 0) {
            json_decref(list);
            return NULL;
        }
    return list;
}

/* What must be the same for a cursor to make sense; the seed as the signed number that JSON can hold. */
static json_t *describe(const brt_batcher *batcher)
{
    const brt_batcher_options *options = &batcher->options;
    return json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:s}", "sampling", options->sampling, "rows",
                     (json_int_t)options->rows, "time", (json_int_t)options->time, "crop_tokens",
                     (json_int_t)(batcher->crops ? options->crop_tokens : 0), "seed", (json_int_t)options->seed,
                     "documents", (json_int_t)brt_dataset_documents(batcher->dataset), "tokens",
                     (json_int_t)brt_dataset_tokens(batcher->dataset), "data_hash", batcher->data_hash);
}

json_t *brt_batcher_cursor(const brt_batcher *batcher)
{
    json_t *cursor = describe(batcher);
    int failed = json_object_set_new(cursor, "taken", json_integer((json_int_t)batcher->taken)) |
                 json_object_set_new(cursor, "readers", readers_to_json(batcher));
    if (!failed)
        return cursor;
    json_decref(cursor);
    return NULL;
}

static brt_status fail_to_match(const char *what, const char *name, const json_t *before, const json_t *now)
{
    char *was = before ? json_dumps(before, JSON_ENCODE_ANY) : NULL, *is = json_dumps(now, JSON_ENCODE_ANY);
    brt_status status = BRT_FAIL(BRT_ERROR_MISMATCH, "%s: the data was read with \"%s\" = %.60s; now it is %.60s",
                                 what, name, was ? was : "nothing", is ? is : "another");
    free(was);
    free(is);
    return status;
}

static brt_status fail_to_match_data(const char *what, const json_t *before, const json_t *now)
{
    long long documents = json_integer_value(json_object_get(before, "documents"));
    long long tokens = json_integer_value(json_object_get(before, "tokens"));
    return BRT_FAIL(BRT_ERROR_MISMATCH,
                    "%s: the data has changed: the run has read %lld documents of %lld tokens in all, now there are "
                    "%lld of %lld, or with other names or sizes; resume it with the same data, split in the same way",
                    what, documents, tokens, json_integer_value(json_object_get(now, "documents")),
                    json_integer_value(json_object_get(now, "tokens")));
}

static bool is_of_data(const char *name)
{
    return strcmp(name, "documents") == 0 || strcmp(name, "tokens") == 0 || strcmp(name, "data_hash") == 0;
}

static brt_status check_same(const brt_batcher *batcher, const json_t *cursor, const char *what)
{
    json_t *expected = describe(batcher), *value;
    const char *name;
    brt_status status = expected ? BRT_OK : BRT_FAIL(BRT_ERROR_MEMORY, "out of memory for reading %s", what);
    json_object_foreach(expected, name, value)
    {
        const json_t *before = json_object_get(cursor, name);
        if (before && json_equal(before, value))
            continue;
        status = is_of_data(name) ? fail_to_match_data(what, cursor, expected)
                                  : fail_to_match(what, name, before, value);
        break;
    }
    json_decref(expected);
    return status;
}

static bool read_reader(const brt_batcher *batcher, const json_t *list, reader *out)
{
    json_int_t numbers[3];
    if (json_array_size(list) != 3)
        return false;
    for (size_t i = 0; i < 3; i++) {
        const json_t *number = json_array_get(list, i);
        numbers[i] = json_integer_value(number);
        if (!json_is_integer(number) || numbers[i] < 0)
            return false;
    }
    *out = (reader){(size_t)numbers[0], (uint64_t)numbers[1], (uint64_t)numbers[2]};
    return out->document < brt_dataset_documents(batcher->dataset) && out->at <= out->end &&
           out->end <= brt_dataset_document_tokens(batcher->dataset, out->document);
}

static brt_status read_readers(const brt_batcher *batcher, const json_t *list, const char *what, reader *out)
{
    if (json_array_size(list) != batcher->options.rows)
        return BRT_FAIL(BRT_ERROR_FORMAT, "%s: \"readers\" is not a list of the %zu rows", what, batcher->options.rows);
    for (size_t row = 0; row < batcher->options.rows; row++)
        if (!read_reader(batcher, json_array_get(list, row), &out[row]))
            return BRT_FAIL(BRT_ERROR_FORMAT, "%s: entry %zu of \"readers\" is no place in the data", what, row);
    return BRT_OK;
}

brt_status brt_batcher_restore(brt_batcher *batcher, const json_t *cursor, const char *what)
{
    int64_t taken;
    if (!json_is_object(cursor))
        return BRT_FAIL(BRT_ERROR_FORMAT, "%s does not tell where in the data the run stood", what);
    BRT_TRY(check_same(batcher, cursor, what));
    BRT_TRY(brt_json_get_integer(cursor, "taken", what, &taken));
    if (taken < 0)
        return BRT_FAIL(BRT_ERROR_FORMAT, "%s: \"taken\" is negative", what);
    reader *readers = calloc(batcher->options.rows, sizeof *readers);
    if (!readers)
        return BRT_FAIL(BRT_ERROR_MEMORY, "out of memory for reading %s", what);
    brt_status status = read_readers(batcher, json_object_get(cursor, "readers"), what, readers);
    if (status == BRT_OK) {
        memcpy(batcher->readers, readers, batcher->options.rows * sizeof *readers);
        batcher->taken = (uint64_t)taken;
    }
    free(readers);
    return status;
}
