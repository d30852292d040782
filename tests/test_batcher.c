/* Batches: what rows read, in which order, and that a resumed batcher goes on bit by bit. */
#define _GNU_SOURCE
#include "scratch.h"

#include "base/file.h"
#include "data/batcher.h"
#include "data/crops.h"
#include "data/pieces.h"

/* ---- data ------------------------------------------------------------------------------------------------- */

enum { most_tokens = 4000, ignored = -100 };

static brt_dataset *open_directory(const char *directory)
{
    brt_dataset *dataset;
    brt_dataset_options options = brt_dataset_options_init();
    options.paths = &directory;
    options.path_count = 1;
    assert_ok(brt_dataset_open(&dataset, &options));
    return dataset;
}

/* Documents of these sizes; every token of the data set is a different number, counted from 1 on. */
static brt_dataset *make_dataset(const char *directory, const size_t *sizes, size_t count)
{
    uint16_t tokens[most_tokens], next = 1;
    assert_ok(brt_make_directory(directory));
    for (size_t i = 0; i < count; i++) {
        char path[64];
        snprintf(path, sizeof path, "%s/%02zu.bin", directory, i);
        for (size_t k = 0; k < sizes[i]; k++)
            tokens[k] = next++;
        assert_ok(brt_file_replace(path, tokens, sizes[i] * sizeof *tokens));
    }
    return open_directory(directory);
}

static const size_t various[] = {50, 1, 7, 300, 2, 64, 65, 33, 1, 120};
enum { various_count = sizeof various / sizeof various[0], various_total = 643 };

/* ---- a batch ---------------------------------------------------------------------------------------------- */

enum { most_rows = 8, most_time = 32 };

typedef struct batch {
    int32_t tokens[most_rows * most_time], targets[most_rows * most_time];
    bool reset[most_rows];
} batch;

static brt_batcher_options stream_options(size_t rows, size_t time)
{
    return (brt_batcher_options){.sampling = "stream", .rows = rows, .time = time, .ignore_index = ignored, .seed = 5};
}

static brt_batcher_options crop_options(size_t rows, size_t time, size_t crop)
{
    return (brt_batcher_options){
        .sampling = "crops", .rows = rows, .time = time, .crop_tokens = crop, .ignore_index = ignored, .seed = 5};
}

static brt_batcher *open_batcher(const brt_dataset *dataset, brt_batcher_options options)
{
    brt_batcher *batcher;
    assert_ok(brt_batcher_open(&batcher, dataset, &options));
    return batcher;
}

static batch next(brt_batcher *batcher)
{
    batch b;
    memset(&b, 0, sizeof b);
    assert_ok(brt_batcher_next(batcher, b.tokens, b.targets, b.reset));
    return b;
}

/* Tokens are consecutive numbers: a target is its token's successor, and within a row everything follows. */
static void expect_row_follows(const batch *b, size_t row, size_t time, int32_t *last)
{
    const int32_t *tokens = b->tokens + row * time, *targets = b->targets + row * time;
    int32_t previous = b->reset[row] ? tokens[0] - 1 : last[row];
    bool ended = false;
    for (size_t i = 0; i < time; i++) {
        if (targets[i] == ignored) {
            /* The piece's last token may stand there; after it only padding. */
            assert_true(tokens[i] == 0 || (!ended && tokens[i] == previous + 1));
            ended = true;
            continue;
        }
        assert_false(ended);
        assert_int_equal(tokens[i], previous + 1);
        assert_int_equal(targets[i], tokens[i] + 1);
        previous = tokens[i];
    }
    last[row] = previous;
}

/* ---- pieces ----------------------------------------------------------------------------------------------- */

static void long_documents_are_cut_evenly(void **state)
{
    (void)state;
    brt_dataset *dataset = make_dataset("cut", (size_t[]){103, 11, 1, 3}, 4);
    brt_pieces pieces;
    static const brt_piece expected[] = {{0, 0, 26}, {0, 26, 26}, {0, 52, 26}, {0, 78, 25}, {1, 0, 11}, {3, 0, 3}};
    assert_ok(brt_pieces_cut(&pieces, dataset, 4)); /* 118 tokens: at most 30 per piece */
    assert_int_equal(pieces.count, 6);
    for (size_t i = 0; i < pieces.count; i++) {
        assert_int_equal(pieces.items[i].document, expected[i].document);
        assert_int_equal(pieces.items[i].offset, expected[i].offset);
        assert_int_equal(pieces.items[i].count, expected[i].count);
    }
    brt_pieces_free(&pieces);
    assert_ok(brt_pieces_cut(&pieces, dataset, 1));
    assert_int_equal(pieces.count, 3);
    brt_pieces_free(&pieces);
    assert_ok(brt_pieces_cut(&pieces, dataset, 1000)); /* no shorter than 2, or nothing could be predicted */
    for (size_t i = 0; i < pieces.count; i++)
        assert_int_equal(pieces.items[i].count, 2);
    brt_pieces_free(&pieces);
    brt_dataset_close(dataset);
}

static void every_epoch_has_its_own_order(void **state)
{
    (void)state;
    brt_dataset *dataset = make_dataset("various", various, various_count);
    brt_pieces pieces;
    assert_ok(brt_pieces_cut(&pieces, dataset, 16));
    size_t count = pieces.count, *first = malloc(count * sizeof *first);
    brt_pieces_shuffle(&pieces, 5, 0);
    memcpy(first, pieces.order, count * sizeof *first);
    bool *seen = calloc(count, sizeof *seen);
    for (size_t i = 0; i < count; i++)
        seen[pieces.order[i]] = true;
    for (size_t i = 0; i < count; i++)
        assert_true(seen[i]);
    brt_pieces_shuffle(&pieces, 5, 1);
    assert_memory_not_equal(pieces.order, first, count * sizeof *first);
    brt_pieces_shuffle(&pieces, 6, 0);
    assert_memory_not_equal(pieces.order, first, count * sizeof *first);
    brt_pieces_shuffle(&pieces, 5, 0);
    assert_memory_equal(pieces.order, first, count * sizeof *first);
    free(first);
    free(seen);
    brt_pieces_free(&pieces);
    brt_dataset_close(dataset);
}

/* ---- stream ----------------------------------------------------------------------------------------------- */

static void rows_read_on_from_segment_to_segment(void **state)
{
    (void)state;
    brt_dataset *dataset = make_dataset("various", various, various_count);
    brt_batcher *batcher = open_batcher(dataset, stream_options(3, 8));
    int32_t last[3] = {0};
    for (int segment = 0; segment < 500; segment++) {
        batch b = next(batcher);
        if (segment == 0)
            assert_true(b.reset[0] && b.reset[1] && b.reset[2]);
        for (size_t row = 0; row < 3; row++)
            expect_row_follows(&b, row, 8, last);
    }
    brt_batcher_close(batcher);
    brt_dataset_close(dataset);
}

/* How often each token was a target in the n-th reading of its piece, n < epochs. */
typedef struct coverage {
    unsigned char starts[various_total + 2];
    unsigned char targets[3][various_total + 2];
} coverage;

static void count_targets(coverage *c, const batch *b, size_t rows, size_t time, size_t *epoch)
{
    for (size_t row = 0; row < rows; row++) {
        if (b->reset[row])
            epoch[row] = c->starts[b->tokens[row * time]]++;
        for (size_t i = 0; i < time && epoch[row] < 3; i++)
            if (b->targets[row * time + i] != ignored)
                c->targets[epoch[row]][b->targets[row * time + i]]++;
    }
}

static void every_token_is_a_target_once_per_epoch(void **state)
{
    (void)state;
    enum { rows = 4, time = 16, epochs = 3 };
    brt_dataset *dataset = make_dataset("various", various, various_count);
    brt_batcher *batcher = open_batcher(dataset, stream_options(rows, time));
    brt_pieces pieces;
    coverage c = {0};
    size_t epoch[rows];
    assert_ok(brt_pieces_cut(&pieces, dataset, rows));
    for (int segment = 0; segment < 300; segment++) {
        batch b = next(batcher);
        count_targets(&c, &b, rows, time, epoch);
    }
    int32_t first = 1; /* the number of the document's first token */
    for (size_t document = 0, i = 0; document < various_count; first += (int32_t)various[document++])
        for (; i < pieces.count && pieces.items[i].document == document; i++) {
            size_t start = (size_t)first + pieces.items[i].offset;
            assert_true(c.starts[start] > epochs);
            for (size_t e = 0; e < epochs; e++)
                for (size_t k = 0; k < pieces.items[i].count; k++)
                    assert_int_equal(c.targets[e][start + k], k > 0);
        }
    brt_pieces_free(&pieces);
    brt_batcher_close(batcher);
    brt_dataset_close(dataset);
}

static void one_file_feeds_every_row(void **state)
{
    (void)state;
    brt_dataset *dataset = make_dataset("one", (size_t[]){801}, 1);
    brt_batcher *batcher = open_batcher(dataset, stream_options(8, 10));
    for (int segment = 0; segment < 10; segment++) {
        batch b = next(batcher);
        for (size_t row = 0; row < 8; row++) {
            assert_int_equal(b.reset[row], segment == 0);
            for (size_t other = 0; other < row; other++)
                assert_int_not_equal(b.tokens[row * 10], b.tokens[other * 10]);
        }
    }
    brt_batcher_close(batcher);
    brt_dataset_close(dataset);
}

static void the_end_of_a_piece_is_padded(void **state)
{
    (void)state;
    brt_dataset *dataset = make_dataset("end", (size_t[]){7}, 1);
    brt_batcher *batcher = open_batcher(dataset, stream_options(1, 5));
    static const int32_t first[] = {1, 2, 3, 4, 5}, first_targets[] = {2, 3, 4, 5, 6};
    static const int32_t second[] = {6, 7, 0, 0, 0}, second_targets[] = {7, ignored, ignored, ignored, ignored};
    for (int epoch = 0; epoch < 3; epoch++) {
        batch b = next(batcher);
        assert_true(b.reset[0]);
        assert_memory_equal(b.tokens, first, sizeof first);
        assert_memory_equal(b.targets, first_targets, sizeof first);
        b = next(batcher);
        assert_false(b.reset[0]);
        assert_memory_equal(b.tokens, second, sizeof second);
        assert_memory_equal(b.targets, second_targets, sizeof second);
    }
    brt_batcher_close(batcher);
    brt_dataset_close(dataset);
}

/* ---- crops ------------------------------------------------------------------------------------------------ */

static void crops_are_windows_inside_documents(void **state)
{
    (void)state;
    enum { rows = 2, time = 8, crop = 24 };
    brt_dataset *dataset = make_dataset("various", various, various_count);
    brt_batcher *batcher = open_batcher(dataset, crop_options(rows, time, crop));
    int32_t last[rows] = {0}, ends[various_count], end = 0;
    for (size_t i = 0; i < various_count; i++)
        ends[i] = end += (int32_t)various[i];
    for (int segment = 0; segment < 600; segment++) {
        batch b = next(batcher);
        for (size_t row = 0; row < rows; row++) {
            assert_int_equal(b.reset[row], segment % (crop / time) == 0);
            expect_row_follows(&b, row, time, last);
            assert_int_equal(b.targets[row * time + time - 1], b.tokens[row * time] + time);
            for (size_t i = 0; i < various_count && b.reset[row]; i++) /* no document ends within the window */
                assert_false(b.tokens[row * time] <= ends[i] && ends[i] < b.tokens[row * time] + crop);
        }
    }
    brt_batcher_close(batcher);
    brt_dataset_close(dataset);
}

static void every_start_is_equally_likely(void **state)
{
    (void)state;
    enum { window = 21, draws = 100000, starts = 5 + 1 + 10 };
    static const size_t sizes[] = {25, 20, 21, 3, 30};
    brt_dataset *dataset = make_dataset("starts", sizes, 5);
    brt_crops crops;
    unsigned counts[5][10] = {{0}};
    assert_ok(brt_crops_open(&crops, dataset, window));
    for (uint64_t number = 0; number < draws; number++) {
        size_t document;
        uint64_t offset;
        brt_crops_draw(&crops, 5, number, &document, &offset);
        assert_true(document < 5 && offset + window <= sizes[document]);
        counts[document][offset]++;
    }
    double expected = (double)draws / starts, deviation = sqrt(expected);
    for (size_t i = 0; i < 5; i++)
        for (size_t k = 0; k + window <= sizes[i]; k++)
            if (fabs(counts[i][k] - expected) > 5 * deviation)
                fail_msg("document %zu, offset %zu: %u draws, expected %g", i, k, counts[i][k], expected);
    brt_crops_free(&crops);
    brt_dataset_close(dataset);
}

static void crops_depend_on_the_seed(void **state)
{
    (void)state;
    brt_dataset *dataset = make_dataset("various", various, various_count);
    brt_batcher_options options = crop_options(4, 8, 16);
    brt_batcher *first = open_batcher(dataset, options), *same = open_batcher(dataset, options);
    options.seed++;
    brt_batcher *other = open_batcher(dataset, options);
    batch a = next(first), b = next(same), c = next(other);
    assert_memory_equal(&a, &b, sizeof a);
    assert_memory_not_equal(&a, &c, sizeof a);
    brt_batcher_close(first);
    brt_batcher_close(same);
    brt_batcher_close(other);
    brt_dataset_close(dataset);
}

/* ---- resuming --------------------------------------------------------------------------------------------- */

static void expect_to_go_on(brt_batcher *batcher, const json_t *cursor, const batch *expected, size_t count)
{
    assert_ok(brt_batcher_restore(batcher, cursor, "cursor"));
    for (size_t i = 0; i < count; i++) {
        batch b = next(batcher);
        assert_memory_equal(&b, &expected[i], sizeof b);
    }
}

static json_t *through_text(json_t *cursor)
{
    char *text = json_dumps(cursor, 0);
    json_t *copy = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    free(text);
    json_decref(cursor);
    assert_non_null(copy);
    return copy;
}

/* From every segment on, a new batcher and one that stands elsewhere both go on as the first did. */
static void check_resuming(const brt_dataset *dataset, brt_batcher_options options)
{
    enum { segments = 120, ahead = 40 };
    batch *expected = calloc(segments + ahead, sizeof *expected);
    json_t *cursors[segments];
    brt_batcher *batcher = open_batcher(dataset, options);
    for (size_t i = 0; i < segments + ahead; i++) {
        if (i < segments)
            cursors[i] = through_text(brt_batcher_cursor(batcher));
        expected[i] = next(batcher);
    }
    for (size_t i = 0; i < segments; i++) {
        brt_batcher *fresh = open_batcher(dataset, options);
        expect_to_go_on(fresh, cursors[i], &expected[i], ahead);
        expect_to_go_on(batcher, cursors[i], &expected[i], ahead);
        brt_batcher_close(fresh);
        json_decref(cursors[i]);
    }
    brt_batcher_close(batcher);
    free(expected);
}

static void a_stream_resumes_at_every_segment(void **state)
{
    (void)state;
    brt_dataset *dataset = make_dataset("various", various, various_count);
    brt_batcher_options options = stream_options(4, 16);
    options.seed = UINT64_MAX - 1;
    check_resuming(dataset, options); /* 643 tokens: some ten epochs */
    brt_dataset_close(dataset);
}

static void crops_resume_at_every_segment(void **state)
{
    (void)state;
    brt_dataset *dataset = make_dataset("various", various, various_count);
    check_resuming(dataset, crop_options(3, 8, 24));
    brt_dataset_close(dataset);
}

static void expect_refusal(const brt_dataset *dataset, brt_batcher_options options, const json_t *cursor,
                           brt_status status, const char *part)
{
    brt_batcher *batcher = open_batcher(dataset, options), *untouched = open_batcher(dataset, options);
    expect_failure(brt_batcher_restore(batcher, cursor, "run/checkpoint"), status, part);
    batch a = next(batcher), b = next(untouched);
    assert_memory_equal(&a, &b, sizeof a);
    brt_batcher_close(batcher);
    brt_batcher_close(untouched);
}

static json_t *cursor_after(const brt_dataset *dataset, brt_batcher_options options, int segments)
{
    brt_batcher *batcher = open_batcher(dataset, options);
    for (int i = 0; i < segments; i++)
        next(batcher);
    json_t *cursor = brt_batcher_cursor(batcher);
    brt_batcher_close(batcher);
    return cursor;
}

static void other_options_are_refused(void **state)
{
    (void)state;
    brt_dataset *dataset = make_dataset("various", various, various_count);
    brt_batcher_options options = stream_options(4, 16), changed = options;
    json_t *cursor = cursor_after(dataset, options, 3);
    changed.rows = 5;
    expect_refusal(dataset, changed, cursor, BRT_ERROR_MISMATCH, "run/checkpoint: the data was read with \"rows\" = 4");
    changed = options;
    changed.time = 8;
    expect_refusal(dataset, changed, cursor, BRT_ERROR_MISMATCH, "\"time\" = 16; now it is 8");
    changed = options;
    changed.seed = 6;
    expect_refusal(dataset, changed, cursor, BRT_ERROR_MISMATCH, "\"seed\" = 5; now it is 6");
    expect_refusal(dataset, crop_options(4, 16, 16), cursor, BRT_ERROR_MISMATCH,
                   "\"sampling\" = \"stream\"; now it is \"crops\"");
    changed = options;
    changed.crop_tokens = 12345; /* means nothing to a stream */
    brt_batcher *batcher = open_batcher(dataset, changed);
    assert_ok(brt_batcher_restore(batcher, cursor, "run/checkpoint"));
    brt_batcher_close(batcher);
    json_decref(cursor);
    brt_dataset_close(dataset);
}

static void other_data_is_refused(void **state)
{
    (void)state;
    size_t sizes[] = {40, 50, 60}, swapped[] = {50, 40, 60};
    brt_batcher_options options = stream_options(2, 8);
    brt_dataset *dataset = make_dataset("before", sizes, 3);
    json_t *cursor = cursor_after(dataset, options, 3);
    brt_dataset_close(dataset);

    dataset = make_dataset("moved/elsewhere", sizes, 3); /* the same names in another directory */
    brt_batcher *batcher = open_batcher(dataset, options);
    assert_ok(brt_batcher_restore(batcher, cursor, "run/checkpoint"));
    brt_batcher_close(batcher);
    brt_dataset_close(dataset);

    dataset = make_dataset("fewer", sizes, 2);
    expect_refusal(dataset, options, cursor, BRT_ERROR_MISMATCH,
                   "the run has read 3 documents of 150 tokens in all, now there are 2 of 90");
    brt_dataset_close(dataset);
    dataset = make_dataset("swapped", swapped, 3);
    expect_refusal(dataset, options, cursor, BRT_ERROR_MISMATCH, "with other names or sizes");
    brt_dataset_close(dataset);
    dataset = make_dataset("renamed", sizes, 3);
    brt_dataset_close(dataset);
    assert_int_equal(rename("renamed/02.bin", "renamed/03.bin"), 0);
    dataset = open_directory("renamed");
    expect_refusal(dataset, options, cursor, BRT_ERROR_MISMATCH, "with other names or sizes");
    brt_dataset_close(dataset);
    json_decref(cursor);
}

static void damaged_cursors_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *key, *value, *part;
    } cases[] = {
        {"taken", "-1", "\"taken\" is negative"},
        {"taken", "1.5", "\"taken\" is a real number"},
        {"readers", "3", "not a list of the 2 rows"},
        {"readers", "[[0,0,0]]", "not a list of the 2 rows"},
        {"readers", "[[0,0,40],[0,0]]", "entry 1 of \"readers\" is no place"},
        {"readers", "[[0,0,40],[3,0,1]]", "entry 1 of \"readers\" is no place"},
        {"readers", "[[0,0,41],[0,0,1]]", "entry 0 of \"readers\" is no place"},
        {"readers", "[[0,9,8],[0,0,1]]", "entry 0 of \"readers\" is no place"},
        {"readers", "[[0,-1,8],[0,0,1]]", "entry 0 of \"readers\" is no place"},
        {"readers", "[[0,\"0\",8],[0,0,1]]", "entry 0 of \"readers\" is no place"},
    };
    brt_dataset *dataset = make_dataset("damaged", (size_t[]){40, 50, 60}, 3);
    brt_batcher_options options = stream_options(2, 8);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        json_t *cursor = cursor_after(dataset, options, 3);
        json_object_set_new(cursor, cases[i].key, json_loads(cases[i].value, JSON_DECODE_ANY, NULL));
        expect_refusal(dataset, options, cursor, BRT_ERROR_FORMAT, cases[i].part);
        json_decref(cursor);
    }
    expect_refusal(dataset, options, NULL, BRT_ERROR_FORMAT, "run/checkpoint does not tell where in the data");
    brt_dataset_close(dataset);
}

/* ---- too little -------------------------------------------------------------------------------------------- */

static void expect_open_failure(const brt_dataset *dataset, brt_batcher_options options, brt_status status,
                                const char *part)
{
    brt_batcher *batcher = (brt_batcher *)&options;
    expect_failure(brt_batcher_open(&batcher, dataset, &options), status, part);
    assert_null(batcher);
}

static void too_little_data_is_told_with_numbers(void **state)
{
    (void)state;
    brt_dataset *dataset = make_dataset("little", (size_t[]){5, 8}, 2);
    expect_open_failure(dataset, stream_options(2, 13), BRT_ERROR_DATA,
                        "the data has 13 tokens in all; one segment takes 14");
    brt_batcher_close(open_batcher(dataset, stream_options(2, 12)));
    expect_open_failure(dataset, crop_options(2, 4, 8), BRT_ERROR_DATA,
                        "the longest document has 8 tokens; a crop takes 9");
    brt_batcher_close(open_batcher(dataset, crop_options(2, 7, 7)));
    brt_dataset_close(dataset);
    dataset = make_dataset("singles", (size_t[]){1, 1, 1, 1}, 4);
    expect_open_failure(dataset, stream_options(2, 2), BRT_ERROR_DATA, "each of the 4 documents has a single token");
    brt_dataset_close(dataset);
}

static void wrong_options_are_named(void **state)
{
    (void)state;
    brt_dataset *dataset = make_dataset("various", various, various_count);
    brt_batcher_options options = stream_options(2, 8);
    options.sampling = "random";
    expect_open_failure(dataset, options, BRT_ERROR_ARGUMENT, "no sampling \"random\"");
    expect_open_failure(dataset, stream_options(0, 8), BRT_ERROR_ARGUMENT, "a batch has 0 rows of 8 tokens");
    expect_open_failure(dataset, stream_options(2, 0), BRT_ERROR_ARGUMENT, "a batch has 2 rows of 0 tokens");
    expect_open_failure(dataset, crop_options(2, 8, 20), BRT_ERROR_ARGUMENT, "crops have 20 tokens; a multiple of");
    expect_open_failure(dataset, crop_options(2, 8, 0), BRT_ERROR_ARGUMENT, "crops have 0 tokens; a multiple of");
    brt_dataset_close(dataset);
    brt_batcher_close(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(long_documents_are_cut_evenly),
        cmocka_unit_test(every_epoch_has_its_own_order),
        cmocka_unit_test(rows_read_on_from_segment_to_segment),
        cmocka_unit_test(every_token_is_a_target_once_per_epoch),
        cmocka_unit_test(one_file_feeds_every_row),
        cmocka_unit_test(the_end_of_a_piece_is_padded),
        cmocka_unit_test(crops_are_windows_inside_documents),
        cmocka_unit_test(every_start_is_equally_likely),
        cmocka_unit_test(crops_depend_on_the_seed),
        cmocka_unit_test(a_stream_resumes_at_every_segment),
        cmocka_unit_test(crops_resume_at_every_segment),
        cmocka_unit_test(other_options_are_refused),
        cmocka_unit_test(other_data_is_refused),
        cmocka_unit_test(damaged_cursors_are_refused),
        cmocka_unit_test(too_little_data_is_told_with_numbers),
        cmocka_unit_test(wrong_options_are_named),
    };
    return cmocka_run_group_tests_name("batcher", tests, enter_scratch, leave_scratch);
}
